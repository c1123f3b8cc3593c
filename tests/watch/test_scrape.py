"""Reading a metrics page over the network, from servers that do not behave."""

import contextlib
import socket
import threading
import time

import pytest

from enginebench.metrics import metrics_page
from enginebench.watch import scrape

NAMES = {"requests_running": ("run",), "requests_waiting": ("wait",)}


@pytest.fixture
def serve():
    """Starts a server that answers every connection with the same bytes; gives its URL."""
    listeners = []

    def start(answer, closes=True, again=None):
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def work():
            held = []
            with contextlib.suppress(OSError):  # the test is over
                while True:
                    connection, _ = listener.accept()
                    held.append(connection)
                    connection.recv(65536)
                    connection.sendall(answer)
                    while again is not None:
                        connection.sendall(again)
                        time.sleep(0.01)
                    if closes:
                        connection.close()
            for connection in held:
                connection.close()

        threading.Thread(target=work, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/metrics"

    yield start
    for listener in listeners:
        listener.close()


def scraped(url):
    with scrape.local_session() as session:
        return scrape.scrape(session, url)


def metrics(row):
    return metrics_page.read(row["status"], row["text"], NAMES)


def page(status, body, length=None):
    length = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}".encode()


def test_a_page_is_kept_as_it_was_with_its_time(serve):
    row = scraped(serve(page("200 OK", "run 2\nwait 1\n")))
    assert (row["status"], row["text"], row["error"]) == (200, "run 2\nwait 1\n", None)
    assert row["took_s"] >= 0
    assert metrics(row) == {
        "requests_running": 2,
        "requests_waiting": 1,
    }


def test_an_endpoint_that_hangs_is_given_up_and_said(serve, monkeypatch):
    monkeypatch.setattr(scrape, "TIMEOUT_S", 0.2)
    row = scraped(serve(b"HTTP/1.1 200 OK\r\n", closes=False))
    assert row["text"] is None and "Timeout" in row["error"]
    assert metrics(row) == dict.fromkeys(NAMES)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (page("404 Not Found", "no such page"), None),
        (page("200 OK", "run 2\nwa", length=500), "ProtocolError: "),  # cut off on the way
        (b"", "ConnectionError: "),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "ConnectionError: "),
    ],
)
def test_an_endpoint_that_gives_no_page_measures_nothing(serve, answer, error):
    row = scraped(serve(answer))
    if error is None:
        assert (row["status"], row["text"], row["error"]) == (404, "no such page", None)
    else:
        assert row["error"].startswith(error)
        assert (row["status"], row["text"]) == (None, None)
    assert metrics(row) == dict.fromkeys(NAMES)


def test_half_a_line_at_the_end_hides_nothing_before_it(serve):
    row = scraped(serve(page("200 OK", 'run 2\nwait{x="1')))
    assert metrics(row) == {
        "requests_running": 2,
        "requests_waiting": None,
    }


@pytest.mark.parametrize(
    ("bounds", "error"),
    [
        ({"MOST_PAGE_BYTES": 1 << 20}, "the page is larger than 1 MiB"),
        ({"TIMEOUT_S": 0.2}, "the page did not end within 0.2 s"),
    ],
)
def test_an_endless_page_is_given_up(serve, monkeypatch, bounds, error):
    for name, value in bounds.items():
        monkeypatch.setattr(scrape, name, value)
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    row = scraped(serve(head, again=b"x" * (1 << 17 if "MOST_PAGE_BYTES" in bounds else 1)))
    assert row["error"].endswith(error)
    assert (row["status"], row["text"]) == (None, None)

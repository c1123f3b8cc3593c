"""Reading a metrics page over the network, from servers that do not behave."""

import socket
import threading

import pytest

from enginebench.metrics import metrics_page
from enginebench.watch import scrape

NAMES = {"requests_running": ("run",), "requests_waiting": ("wait",)}


@pytest.fixture
def serve():
    """Starts a server that answers every connection with the same bytes; gives its URL."""
    listeners = []

    def start(answer, closes=True):
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def work():
            held = []
            try:
                while True:
                    connection, _ = listener.accept()
                    connection.recv(65536)
                    connection.sendall(answer)
                    if closes:
                        connection.close()
                    held.append(connection)
            except OSError:
                pass  # the test is over

        threading.Thread(target=work, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/metrics"

    yield start
    for listener in listeners:
        listener.close()


def scraped(url):
    return scrape.scrape(url)


def page(status, body, length=None):
    length = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}".encode()


def test_a_page_is_kept_as_it_was_with_its_time(serve):
    row = scraped(serve(page("200 OK", "run 2\nwait 1\n")))
    assert (row.status, row.text, row.error) == (200, "run 2\nwait 1\n", None)
    assert row.took_s >= 0
    assert metrics_page.read(row.status, row.text, NAMES) == {
        "requests_running": 2,
        "requests_waiting": 1,
    }


def test_an_endpoint_that_hangs_is_given_up_and_said(serve, monkeypatch):
    monkeypatch.setattr(scrape, "TIMEOUT_S", 0.2)
    row = scraped(serve(b"HTTP/1.1 200 OK\r\n", closes=False))
    assert row.text is None and "Timeout" in row.error
    assert metrics_page.read(row.status, row.text, NAMES) == dict.fromkeys(NAMES)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (page("404 Not Found", "no such page"), (404, "no such page", None)),
        (page("200 OK", "run 2\nwa", length=500), (200, None, "Cut: 8 of 500 bytes came")),
    ],
)
def test_an_endpoint_that_gives_no_page_measures_nothing(serve, answer, expected):
    row = scraped(serve(answer))
    assert (row.status, row.text, row.error) == expected
    assert metrics_page.read(row.status, row.text, NAMES) == dict.fromkeys(NAMES)


def test_half_a_line_at_the_end_hides_nothing_before_it(serve):
    row = scraped(serve(page("200 OK", 'run 2\nwait{x="1')))
    assert metrics_page.read(row.status, row.text, NAMES) == {
        "requests_running": 2,
        "requests_waiting": None,
    }

"""Pages of servers that answer slowly, endlessly, elsewhere, or not in HTTP at all."""

import gzip
import socket
import threading
import time
import tracemalloc
import zlib

import pytest

from enginebench.engines import http_page


@pytest.fixture
def serve():
    """Starts a server that gives every connection to a function; its address and URL."""
    listeners = []

    def start(answer):
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def work():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return  # the test is over
                with connection:
                    try:
                        connection.recv(65536)
                        answer(connection)
                    except OSError:
                        continue  # the client has gone

        threading.Thread(target=work, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/page?x=1"

    yield start
    for listener in listeners:
        listener.close()


def head(status="200 OK", **fields):
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


def answers(body, status="200 OK", **fields):
    content = head(status, Content_Length=len(body), **fields) + body
    return lambda connection: connection.sendall(content)


def test_a_page_is_its_status_and_its_body(serve):
    page = http_page.fetch(serve(answers(b"run 2\n")), 5)
    assert (page.status, page.text, page.error, page.is_good) == (200, "run 2\n", None, True)
    page = http_page.fetch(serve(answers(b"no such page", "404 Not Found")), 5)
    assert (page.status, page.text, page.error, page.is_good) == (404, "no such page", None, False)


@pytest.mark.parametrize("where", ["head", "body"])
def test_a_server_that_drips_is_given_up_at_the_deadline_of_the_whole_answer(serve, where):
    def drip(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\n" if where == "head" else head(Content_Length=999))
        for _ in range(100):
            connection.sendall(b"x")
            time.sleep(0.05)

    page = http_page.fetch(serve(drip), 0.3)
    assert page.error == "Timeout: no whole answer within 0.3 s"
    assert (page.body, page.status) == (None, None if where == "head" else 200)


@pytest.mark.parametrize("status", ["301 Moved Permanently", "302 Found", "308 Permanent"])
def test_a_redirect_is_not_followed(serve, status):
    asked = []
    other = serve(asked.append)
    page = http_page.fetch(serve(answers(b"", status, Location=other)), 5)
    assert page.error == f"HTTP {status[:3]}: a redirect, which is not followed"
    assert not page.is_good and asked == []


def test_an_endless_page_is_cut_off(serve):
    def flood(connection):
        connection.sendall(head())
        while True:
            connection.sendall(b"x" * 65536)

    assert http_page.fetch(serve(flood), 5, 1 << 20).error == "TooLarge: more than 1 MiB"


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_bomb_is_not_unpacked_beyond_the_limit(serve, coding):
    packed = (gzip.compress if coding == "gzip" else zlib.compress)(bytes(256 << 20))
    tracemalloc.start()
    page = http_page.fetch(serve(answers(packed, Content_Encoding=coding)), 20, 1 << 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert page.error == "TooLarge: more than 1 MiB"
    assert peak < 16 << 20


def test_a_compressed_page_of_proper_size_is_unpacked(serve):
    packed = gzip.compress(b"run 2\n")
    assert http_page.fetch(serve(answers(packed, Content_Encoding="gzip")), 5).text == "run 2\n"
    cut = http_page.fetch(serve(answers(packed[:-9], Content_Encoding="gzip")), 5)
    assert cut.error == "Cut: its compressed bytes end too early"


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "RemoteDisconnected: "),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "BadStatusLine: "),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nrun", "Cut: 3 of 500 bytes"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "IncompleteRead"),
        (head(Content_Length=4, Content_Encoding="br") + b"abcd", "Encoding: 'br'"),
        (head(Content_Length=4, Content_Encoding="gzip") + b"abcd", "error: "),
        (b"HTTP/1.1 200 OK\r\n" + b"a: " + b"x" * 100_000 + b"\r\n\r\n", "LineTooLong: "),
    ],
)
def test_what_is_no_page_is_a_failure_in_words(serve, content, error):
    page = http_page.fetch(serve(lambda connection: connection.sendall(content)), 5)
    assert page.body is None and page.error.startswith(error), page
    assert "\n" not in page.error


def test_nobody_there_and_a_name_that_is_none_are_failures_in_words(serve):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert http_page.fetch(f"http://127.0.0.1:{port}/", 5).error.startswith(
        "ConnectionRefusedError"
    )
    assert http_page.fetch("http://[::1/", 5).error.startswith("ValueError: ")
    assert http_page.fetch("http://127.0.0.1:99999/", 5).error.startswith("ValueError: ")


def test_no_proxy_is_asked(serve, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert http_page.fetch(serve(answers(b"ok")), 5).text == "ok"

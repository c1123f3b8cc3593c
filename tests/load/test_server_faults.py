"""Everything a server can do wrong, in a stream or before it: each recorded with its kind."""

import socket
import threading
from collections import Counter

import driving
import pytest
from driving import free_port

from enginebench.engines.address import Address
from enginebench.load import calibrate, client, connection, event_loop, http1, spec
from enginebench.load.script import Script

pytestmark = pytest.mark.serial  # times are measured

TOKENS = 6
QUICK = {"first_s": 0.001, "pace_s": 0.0002}


def play(script, count=40, streams=8, timeout_s=20.0):
    """The records of so many requests to a server that plays a script."""
    return driving.play(count, streams, script, tokens=TOKENS, timeout_s=timeout_s)[1]


def kinds(records):
    return Counter(record.error_kind for record in records)


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        ("every_cut", "cut", "the engine closed the connection before the end"),
        ("every_early", "incomplete", "the stream ended without a finish reason"),
        ("every_http_error", "http", "HTTP 500: no memory"),
        ("every_engine_error", "engine", "the engine reported: out of blocks"),
        ("every_trailing", "trailing", "an event after the end of the stream"),
        ("every_overrun", "trailing", "bytes after the end of the answer: b'and more'"),
    ],
)
def test_one_bad_answer_in_twenty_is_recorded_with_its_kind_and_the_others_count(fault, kind, says):
    records = play(Script(**QUICK, **{fault: 20}), count=100)
    assert kinds(records) == {None: 95, kind: 5}
    for record in records:
        if record.error is None:
            assert (record.output_tokens, record.finish_reason) == (TOKENS, "length")
        else:
            assert record.error.startswith(says)


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
@pytest.mark.parametrize(
    "more", [{}, {"head_bytes": 60_000}, {"tokens_per_event": 4}], ids=["plain", "head", "four"]
)
def test_every_framing_ends_a_response(framing, more):
    records = play(Script(**QUICK, framing=framing, **more))
    assert kinds(records) == {None: 40}
    assert {record.output_tokens for record in records} == {TOKENS}
    assert {record.text for record in records} == {" tok" * TOKENS}


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
def test_a_server_that_sends_one_byte_at_a_time_is_read_the_same(framing):
    records = play(Script(first_s=0.0, pace_s=0.0, bytewise=True, framing=framing), 4, 2)
    assert kinds(records) == {None: 4}
    assert [record.event_tokens for record in records] == [[1] * TOKENS] * 4


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
@pytest.mark.parametrize("fault", ["every_cut", "every_early", "every_engine_error"])
def test_a_fault_in_any_framing_is_no_success(framing, fault):
    records = play(Script(**QUICK, framing=framing, **{fault: 2}), count=20)
    assert kinds(records)[None] == 10


def test_ten_thousand_refused_connections_are_ten_thousand_records():
    address = Address("127.0.0.1", free_port())
    requests = [http1.post(address, "/", {}, f"{index}") for index in range(10_000)]
    with client.run(spec.LoadSpec(address, requests, 64)) as result:
        records = calibrate.records_of(result, TOKENS)
    assert kinds(records) == {"refused": 10_000}
    assert all(record.sent_s is None for record in records)


def test_a_server_that_stalls_beyond_the_timeout_is_given_up():
    slow = Script(**QUICK, stall_every=3, stall_s=3)
    records = play(slow, count=4, streams=2, timeout_s=0.5)
    assert kinds(records) == {"timeout": 4}
    assert {len(record.event_s) for record in records} == {3}


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "head",
    [
        CHUNKED,
        OK + b"Content-Length: 999999999999\r\n\r\n",
        OK + b"\r\n",
    ],
    ids=["chunked", "length", "close"],
)
def test_an_endless_answer_is_ended_at_the_limit_and_its_connection_closed(head, monkeypatch):
    monkeypatch.setattr(event_loop, "MOST_ANSWER_BYTES", 1 << 20)
    closed = []

    def serve():
        peer, _ = listener.accept()
        with peer:
            peer.recv(65536)
            peer.sendall(head)
            try:
                while True:  # endless: only the client's close ends it
                    peer.sendall(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
            except OSError:
                closed.append(True)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        address = Address("127.0.0.1", listener.getsockname()[1])
        request = http1.post(address, "/", {}, "r")
        (exchange,) = client.run_closed_loop(address, [request], 1, 20)
        thread.join(10)
    assert closed == [True]
    assert (exchange.kind, exchange.fault) == ("protocol", "the answer is larger than 1 MiB")
    # One read more than the limit is the most that is held.
    assert len(exchange.kept) <= (1 << 20) + connection.READ_BYTES


def test_an_answer_in_tiny_pieces_is_bounded_too(monkeypatch):
    # 24 bytes in pieces of one byte are 24 + 24 × 16 = 408 bytes with their stamps.
    monkeypatch.setattr(event_loop, "MOST_ANSWER_BYTES", 400)
    script = Script(first_s=0.0, pace_s=0.002, bytewise=True, framing="close")
    records = play(script, 1, 1)
    assert kinds(records) == {"protocol": 1}


@pytest.mark.parametrize("bytewise", [False, True])
def test_a_load_may_allow_less_and_of_a_larger_answer_only_the_beginning_is_kept(
    monkeypatch, bytewise
):
    monkeypatch.setattr(event_loop, "KEPT_BYTES", 1 << 10)
    script = Script(first_s=0.0, pace_s=0.0, bytewise=bytewise, head_bytes=3000)
    with calibrate.serving(script) as server:
        request = http1.post(server.address, "/v1/completions", {"max_tokens": 4}, "r")
        load = spec.LoadSpec(server.address, [request], 1, most_answer_bytes=2048)
        with client.run(load) as result:
            (exchange,) = result.exchanges
            raw = exchange.raw()
    assert (exchange.kind, exchange.fault) == ("protocol", "the answer is larger than 0.00195 MiB")
    assert raw.startswith(b"HTTP/1.1 200 OK\r\n")
    assert 0 < len(raw) <= 1024 + connection.READ_BYTES
    assert len(raw) == sum(exchange.sizes)
    assert len(exchange.sizes) == len(exchange.arrival_s) == len(exchange.read_s)


def test_the_limit_of_an_answer_is_far_above_what_engines_send():
    # An event with usage, an id and two log-probabilities is some 500 bytes.
    assert spec.answer_limit(100_000, 1) > 100_000 * 8 + 500
    assert spec.answer_limit(1, 100_000) > 100_000 * 500 * 8

"""Shapes of load, TLS, tokens, and several processes, against real servers."""

import multiprocessing
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter

import pytest
from driving import DIALECT, drive, read
from fake_server import FakeServer

from enginebench.base.errors import UserError
from enginebench.engines.address import Address
from enginebench.engines.dialect import Ask
from enginebench.load import calibrate, client_stats, event_loop, http1, spec, workers
from enginebench.load.scripted_server import Script

TOKENS = 4
QUICK = Script(first_s=0.002, pace_s=0.001)


def play(count, streams, script=QUICK, processes=1, **more):
    """A load on the scripted server: what was taken, its records, the server's account."""
    with calibrate.serving(script) as server:
        requests = [
            http1.post(server.address, "/v1/completions", {"max_tokens": TOKENS}, f"{index}")
            for index in range(count)
        ]
        sent = spec.Load(server.address, requests, streams, timeout_s=20, **more)
        with workers.run(sent, processes) as taken:
            records = calibrate.records_of(taken, TOKENS)
            own = client_stats.figures(taken)
        return taken, records, server.stop(), own


def in_flight(records):
    """The most requests in flight at once."""
    steps = sorted([(r.sent_s, 1) for r in records] + [(r.end_s, -1) for r in records])
    most = now = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most


def test_an_open_loop_sends_when_requests_are_due_whatever_is_in_flight():
    due = [0.0, 0.0, 0.0, 0.05, 0.1]
    slow = Script(first_s=0.5, pace_s=0.001)
    taken, records, _, own = play(5, 5, slow, due_s=due)
    planned = [r.planned_s - taken.own[0].started_s for r in records]
    assert planned == pytest.approx(due)
    assert all(r.error is None and r.planned_s <= r.sent_s for r in records)
    assert in_flight(records) == 5
    assert own["streams"] == 5


def test_with_a_cap_what_is_due_waits_and_both_times_are_kept():
    slow = Script(first_s=0.05, pace_s=0.001)
    _, records, _, own = play(6, 2, slow, due_s=[0.0] * 6)
    assert in_flight(records) == 2
    assert {r.error for r in records} == {None}
    waits = sorted(r.sent_s - r.planned_s for r in records)
    assert waits[-1] > 2 * 0.05  # behind two others
    # The wait for the cap is a part of the load, not a lateness of the client.
    assert own["send_late_s_p50"] < 0.05


def test_a_ramp_starts_the_streams_one_after_another():
    _, records, _, _ = play(4, 4, Script(first_s=0.3), ramp_s=0.2)
    first = min(r.planned_s for r in records)
    assert sorted(r.planned_s - first for r in records) == pytest.approx([0, 0.05, 0.1, 0.15])
    assert all(r.planned_s <= r.sent_s for r in records)


def test_a_cancelled_request_is_told_by_closing_its_stream_and_the_others_go_on():
    slow = Script(first_s=0.01, pace_s=0.1)
    _, records, served, _ = play(4, 2, slow, cancel_after_s={1: 0.05})
    assert [r.error_kind for r in records] == [None, "cancelled", None, None]
    assert records[1].error == "cancelled after 0.05 s, as planned"
    assert len(records[1].event_s) < TOKENS
    gone = {account.request_id: account.end_s for account in served}
    assert gone["1"] is None  # the server found the stream closed
    assert None not in (gone["0"], gone["2"], gone["3"])


def test_a_connection_that_slept_is_opened_anew(monkeypatch):
    monkeypatch.setattr(event_loop, "IDLE_LIMIT_S", 0.4)
    taken, records, _, own = play(3, 1, due_s=[0.0, 0.02, 1.0])
    assert [r.error for r in records] == [None] * 3
    assert own["connections"] == 2
    assert len(taken.exchanges) == 3


def test_a_request_beyond_the_kernels_buffer_is_sent_in_parts():
    with FakeServer() as server:
        address = Address("127.0.0.1", server.port)
        big = {"prompt": [1] * 3_000_000}
        requests = [http1.post(address, "/v1/completions", big, f"r{k}") for k in range(2)]
        found = event_loop.run_closed_loop(address, requests, 2, 20)
    assert [read(took).text for took in found] == ["r0.1 r0.2 r0.3 ", "r1.1 r1.2 r1.3 "]


@pytest.mark.parametrize("due_s", [None, [k * 0.001 for k in range(40)]], ids=["closed", "open"])
def test_several_processes_share_the_load_and_their_results_are_one(due_s):
    taken, records, served, own = play(40, 8, processes=2, due_s=due_s)
    assert [r.index for r in records] == list(range(40))
    assert {r.error for r in records} == {None}
    assert {r.text for r in records} == {" tok" * TOKENS}
    assert Counter(s.request_id for s in served) == Counter(f"{k}" for k in range(40))
    assert (own["processes"], own["streams"], len(taken.own)) == (2, 8, 2)
    assert in_flight(records) <= 8
    starts = {found.started_s for found in taken.own}
    assert len(starts) == 1  # one moment for all


def test_processes_that_cannot_connect_still_give_every_request_its_record():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = Address("127.0.0.1", port)
    requests = [http1.post(address, "/", {}, f"{k}") for k in range(10)]
    live = spec.Live()
    with workers.run(spec.Load(address, requests, 4), 2, live) as taken:
        assert Counter(e.kind for e in taken.exchanges) == {"refused": 10}
    assert live.requests_done == 10


def test_once_the_engine_is_lost_the_processes_give_up_what_is_left():
    address = Address("127.0.0.1", 9)  # nobody listens there
    requests = [http1.post(address, "/", {}, f"{k}") for k in range(20_000)]
    with workers.run(spec.Load(address, requests, 2), 2, lost=lambda: "it is gone") as taken:
        kinds = Counter(e.kind for e in taken.exchanges)
    assert set(kinds) <= {"refused", "not sent"}
    assert sum(kinds.values()) == 20_000


def test_a_process_of_the_load_generator_that_is_killed_ends_the_load_in_one_line():
    def kill_one():
        while not (children := multiprocessing.active_children()):
            time.sleep(0.01)
        children[0].kill()

    killer = threading.Thread(target=kill_one)
    killer.start()
    with FakeServer("silent") as server:
        address = Address("127.0.0.1", server.port)
        requests = [http1.post(address, "/", {}, f"{k}") for k in range(4)]
        sent = spec.Load(address, requests, 4, timeout_s=20)
        words = r"expected the results of 2 processes, found that one"
        with pytest.raises(UserError, match=words), workers.run(sent, 2):
            pass
    killer.join()
    assert multiprocessing.active_children() == []


def test_shares_of_a_load_are_whole_and_apart():
    sent = spec.Load(
        Address("h", 1), [b"a", b"b", b"c", b"d", b"e"], 3, range(5), cancel_after_s={3: 9}
    )
    one, two = workers.split(sent, 2)
    assert (one.requests, two.requests) == ([b"a", b"c", b"e"], [b"b", b"d"])
    assert (one.streams, two.streams) == (2, 1)
    assert (one.due_s, two.due_s) == ([0, 2, 4], [1, 3])
    assert (one.cancel_after_s, two.cancel_after_s) == ({}, {1: 9})


def test_a_bearer_token_is_sent_and_shown_nowhere():
    address = Address("127.0.0.1", 80, token="secret-x7Kq")
    assert b"\r\nAuthorization: Bearer secret-x7Kq\r\n" in http1.post(address, "/", {}, "r")
    sent = spec.Load(address, [], 1)
    assert "secret" not in f"{address}{address!r}{sent!r}"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [
            *[
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=localhost",
            ],
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


class TlsFront:
    """Terminates TLS in front of a plain server, one thread a direction."""

    def __init__(self, certificate, port):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*certificate)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port, self.behind = self.listener.getsockname()[1], port
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                plain, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(plain,), daemon=True).start()

    def serve(self, plain):
        try:
            front = self.context.wrap_socket(plain, server_side=True)
        except OSError:
            plain.close()
            return
        back = socket.create_connection(("127.0.0.1", self.behind))
        threading.Thread(target=self.pump, args=(front, back), daemon=True).start()
        self.pump(back, front)

    @staticmethod
    def pump(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)  # wakes the other direction's thread
        except OSError:
            pass
        finally:
            for end in (source, target):
                end.close()


def test_https_is_spoken_and_an_unknown_certificate_is_refused(certificate):
    with FakeServer() as server:
        front = TlsFront(certificate, server.port)
        trusted = Address("127.0.0.1", front.port, tls=True, ca_file=str(certificate[0]))
        ask = Ask((1, 2, 3, 4, 5), "five tokens", 3)
        requests = [
            http1.post(trusted, DIALECT.generate_path, DIALECT.body(ask), f"r{k}") for k in range(6)
        ]
        found = event_loop.run_closed_loop(trusted, requests, 2, 10)
        assert [read(took).error for took in found] == [None] * 6
        assert [read(took).text for took in found] == [f"r{k}.1 r{k}.2 r{k}.3 " for k in range(6)]

        unknown = Address("127.0.0.1", front.port, tls=True)
        found = event_loop.run_closed_loop(unknown, requests[:2], 1, 10)
        assert {took.kind for took in found} == {"refused"}
        assert all("certificate" in took.fault.lower() for took in found)
        front.listener.close()


def test_arrivals_are_stamped_before_they_are_read():
    with FakeServer() as server:
        found = drive(server.port, 6, 2)
    for took in found:
        assert len(took.arrival_s) == len(took.read_s) == len(took.sizes)
        assert all(a <= r for a, r in zip(took.arrival_s, took.read_s, strict=True))
        assert took.sent_s <= took.arrival_s[0]


def test_bytes_that_wait_in_the_kernel_keep_the_time_of_their_arrival():
    """A client that sleeps while an answer comes must not stamp it when it wakes up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        sent_at = []

        def serve():
            peer, _ = listener.accept()
            peer.recv(65536)
            time.sleep(0.05)
            sent_at.append(time.perf_counter())
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            time.sleep(1.0)  # a close that is joined to the answer would have the later stamp
            peer.close()

        thread = threading.Thread(target=serve)
        thread.start()
        address = Address("127.0.0.1", port)
        ticks = []

        def sleep_once():
            if not ticks:
                ticks.append(time.sleep(0.5))

        sent = spec.Load(address, [http1.post(address, "/", {}, "r")], 1)
        with event_loop.run(sent, on_tick=sleep_once) as taken:
            (took,) = taken.exchanges
            own = client_stats.figures(taken)
        thread.join()
    if own["stamps"] != "kernel":
        pytest.skip("no receive timestamps here")
    assert took.arrival_s[0] - sent_at[0] < 0.1 < took.read_s[0] - sent_at[0]
    assert own["lag_s_max"] > 0.1  # and the lag says that the client slept
    assert own["receive_late_s_max"] > 0.1

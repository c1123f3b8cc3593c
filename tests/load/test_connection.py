"""Connections: TLS, tokens, large requests, and who stamps an arrival."""

import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest
from driving import DIALECT, drive, play, read
from fake_server import FakeServer

from enginebench.engines.address import Address
from enginebench.engines.dialect import GenerationRequest
from enginebench.load import client, client_stats, event_loop, http1, spec

pytestmark = pytest.mark.serial  # times are measured


def test_a_connection_that_slept_is_opened_anew(monkeypatch):
    monkeypatch.setattr(event_loop, "IDLE_LIMIT_S", 0.4)
    result, records, _, stats = play(3, 1, due_s=[0.0, 0.02, 1.0])
    assert [r.error for r in records] == [None] * 3
    assert stats.connections == 2
    assert len(result.exchanges) == 3


def test_a_request_beyond_the_kernels_buffer_is_sent_in_parts():
    with FakeServer() as server:
        address = Address("127.0.0.1", server.port)
        big = {"prompt": [1] * 3_000_000}
        requests = [http1.post(address, "/v1/completions", big, f"r{k}") for k in range(2)]
        found = client.run_closed_loop(address, requests, 2, 20)
    assert [read(took).text for took in found] == ["r0.1 r0.2 r0.3 ", "r1.1 r1.2 r1.3 "]


def test_a_bearer_token_is_sent_and_shown_nowhere():
    address = Address("127.0.0.1", 80, token="secret-x7Kq")
    assert b"\r\nAuthorization: Bearer secret-x7Kq\r\n" in http1.post(address, "/", {}, "r")
    sent = spec.LoadSpec(address, [], 1)
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
        ask = GenerationRequest((1, 2, 3, 4, 5), "five tokens", 3)
        requests = [
            http1.post(trusted, DIALECT.generate_path, DIALECT.body(ask), f"r{k}") for k in range(6)
        ]
        found = client.run_closed_loop(trusted, requests, 2, 10)
        assert [read(took).error for took in found] == [None] * 6
        assert [read(took).text for took in found] == [f"r{k}.1 r{k}.2 r{k}.3 " for k in range(6)]

        unknown = Address("127.0.0.1", front.port, tls=True)
        found = client.run_closed_loop(unknown, requests[:2], 1, 10)
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

        sent = spec.LoadSpec(address, [http1.post(address, "/", {}, "r")], 1)
        with client.run(sent, on_tick=sleep_once) as result:
            (took,) = result.exchanges
            stats = client_stats.figures(result)
        thread.join()
    if stats.stamps != "kernel":
        pytest.skip("no receive timestamps here")
    assert took.arrival_s[0] - sent_at[0] < 0.1 < took.read_s[0] - sent_at[0]
    assert stats.lag_s_max > 0.1  # and the lag says that the client slept
    assert stats.receive_late_s_max > 0.1

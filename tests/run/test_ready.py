"""Whether a started engine is ready: what its health page and its first generation answer."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from project import ENGINE

from enginebench.base.errors import EngineError
from enginebench.engines.address import Address
from enginebench.engines.dialect import GenerationRequest
from enginebench.engines.directory import Engine, _load_dialect
from enginebench.launch.log_file import LogFile
from enginebench.launch.server import Server, StartFacts, StopFacts
from enginebench.run import ready
from enginebench.run.study_run import _version

EVENT = {
    "choices": [{"text": " a", "finish_reason": "length"}],
    "usage": {"prompt_tokens": 2, "completion_tokens": 1},
}
GOOD = f"data: {json.dumps(EVENT)}\n\ndata: [DONE]\n\n".encode()


@pytest.fixture
def server(tmp_path, monkeypatch):
    """An engine whose answers are ``server.pages`` and, one after another, ``server.statuses``."""
    monkeypatch.setattr(ready, "POLL_S", 0.01)

    class Handler(BaseHTTPRequestHandler):
        pages = {"/health": (200, b"{}", {})}  # noqa: RUF012
        statuses = [200]  # noqa: RUF012

        def log_message(self, *_):
            pass

        def do_GET(self):
            self.answer(*self.pages.get(self.path, (404, b"", {})))

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
            self.answer(status, GOOD if status == 200 else b"busy", {})

        def answer(self, status, body, fields):
            self.send_response(status)
            for name, value in (fields | {"Content-Length": len(body)}).items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(body)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    engine = Engine("double", tmp_path, _load_dialect(ENGINE.parent), None, (), {})
    found = Server(
        engine,
        Address("127.0.0.1", http.server_port),
        None,
        LogFile(tmp_path / "server.log"),
        time.perf_counter(),
        lambda: None,
        lambda _: StopFacts(),
        StartFacts(command=[], env={}, inherited_env={}),
    )
    yield found, Handler
    http.shutdown()
    http.server_close()


ASK = GenerationRequest((1, 2), "ab", 1)


def test_an_engine_that_is_busy_at_first_is_asked_again(server):
    engine, answers = server
    answers.statuses = [429, 429, 503, 200]
    assert ready.wait_ready(engine, ASK, 30) > 0
    assert answers.statuses == [200]


@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_an_engine_that_refuses_the_request_is_given_up_at_once(server, status):
    engine, answers = server
    answers.statuses = [status]
    with pytest.raises(EngineError, match=f"refused the study's first request .HTTP {status}"):
        ready.wait_ready(engine, ASK, 30)


def test_a_health_page_that_sends_elsewhere_is_no_healthy_engine(server):
    engine, answers = server
    answers.pages = {
        "/health": (301, b"", {"Location": f"{engine.url}/other"}),
        "/other": (200, b"{}", {}),
    }
    with pytest.raises(EngineError, match="HTTP 301: a redirect, which is not followed from /heal"):
        ready.wait_ready(engine, ASK, 2)


@pytest.mark.parametrize(
    ("page", "version"),
    [
        ((200, b'{"version": "1.2"}', {}), {"version": "1.2"}),
        ((200, b'{"version": NaN}', {}), None),
        ((200, b'{"version": "\\ud800"}', {}), None),
        ((200, b"[" * 40 + b"]" * 40, {}), None),
        ((200, b'"' + b"x" * 70_000 + b'"', {}), None),
        ((200, b"<html>", {}), None),
        ((302, b"", {"Location": "/health"}), None),
        ((500, b"{}", {}), None),
    ],
)
def test_a_version_is_what_a_record_can_hold_or_not_known(server, page, version):
    engine, answers = server
    answers.pages = {engine.engine.dialect.version_path: page}
    assert _version(engine) == version

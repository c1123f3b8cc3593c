"""Whether a started engine is ready: its health page answers, and it generates."""

import time

import requests

from enginebench.base.errors import EngineError
from enginebench.engines.dialect import GenerationRequest
from enginebench.launch.server import Server
from enginebench.load import client, request_record
from enginebench.load.http1 import post
from enginebench.watch.scrape import local_session

POLL_S = 0.25


def wait_ready(server: Server, request: GenerationRequest, deadline_s: float) -> float:
    """Wait for a 200 from the health path and one real generation; return seconds since start.

    Raises:
        EngineError: the engine ended, the deadline passed, or it refused the request; with the
            last lines of its log.
    """
    name, dialect = server.engine.name, server.engine.dialect
    last = "no answer yet"
    session = local_session()
    while (left_s := server.started_s + deadline_s - time.perf_counter()) > 0:
        if (death := server.death()) is not None:
            raise EngineError(
                f"{name}: {death} before it was ready; the end of its log:", server.log_tail()
            )
        try:
            answer = session.get(server.url + dialect.health_path, timeout=min(5, left_s))
            last = f"HTTP {answer.status_code} from {dialect.health_path}"
            if answer.status_code == 200:
                first = _first_generation(server, request, left_s)
                if first.error is None:
                    return time.perf_counter() - server.started_s
                last = f"a first generation failed: {first.error}"
                if first.status is not None and 400 <= first.status < 500:
                    raise EngineError(
                        f"{name}: it refused the study's first request ({first.error}); "
                        "correct the study or the engine's settings; the end of its log:",
                        server.log_tail(),
                    )
        except requests.RequestException as error:
            last = f"{type(error).__name__} at {server.url}{dialect.health_path}"
        time.sleep(POLL_S)
    raise EngineError(
        f"{name}: not ready within {deadline_s:g} s (ready_timeout_s); last answer: {last}; "
        "the end of its log:",
        server.log_tail(),
    )


def _first_generation(
    server: Server, request: GenerationRequest, timeout_s: float
) -> request_record.RequestRecord:
    """Generate once, outside everything that is measured."""
    dialect = server.engine.dialect
    content = post(server.address, dialect.generate_path, dialect.body(request), "ready")
    (answer,) = client.run_closed_loop(server.address, [content], 1, timeout_s)
    return request_record.read(answer, dialect, request, phase="warmup", request_id="ready")

"""Whether a started engine is ready: its health page answers, and it generates."""

import time

from enginebench.base.errors import EngineError
from enginebench.engines import http_page
from enginebench.engines.dialect import GenerationRequest
from enginebench.launch.server import Server
from enginebench.load import client, request_record
from enginebench.load.http1 import post

POLL_S = 0.25
PAGE_TIMEOUT_S = 5.0
HEALTH_LIMIT_BYTES = 1 << 20
BUSY = (408, 425, 429)  # statuses of a request that may be sent again


def wait_ready(server: Server, request: GenerationRequest, deadline_s: float) -> float:
    """Wait for a 200 from the health path and one real generation; return seconds since start.

    Raises:
        EngineError: the engine ended, the deadline passed, or it refused the request; with the
            last lines of its log.
    """
    name, dialect = server.engine.name, server.engine.dialect
    last = "no answer yet"
    while (left_s := server.started_s + deadline_s - time.perf_counter()) > 0:
        if (death := server.death()) is not None:
            raise EngineError(
                f"{name}: {death} before it was ready; the end of its log:", server.log_tail()
            )
        page = http_page.fetch(
            server.url + dialect.health_path, min(PAGE_TIMEOUT_S, left_s), HEALTH_LIMIT_BYTES
        )
        last = f"{page.error or f'HTTP {page.status}'} from {dialect.health_path}"
        if page.is_good:
            first = _first_generation(server, request, left_s)
            if first.error is None:
                return time.perf_counter() - server.started_s
            last = f"a first generation failed: {first.error}"
            if _is_refusal(first.status):
                raise EngineError(
                    f"{name}: it refused the study's first request ({first.error}); "
                    "correct the study or the engine's settings; the end of its log:",
                    server.log_tail(),
                )
        time.sleep(POLL_S)
    raise EngineError(
        f"{name}: not ready within {deadline_s:g} s (ready_timeout_s); last answer: {last}; "
        "the end of its log:",
        server.log_tail(),
    )


def _is_refusal(status: int | None) -> bool:
    """Whether the same request would be refused again; not of an engine that is only busy."""
    return status is not None and 400 <= status < 500 and status not in BUSY


def _first_generation(
    server: Server, request: GenerationRequest, timeout_s: float
) -> request_record.RequestRecord:
    """Generate once, outside everything that is measured."""
    dialect = server.engine.dialect
    content = post(server.address, dialect.generate_path, dialect.body(request), "ready")
    (answer,) = client.run_closed_loop(server.address, [content], 1, timeout_s)
    return request_record.read(answer, dialect, request, phase="warmup", request_id="ready")

"""A started engine, whether a process or a container runs it: what is known of it, and its being
ready."""

import contextlib
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests

from enginebench import exchange, load
from enginebench.dialect import Ask
from enginebench.errors import EngineError, UserError
from enginebench.launch import Engine
from enginebench.secrecy import redact
from enginebench.watch import local_session

HOST = "127.0.0.1"
POLL_S = 0.25
STOP_GRACE_S = 15.0
LOG_TAIL_LINES = 15


@dataclass(frozen=True, slots=True)
class Server:
    """A started engine. What differs between processes and containers are its two functions."""

    engine: Engine
    address: load.Address
    pid: int | None  # of its first process; None where this machine cannot see it
    log: Path
    started_s: float
    death: Callable[[], str | None]  # why the engine is gone; None while it runs
    # Ends it and everything it started, at once where the argument comes to say so; what is known
    # of its end. Never raises for an engine that is gone.
    stop: Callable[[Callable[[], bool]], Mapping[str, Any]]
    facts: Mapping[str, Any]  # how it was started, for the record
    meters: Sequence[Mapping[str, Any]] = ()  # its container's, growing (see ``Observer``)

    @property
    def url(self) -> str:
        return f"http://{self.address.host}:{self.address.port}"

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def log_tail(self) -> list[str]:
        return redact(self.log_text()).splitlines()[-LOG_TAIL_LINES:]


def patiently() -> bool:
    """For ``Server.stop``: nobody is in a hurry."""
    return False


def choose_port(wanted: int | None) -> int:
    """The wanted port if it is free, or any free one.

    Raises:
        UserError: the wanted port is in use; its holder is named where the system tells.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted or 0))
        except OSError as error:
            raise UserError(
                f"port {wanted}: expected a free port on {HOST}, found it in use"
                f"{_holder(wanted)} ({error.strerror}); stop that or change `port` in the study"
            ) from None
        return int(probe.getsockname()[1])


def _holder(port: int | None) -> str:
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            address = connection.laddr
            if address and address.port == port and connection.status == psutil.CONN_LISTEN:
                if connection.pid is None:
                    return ""
                process = psutil.Process(connection.pid)
                return f" by {process.name()} (process {connection.pid})"
    return ""


def wait_ready(server: Server, ask: Ask, deadline_s: float) -> float:
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
                first = _first_generation(server, ask, left_s)
                if first.error is None:
                    return time.perf_counter() - server.started_s
                last = f"a first generation failed: {first.error}"
                if first.status is not None and 400 <= first.status < 500:
                    raise EngineError(
                        f"{name}: it refused the study's first request ({first.error}); "
                        "mend the study or the engine's settings; the end of its log:",
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


def _first_generation(server: Server, ask: Ask, timeout_s: float) -> exchange.RequestRecord:
    """Generate once, outside everything that is measured."""
    dialect = server.engine.dialect
    request = load.post(server.address, dialect.generate_path, dialect.body(ask), "ready")
    (answer,) = load.run_closed_loop(server.address, [request], 1, timeout_s)
    return exchange.read(answer, dialect, ask, phase="warmup", request_id="ready")

"""Engines as plain processes: start, wait until ready, stop. For machines without Docker."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests

from enginebench import environment, exchange, leftovers, load
from enginebench.dialect import Ask
from enginebench.errors import EngineError, UserError
from enginebench.launch import Engine, Native, interpolate
from enginebench.secrecy import redact, redact_file
from enginebench.watch import local_session

HOST = "127.0.0.1"
POLL_S = 0.25
STOP_GRACE_S = 15.0
LOG_TAIL_LINES = 15
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)
_LIBC = ctypes.CDLL(None)  # loaded here: little is safe between fork and exec


@dataclass(frozen=True, slots=True)
class Command:
    """An engine's resolved command line, as it is run and recorded."""

    argv: tuple[str, ...]
    env: Mapping[str, str]  # what is added to the caller's environment
    port: int


@dataclass(slots=True)
class Server:
    """A started engine."""

    engine: Engine
    command: Command
    process: subprocess.Popen[bytes]
    log: Path
    started_s: float

    @property
    def address(self) -> load.Address:
        return load.Address(HOST, self.command.port)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.command.port}"

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def log_tail(self) -> list[str]:
        return redact(self.log_text()).splitlines()[-LOG_TAIL_LINES:]

    def death(self) -> str | None:
        """Why the engine's process is gone; None while it runs."""
        code = self.process.poll()
        if code is None:
            return None
        if code < 0:
            return f"the engine's process was killed by {signal.Signals(-code).name}"
        return f"the engine's process ended with exit code {code}"


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


def recipe(engine: Engine) -> Native:
    """How the engine runs as a process.

    Raises:
        UserError: it runs only in a container.
    """
    if engine.native is None:
        where = "in a container" if engine.cpu_image else "in a container on a GPU"
        raise UserError(
            f"{engine.launch_file}: no x-native key, so this engine runs only {where}; "
            "leave it out of the study or give it x-native"
        )
    return engine.native


def resolve(
    engine: Engine, settings: Mapping[str, Any], device: str, cache: Path, port: int
) -> Command:
    """The command line of an engine under these settings (launch variables)."""
    native = recipe(engine)
    values = {name: _as_text(value) for name, value in settings.items()}
    values |= {"HOST": HOST, "PORT": str(port)}
    where = str(engine.launch_file)

    def fill(text: str) -> str:
        return interpolate(text, values, where)

    words = list(native.command)
    if words[0] == "python":
        words[0] = str(environment.python(engine, device, cache))
    own_file = engine.directory / (words[1] if len(words) > 1 else "")
    if len(words) > 1 and words[1].endswith(".py") and own_file.is_file():
        words[1] = str(own_file)
    env = dict(engine.env)
    if device == "cpu":  # also where there is a GPU that the study does not use
        env |= {"CUDA_VISIBLE_DEVICES": ""} | native.cpu_env
    argv = tuple(fill(word) for word in (*words, *engine.flags))
    return Command(argv, {name: fill(text) for name, text in env.items()}, port)


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def start(engine: Engine, command: Command, directory: Path) -> Server:
    """Start the engine in a session of its own, its output going to ``directory/server.log``."""
    log = directory / "server.log"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # Safe path: an engine started by its package's name must never import our directory instead.
    env |= {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
    env |= {"HF_HUB_OFFLINE": "1"}  # the model is local: nothing is to be fetched while measured
    env |= dict(command.env) | {leftovers.MARK: leftovers.mark()}
    work = directory / "work"
    work.mkdir(exist_ok=True)
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                command.argv,
                cwd=work,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is ours to handle; the whole group is ours to end
                preexec_fn=_in_child,
            )
        except OSError as error:
            raise EngineError(
                f"{engine.name}: cannot start {command.argv[0]}: {error.strerror}; "
                "build its environment again: make clean, then make setup"
            ) from None
    return Server(engine, command, process, log, time.perf_counter())


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Put off Ctrl-C and SIGTERM until the block has ended.

    An interrupt that arrives while a process is being forked is lost (Python ignores what its
    at-fork hooks raise); one that arrives while an engine is being stopped would leave it running.
    Handlers are replaced, not signals blocked: a mask holds for one thread only, and a display has
    a thread of its own.
    """
    arrived: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: arrived.append(number))
        for number in _INTERRUPTS
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(arrived[0])


def _in_child() -> None:
    """If the harness is killed outright, the kernel ends the engine's main process too."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def wait_ready(server: Server, ask: Ask, deadline_s: float) -> float:
    """Wait for a 200 from the health path and one real generation; return seconds since start.

    Raises:
        EngineError: the process ended, the deadline passed, or the engine refused the request; with
            the last lines of its log.
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


def stop(server: Server) -> None:
    """End the engine and everything it started; never raises for a process that is gone."""
    group = server.process.pid
    children = _descendants(group)
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.process.wait(STOP_GRACE_S)
        if server.process.poll() is not None:
            break
    _, alive = psutil.wait_procs(children, timeout=5)
    for process in alive:  # workers that outlived the engine
        with contextlib.suppress(psutil.Error):
            process.kill()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    with contextlib.suppress(OSError):
        (server.log.parent / "work").rmdir()
    redact_file(server.log)


def _descendants(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).children(recursive=True)
    return []

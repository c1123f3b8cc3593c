"""A started engine, as a process or in a container, and the port that it gets."""

import contextlib
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil

from enginebench.base.errors import UserError
from enginebench.engines.address import Address
from enginebench.engines.directory import Engine
from enginebench.launch.log_file import LogFile

HOST = "127.0.0.1"
STOP_GRACE_S = 15.0
LOG_TAIL_LINES = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerFacts:
    """The container that an engine runs in, as Docker describes it."""

    name: str
    image: str  # as it was asked for
    image_id: str
    image_digests: list[str]  # empty: built on this machine
    image_created: str | None
    docker: str  # Docker's version
    asked_at: str  # address that the requests go to


@dataclass(frozen=True, slots=True, kw_only=True)
class StartFacts:
    """How an engine was started: fields of ``launch.json``."""

    command: list[str]
    env: dict[str, str]  # added to the environment
    inherited_env: dict[str, str]  # variables of the caller that may move numbers
    python: str | None = None  # the engine's environment; None: in a container
    container: ContainerFacts | None = None  # None: a process


@dataclass(frozen=True, slots=True)
class ContainerEnd:
    """How a container ended; None: Docker did not answer."""

    died: str | None = None  # why, if it ended before it was stopped
    exit_code: int | None = None
    out_of_memory: bool | None = None
    restarts: int | None = None


@dataclass(frozen=True, slots=True)
class StopFacts:
    """How an engine ended: fields of ``launch.json``."""

    ended: ContainerEnd | None = None  # None: a process
    left_behind: tuple[str, ...] = ()  # what Docker printed, if it could not remove everything


@dataclass(frozen=True, slots=True)
class ContainerSample:
    """A line of ``container.jsonl``."""

    t_s: float  # CLOCK_MONOTONIC
    memory_bytes: int  # as ``docker stats`` shows it: without file cache that can be dropped
    memory_limit_bytes: int | None
    cpu_s: float | None  # CPU time since the container started


@dataclass(frozen=True, slots=True)
class Server:
    """A started engine. Processes and containers differ in ``death`` and ``stop``."""

    engine: Engine
    address: Address
    pid: int | None  # of its first process; None if this machine cannot see it
    log: LogFile
    started_s: float  # CLOCK_MONOTONIC
    death: Callable[[], str | None]  # why the engine is gone; None while it runs
    #: Ends the engine and everything that it started, without grace once the argument returns True.
    #: Never raises for an engine that has ended.
    stop: Callable[[Callable[[], bool]], StopFacts]
    facts: StartFacts
    meters: Sequence[ContainerSample] = ()  # of its container, growing (see ``Observer``)
    settle: Callable[[], None] = lambda: None  # waits until the log has all it printed so far

    @property
    def url(self) -> str:
        return f"http://{self.address.host}:{self.address.port}"

    def log_text(self) -> str:
        self.settle()
        return self.log.text()

    def log_tail(self) -> list[str]:
        """The last ``LOG_TAIL_LINES`` lines of its log."""
        self.settle()
        return self.log.last_lines(LOG_TAIL_LINES)


def choose_port(wanted: int | None) -> int:
    """The wanted port if it is free; for None, any free one.

    Raises:
        UserError: the wanted port is in use; the message names its process if it can be seen.
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

"""Following one container from its start: its log, its memory and CPU time, and how it ended."""

import signal
import threading
import time
from collections.abc import Mapping
from typing import Any

from docker.models.containers import Container

from enginebench.base.linux import signal_name
from enginebench.launch.docker_daemon import DOCKER_ERRORS
from enginebench.launch.log_file import LogFile
from enginebench.launch.server import ContainerSample


class Observer:
    """Threads that read what the daemon streams about a container while it exists.

    ``meters`` grows by one row per second.
    """

    def __init__(self, container: Container, log: LogFile) -> None:
        self.meters: list[ContainerSample] = []
        self._container = container
        self.log = log
        self._death: str | None = None
        self._threads = [
            threading.Thread(target=work, daemon=True)
            for work in (self._copy_log, self._read_meters, self._await_end)
        ]
        for thread in self._threads:
            thread.start()

    def death(self) -> str | None:
        """Why the container has ended, or cannot be seen any more; None while it runs."""
        return self._death

    def join(self, timeout_s: float) -> None:
        """Wait until the rest of the log and the meters have been read, at most ``timeout_s``."""
        until_s = time.perf_counter() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, until_s - time.perf_counter()))

    def _copy_log(self) -> None:
        try:
            for piece in self._container.logs(stream=True, follow=True):
                self.log.write(piece)
        except (*DOCKER_ERRORS, AttributeError):  # Docker's client on a broken connection
            return

    def _read_meters(self) -> None:
        try:
            for stats in self._container.stats(stream=True, decode=True):
                assert not isinstance(stats, str)
                row = sample(stats, time.perf_counter())
                if row is not None:
                    self.meters.append(row)
        except (*DOCKER_ERRORS, AttributeError):
            return

    def _await_end(self) -> None:
        try:
            self._container.wait(timeout=None)
            self._container.reload()
            self._death = death_text(self._container.attrs["State"])
        except DOCKER_ERRORS as error:
            self._death = f"Docker stopped answering ({type(error).__name__})"


def sample(stats: Mapping[str, Any], t_s: float) -> ContainerSample | None:
    """One answer of the daemon's stats as a row; None once the container has ended."""
    memory = stats.get("memory_stats") or {}
    used = memory.get("usage")
    if used is None:
        return None
    detail = memory.get("stats") or {}
    # cgroup v2 calls it inactive_file, v1 total_inactive_file.
    cache = detail.get("inactive_file", detail.get("total_inactive_file", 0))
    cpu_ns = ((stats.get("cpu_stats") or {}).get("cpu_usage") or {}).get("total_usage")
    cpu_s = None if cpu_ns is None else cpu_ns * 1e-9
    return ContainerSample(t_s, used - cache, memory.get("limit"), cpu_s)


def death_text(state: Mapping[str, Any]) -> str:
    """How a container ended, from its state as ``docker inspect`` gives it."""
    code = state["ExitCode"]
    if state.get("OOMKilled"):
        return f"the engine's container ran out of its memory limit (OOM, exit code {code})"
    if 128 < code <= 128 + signal.SIGRTMAX:
        return f"the engine's container was killed by {signal_name(code - 128)}"
    return f"the engine's container ended with exit code {code}"

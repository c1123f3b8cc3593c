"""Before an engine starts: wait until no earlier engine holds memory."""

import time
from collections.abc import Callable, Sequence

import psutil

from enginebench.base.errors import EngineError
from enginebench.hardware import nvml
from enginebench.hardware.nvml import GpuSample
from enginebench.launch import docker_daemon, leftovers
from enginebench.launch.docker_daemon import DOCKER_ERRORS

WAIT_S = 60.0
POLL_S = 0.5
FREE_SHARE = 0.05  # of a GPU's memory that a driver, a display and monitoring may hold


def wait(device: str, name: str) -> None:
    """Wait until no process holds memory that the next engine needs.

    Args:
        device: "cpu" or "cuda".
        name: the engine that is to start, for the message.

    Raises:
        EngineError: the memory is still held after ``WAIT_S``; by whom, and how much.
    """
    await_free(lambda: held(device), name, WAIT_S)


def await_free(holders: Callable[[], Sequence[str]], name: str, limit_s: float) -> None:
    """Wait until ``holders`` returns none.

    Raises:
        EngineError: it still returns some after ``limit_s``.
    """
    until_s = time.perf_counter() + limit_s
    while held_by := holders():
        if time.perf_counter() > until_s:
            raise EngineError(
                f"{name}: expected free memory to start it, found after {limit_s:g} s that it "
                f"is held by {'; '.join(held_by)}; end that and run the study again"
            )
        time.sleep(POLL_S)


def held(device: str) -> list[str]:
    """Who holds memory now, in words, one text per holder."""
    holders = _containers()
    if device == "cuda":
        gpus = nvml.gpus()
        totals = {gpu.index: nvml.facts(gpu).memory_bytes for gpu in gpus}
        for row in nvml.sample(gpus):
            holders += gpu_holders(row, totals[row.index])
    return holders


def gpu_holders(row: GpuSample, total_bytes: int | None) -> list[str]:
    """Who holds the memory of one GPU, from one row of ``nvml.sample``; none if it is free."""
    where, used = f"GPU {row.index}", row.memory_used_bytes
    if used is None or not total_bytes or used <= FREE_SHARE * total_bytes:
        return []
    named = (row.processes or {}).items()
    texts = [f"{_named(int(pid))} on {where}{_size(held)}" for pid, held in named]
    return texts or [f"a process that NVML does not name on {where}{_size(used)}"]


def _size(used: int | None) -> str:
    return "" if used is None else f" ({used / 2**30:.1f} GiB)"


def _named(pid: int) -> str:
    try:
        return f"{psutil.Process(pid).name()} (process {pid})"
    except psutil.Error:
        return f"process {pid}"


def _containers() -> list[str]:
    """This harness's own containers that still exist."""
    docker = docker_daemon.connect()
    if isinstance(docker, str):
        return []
    try:
        ours = docker.client.containers.list(filters={"label": leftovers.LABEL})
        prefix = leftovers.name_prefix()
        return [f"container {c.name}" for c in ours if str(c.name).startswith(prefix)]
    except DOCKER_ERRORS:
        return []

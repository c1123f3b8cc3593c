"""Memory and CPU time of an engine's processes."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class ProcessSample:
    """A line of ``processes.jsonl``: memory and CPU time of some processes, summed.

    The sums are None if no process is left or one may not be read.
    """

    t_s: float  # CLOCK_MONOTONIC
    pss_bytes: int | None  # None also where it was not asked for
    rss_bytes: int | None
    cpu_s: float | None
    pids: list[int]


def family(pid: int) -> list[psutil.Process]:
    """A process and all its descendants; empty if it is gone."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def process_sample(processes: Sequence[psutil.Process], *, with_pss: bool) -> ProcessSample:
    """Memory and CPU time of these processes now.

    In PSS a page shared by k processes counts 1/k in each, so that the sum counts it once; in RSS
    it counts in each of them.
    """
    pss = rss = 0
    cpu = 0.0
    alive, hidden = [], []
    for process in processes:
        try:
            pss += process.memory_full_info().pss if with_pss else 0
            rss += process.memory_info().rss
            times = process.cpu_times()
        except psutil.AccessDenied:  # another user's, in a container
            hidden.append(process.pid)
            continue
        except psutil.Error:  # it ended between being listed and being read
            continue
        cpu += times.user + times.system
        alive.append(process.pid)
    is_complete = bool(alive) and not hidden
    return ProcessSample(
        t_s=time.perf_counter(),
        pss_bytes=pss if is_complete and with_pss else None,
        rss_bytes=rss if is_complete else None,
        cpu_s=cpu if is_complete else None,
        pids=alive + hidden,
    )

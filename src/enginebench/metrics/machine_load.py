"""What the machine did during a cell: others' CPU time, steal, pressure, frequency. Pure.

CPU time of others = busy time of the CPUs that the study may use − CPU time of our own processes.
Interrupts are in neither. The kernel counts the first by sampling at its tick and the second
exactly, so that their difference is off by a few hundredths of a core in a second, to both sides.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from enginebench.base.machine_row import MachineRow

SLIDING_S = 1.0  # "at most" is over so long: a shorter one is mostly the kernel's tick
BURST_CORES = 0.5  # half a core: seven times what the counters were seen to be off in a second
#: A machine as busy as this has no CPU that is reliably free: engines keep a thread on each CPU and
#: wait at barriers for the slowest, so that some are idle while none can be spared.
SPARE_CORES, SPARE_SHARE = 1.0, 0.25
#: Ours above busy by more than this: the counters are not of the CPUs that we run on (a sandbox).
CONTRADICTION_CORES, CONTRADICTION_SHARE = 0.25, 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFigures:
    """A cell's machine: shares of the time, 0 to 1; cores of the study's CPUs. None is unknown."""

    window_s: float | None = None
    cpus: int | None = None  # that the study may use
    ours_cores_mean: float | None = None
    others_cores_mean: float | None = None
    others_cores_max: float | None = None  # over a sliding second
    others_share: float | None = None  # the mean over ``cpus``
    idle_cores_min: float | None = None  # over a sliding second
    # Others' while less was idle than can be spared, on average over the whole cell.
    contested_cores_mean: float | None = None
    burst_share: float | None = None  # time with BURST_CORES contested, in sliding seconds
    steal_cores_mean: float | None = None
    steal_share: float | None = None  # of the CPU time that was wanted: stolen / (busy + stolen)
    waited_cpu_some_share: float | None = None
    waited_memory_some_share: float | None = None
    waited_memory_full_share: float | None = None
    waited_io_some_share: float | None = None
    waited_io_full_share: float | None = None
    frequency_min_hz: float | None = None
    frequency_mean_hz: float | None = None
    frequency_max_hz: float | None = None
    temperature_max_c: float | None = None


@dataclass(frozen=True, slots=True)
class LoadPoint:
    """The machine between two readings; ``t_s`` is the later one."""

    t_s: float
    length_s: float
    ours_cores: float | None
    others_cores: float | None  # below 0 where the counters' error is
    idle_cores: float | None
    steal_cores: float | None
    frequency_hz: float | None  # mean over CPUs, at the later one


def points(rows: Sequence[MachineRow], least_s: float = 0.0) -> list[LoadPoint]:
    """One a row: since the last row that is at least ``least_s`` before it, if there is one."""
    found, start = [], 0
    for end, row in enumerate(rows):
        while start + 1 < end and row.t_s - rows[start + 1].t_s >= max(least_s, 1e-9):
            start += 1
        length_s = row.t_s - rows[start].t_s
        if end > start and length_s >= max(least_s, 1e-9):
            found.append(_point(rows[start], row, length_s))
    return found


def _point(a: MachineRow, b: MachineRow, length_s: float) -> LoadPoint:
    ours = _grown(a.ours_s, b.ours_s)
    busy = steal = None
    if a.cpus and a.cpus == b.cpus:  # otherwise a CPU was taken off line
        busy = (sum(b.cpu_busy_s) - sum(a.cpu_busy_s)) / length_s
        steal = max(sum(b.cpu_steal_s) - sum(a.cpu_steal_s), 0.0) / length_s
    return LoadPoint(
        b.t_s,
        length_s,
        None if ours is None else ours / length_s,
        None if busy is None or ours is None else busy - ours / length_s,
        None if busy is None or steal is None else max(len(b.cpus) - busy - steal, 0.0),
        steal,
        b.frequency_mean_hz,
    )


def _grown(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def figures(rows: Sequence[MachineRow]) -> MachineFigures:
    """A cell's figures. All None with less than a second between its first and last row.

    Args:
        rows: in the order of time.
    """
    ends = [rows[0], rows[-1]] if rows else []
    if not (whole := points(ends, SLIDING_S)):
        return MachineFigures()
    mean, first, last = whole[0], rows[0], rows[-1]
    sliding = points(rows, SLIDING_S)

    def waited(read: Callable[[MachineRow], float | None]) -> float | None:
        grown = _grown(read(first), read(last))
        return None if grown is None else min(max(grown / mean.length_s, 0.0), 1.0)

    found = MachineFigures(
        window_s=mean.length_s,
        cpus=len(last.cpus) or None,
        ours_cores_mean=mean.ours_cores,
        idle_cores_min=min(_known(point.idle_cores for point in sliding), default=None),
        steal_cores_mean=mean.steal_cores,
        steal_share=_steal_share(mean, len(last.cpus)),
        waited_cpu_some_share=waited(lambda row: row.waited_cpu_some_s),
        waited_memory_some_share=waited(lambda row: row.waited_memory_some_s),
        waited_memory_full_share=waited(lambda row: row.waited_memory_full_s),
        waited_io_some_share=waited(lambda row: row.waited_io_some_s),
        waited_io_full_share=waited(lambda row: row.waited_io_full_s),
        frequency_min_hz=min(_known(row.frequency_min_hz for row in rows), default=None),
        frequency_mean_hz=_mean(_known(row.frequency_mean_hz for row in rows)),
        frequency_max_hz=max(_known(row.frequency_max_hz for row in rows), default=None),
        temperature_max_c=max(_known(row.temperature_c for row in rows), default=None),
    )
    return _with_others(found, mean.others_cores, points(rows), sliding)


def _with_others(
    found: MachineFigures,
    mean: float | None,
    steps: Sequence[LoadPoint],
    sliding: Sequence[LoadPoint],
) -> MachineFigures:
    """Others' CPU time added, unless the counters contradict each other."""
    if mean is None or not found.cpus:
        return found
    ours = found.ours_cores_mean or 0.0
    if mean < -max(CONTRADICTION_CORES, CONTRADICTION_SHARE * ours):
        return found
    spare = max(SPARE_CORES, SPARE_SHARE * found.cpus)
    contested = [point for point in steps if _is_contested(point, spare)]
    contested_s = sum((point.others_cores or 0.0) * point.length_s for point in contested)
    bursts = [p for p in sliding if _is_contested(p, spare) and (p.others_cores or 0) > BURST_CORES]
    return replace(
        found,
        others_cores_mean=max(mean, 0.0),
        others_cores_max=max([mean, 0.0, *_known(point.others_cores for point in sliding)]),
        others_share=max(mean, 0.0) / found.cpus,
        contested_cores_mean=max(contested_s, 0.0) / (found.window_s or math.inf),
        burst_share=len(bursts) / len(sliding) if sliding else None,
    )


def _is_contested(point: LoadPoint, spare_cores: float) -> bool:
    return point.idle_cores is not None and point.idle_cores < spare_cores


def _steal_share(mean: LoadPoint, cpus: int) -> float | None:
    if mean.steal_cores is None or mean.idle_cores is None:
        return None
    return mean.steal_cores / (cpus - mean.idle_cores) if mean.steal_cores else 0.0


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None

"""What the samples of the GPUs say of a cell. Pure."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from enginebench.record.schema_samples import GpuSample

#: Reasons for a clock below its highest that are no throttling: nothing to do, or so set by hand.
ORDINARY = ("gpu_idle", "application_clocks")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFigures:
    """The GPUs that the engine uses, over one cell; None is "not measured"."""

    gpu_memory_peak_bytes: float | None  # sum over its GPUs
    power_w_mean: float | None  # sum over its GPUs
    gpu_utilisation_mean: float | None  # 0 to 1, their mean
    throttled: dict[str, float] | None  # share of samples by reason
    gpu_errors: dict[str, int]  # samples by failure, of all GPUs


def figures(rows: Sequence[GpuSample], pids: Collection[int]) -> GpuFigures:
    """Memory, power, load and throttling of the GPUs that the engine uses.

    Args:
        rows: samples of all GPUs of the machine over one cell.
        pids: the engine's processes. Its GPUs are those that name one of them; all, if none does.
    """
    used = of_engine(rows, pids)
    power = _means(used, "power_w")
    load = _means(used, "utilisation")
    return GpuFigures(
        gpu_memory_peak_bytes=max(
            (total for _, total in over_time(used, "memory_used_bytes")), default=None
        ),
        power_w_mean=sum(power) if power else None,
        gpu_utilisation_mean=sum(load) / len(load) if load else None,
        throttled=_throttled(used),
        gpu_errors=dict(Counter(f"GPU {r.index}: {r.error}" for r in rows if r.error)),
    )


def of_engine(rows: Sequence[GpuSample], pids: Collection[int]) -> list[GpuSample]:
    """The samples of the GPUs that name one of these processes; of all, if none does."""
    names = {str(pid) for pid in pids}
    its = {row.index for row in rows if names & (row.processes or {}).keys()}
    return [row for row in rows if not its or row.index in its]


def over_time(rows: Sequence[GpuSample], name: str) -> list[tuple[float, float]]:
    """The sum over all GPUs of one figure: t_s and value; times at which one is silent left out."""
    held: dict[float, float | None] = {}
    for row in rows:
        before, more = held.get(row.t_s, 0), getattr(row, name)
        held[row.t_s] = None if before is None or more is None else before + more
    return [(time_s, total) for time_s, total in held.items() if total is not None]


def _means(rows: Sequence[GpuSample], name: str) -> list[float] | None:
    """Each GPU's mean over time; None unless every GPU has one."""
    values: dict[int, list[float]] = {row.index: [] for row in rows}
    for row in rows:
        if getattr(row, name) is not None:
            values[row.index].append(getattr(row, name))
    if not all(values.values()):
        return None
    return [sum(of_one) / len(of_one) for of_one in values.values()]


def _throttled(rows: Sequence[GpuSample]) -> dict[str, float] | None:
    """Reason -> share of the samples that had it; empty if it was never throttled."""
    known = [row.throttle_reasons for row in rows if row.throttle_reasons is not None]
    if not known:
        return None
    seen = Counter(reason for reasons in known for reason in reasons if reason not in ORDINARY)
    return {reason: count / len(known) for reason, count in sorted(seen.items())}

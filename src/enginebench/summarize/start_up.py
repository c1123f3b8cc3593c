"""What the starts of each variant took, and what of it the engines' logs account for. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from enginebench.record.schema import StartUp
from enginebench.summarize.study_summary import Summary

KINDS = {"new": "cold", "found": "warm", None: "not known"}  # by what the log says of a cache


@dataclass(frozen=True, slots=True)
class Starts:
    """The starts of a variant of one kind: means, in s; None: not every log states it."""

    label: str
    kind: str  # cold: no compiled code from before; warm: there was some
    starts: int
    ready_s: float  # from the launch to the first generation
    weights_s: float | None
    init_s: float | None  # after the weights; contains compile and capture
    compile_s: float | None
    capture_s: float | None
    rest_s: float | None  # none of the others: the interpreter, imports, what is not stated


def of_study(summary: Summary) -> list[Starts]:
    """By variant, in the study's order, and kind. None for a record from before ``start_up``."""
    found: dict[tuple[str, str], list[tuple[float, StartUp]]] = {}
    for label in summary.labels:
        own = [launch for launch in summary.launches.values() if launch.label == label]
        for kind in KINDS.values():
            for launch in own:
                parts, ready_s = launch.start_up, launch.ready_s
                if parts is None or ready_s is None or KINDS[parts.compile_cache] != kind:
                    continue
                found.setdefault((label, kind), []).append((ready_s, parts))
    return [_starts(label, kind, starts) for (label, kind), starts in found.items()]


def _starts(label: str, kind: str, starts: Sequence[tuple[float, StartUp]]) -> Starts:
    parts = [part for _, part in starts]
    ready_s = sum(ready_s for ready_s, _ in starts) / len(starts)
    weights_s = _mean([part.weights_s for part in parts])
    init_s = _mean([part.init_s for part in parts])
    compile_s = _mean([part.compile_s for part in parts])
    capture_s = _mean([part.capture_s for part in parts])
    after = [init_s] if init_s is not None else [compile_s, capture_s]
    stated = [value for value in (weights_s, *after) if value is not None]
    rest_s = ready_s - sum(stated)
    return Starts(
        label=label,
        kind=kind,
        starts=len(starts),
        ready_s=ready_s,
        weights_s=weights_s,
        init_s=init_s,
        compile_s=compile_s,
        capture_s=capture_s,
        rest_s=rest_s if stated and rest_s >= 0 else None,  # parts may not overlap
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None

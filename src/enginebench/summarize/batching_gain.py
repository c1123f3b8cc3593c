"""The gain of continuous batching where outputs differ in length: measured, beside computed. Pure.

Two workloads are a pair if they have one prompt length and a level of load in common, and only one
of them has outputs of different lengths. How much faster one engine is than another on equal
outputs is a matter of kernels and of overhead; by how much *more* it is faster on spread ones is
what the lengths do.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from enginebench.base import estimator
from enginebench.base.estimator import Ratio
from enginebench.metrics.batching import Steps
from enginebench.record.schema_study import OutputRange, Workload
from enginebench.summarize.groups import RATE
from enginebench.summarize.study_summary import Summary

EQUAL, SPREAD = "equal", "spread"


@dataclass(frozen=True, slots=True)
class Lengths:
    """A pair of workloads at one level, and what their outputs alone predict."""

    equal: str  # names of workloads
    spread: str
    in_flight: int
    equal_steps: Steps
    spread_steps: Steps

    @property
    def gain(self) -> float:
        """Computed: by how much the spread favours continuous batching over static batches."""
        return self.spread_steps.gain / self.equal_steps.gain


@dataclass(frozen=True, slots=True)
class Gain:
    """One variant over another on both workloads."""

    lengths: Lengths
    label: str
    over: str
    on_equal: Ratio  # of output tokens/s
    on_spread: Ratio
    gain: Ratio  # the second over the first; ``alone`` is its interval


def gains(summary: Summary) -> list[Gain]:
    """Every two variants measured on such a pair, first the one that gains by the spread."""
    return [
        found
        for lengths in pairs(summary)
        for a, b in combinations(summary.labels, 2)
        if (found := _gain(summary, lengths, a, b)) is not None
    ]


def pairs(summary: Summary) -> list[Lengths]:
    """The pairs of workloads; to spread outputs belong the equal ones whose length is nearest."""
    workloads = summary.study.study.workloads
    steps = _steps(summary)
    found = []
    for spread in workloads:
        output = spread.output_tokens
        if not isinstance(output, OutputRange) or output.min == output.max:
            continue
        mean = (output.min + output.max) / 2
        for level in spread.concurrency:
            equals = [
                (abs(equal.output_tokens - mean), equal.name)
                for equal in workloads
                if isinstance(equal.output_tokens, int) and _may_pair(equal, spread, level)
            ]
            names = [name for _, name in sorted(equals) if (name, level) in steps]
            if names and (spread.name, level) in steps:
                of_equal, of_spread = steps[names[0], level], steps[spread.name, level]
                found.append(Lengths(names[0], spread.name, level, of_equal, of_spread))
    return found


def _may_pair(equal: Workload, spread: Workload, level: int) -> bool:
    prompts, others = (
        (workload.prompt_tokens, workload.shared_prefix_tokens) for workload in (equal, spread)
    )
    return level > 1 and level in equal.concurrency and prompts == others


def _steps(summary: Summary) -> dict[tuple[str, int], Steps]:
    """Workload and level -> the steps of its outputs, which are the same for every engine."""
    found: dict[tuple[str, int], Steps] = {}
    for cell in summary.cells:
        if cell.steps is not None and cell.counts:
            found.setdefault((cell.workload, cell.concurrency), cell.steps)
    return found


def _gain(summary: Summary, lengths: Lengths, a: str, b: str) -> Gain | None:
    ratios = {
        name: summary.comparisons[workload, lengths.in_flight, RATE].ratio(a, b)
        for name, workload in ((EQUAL, lengths.equal), (SPREAD, lengths.spread))
    }
    of_trials = {
        name: dict(_trial_ratios(summary, workload, lengths.in_flight, a, b))
        for name, workload in ((EQUAL, lengths.equal), (SPREAD, lengths.spread))
    }
    gain = estimator.compare(of_trials, "higher").ratio(SPREAD, EQUAL)
    on_equal, on_spread = ratios[EQUAL], ratios[SPREAD]
    if gain is None or on_equal is None or on_spread is None:
        return None
    if gain.alone.mean < 1:
        return Gain(lengths, b, a, on_equal.inverse, on_spread.inverse, gain.inverse)
    return Gain(lengths, a, b, on_equal, on_spread, gain)


def _trial_ratios(
    summary: Summary, workload: str, level: int, a: str, b: str
) -> Iterator[tuple[int, float]]:
    """Trial -> output tokens/s of one variant over those of the other."""
    rates: dict[tuple[int, str], float] = {}
    for cell in summary.cells:
        rate = cell.figures.get(RATE)
        is_here = (cell.workload, cell.concurrency, cell.rate) == (workload, level, None)
        if is_here and cell.counts and rate:
            rates[cell.trial, cell.label] = rate
    for (trial, label), rate in rates.items():
        if label == a and (trial, b) in rates:
            yield trial, rate / rates[trial, b]

"""Who is first, as far as the trials can tell. Pure.

Order, places and ratios are those of one comparison (``enginebench.base.estimator``), so that they
never contradict each other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest

from enginebench.base.estimator import Comparison, Interval, Ratio
from enginebench.base.load_level import load_text
from enginebench.record.schema_study import OutputRange, Workload
from enginebench.summarize.groups import RATE, Group
from enginebench.summarize.study_summary import Summary, levels, output_text

WAIT = "ttft_planned_s_p50"  # at a given rate of requests engines differ in how long they let wait

Point = tuple[str, float]  # a variant and a level of load


@dataclass(frozen=True, slots=True)
class Place:
    """One variant in the ranking."""

    group: Group
    best: int  # the first place it may have
    worst: int
    to_next: Ratio | None  # over the next one in the list; None: no trial links them


@dataclass(frozen=True, slots=True)
class Ranking:
    workload: Workload
    level: float
    figure: str
    comparison: Comparison
    places: tuple[Place, ...]  # in the order of the comparison

    @property
    def load_text(self) -> str:
        first = self.places[0].group
        return load_text(first.concurrency, first.rate)

    @property
    def outputs_text(self) -> str:
        return f"outputs of {output_text(self.workload)} tokens"

    @property
    def has_varied_outputs(self) -> bool:
        return is_varied(self.workload)


def is_varied(workload: Workload) -> bool:
    """Whether a workload's outputs differ in length, so that streams do not move in step."""
    return isinstance(workload.output_tokens, OutputRange)


def ranking(summary: Summary) -> Ranking | None:
    """The variants at one level of load; None if no cell is valid.

    Closed loops come first, as they show throughput; of these, outputs that differ in length, as
    equal ones move in step; then the highest level, and the study's own order. The first level at
    which at least two variants were measured is taken, or the first with one.
    """
    workloads = summary.study.study.workloads
    closed = [workload for workload in workloads if workload.concurrency]
    by_level = [(max(levels(workload)), workload) for workload in closed or workloads]
    by_level.sort(key=lambda pair: (not (is_varied(pair[1]) and pair[0] > 1), -pair[0]))
    figure = RATE if closed else WAIT
    found = [
        Ranking(workload, level, figure, comparison, places)
        for level, workload in by_level
        if (comparison := summary.comparisons.get((workload.name, level, figure)))
        and (places := _places(groups_at(summary, workload.name, level), comparison))
    ]
    return next((one for one in found if len(one.places) > 1), found[0] if found else None)


def groups_at(summary: Summary, workload: str, level: float) -> dict[str, Group]:
    """The groups of one level by their variant."""
    return {
        group.label: group
        for group in summary.groups
        if (group.workload, group.level) == (workload, level)
    }


def _places(groups: Mapping[str, Group], comparison: Comparison) -> tuple[Place, ...]:
    places = comparison.places
    return tuple(
        Place(groups[label], *places[label], comparison.ratio(label, after) if after else None)
        for label, after in zip_longest(comparison.order, comparison.order[1:])
    )


@dataclass(frozen=True, slots=True)
class Pareto:
    """What a workload's levels cost in latency and give in throughput; means of the comparisons."""

    axis: str  # what the latency is
    latency: Mapping[Point, float]  # s
    rates: Mapping[Point, Interval]  # output tokens/s, of the same points
    front: tuple[Point, ...]  # what no other point beats in both, in the order of the latency


def pareto(summary: Summary, workload: Workload) -> Pareto | None:
    """Every variant at every level of a workload; None where there is nothing to trade: fewer than
    two points, or one request at a time, whose throughput is its latency over again."""
    if workload.concurrency == [1]:
        return None
    is_closed = bool(workload.concurrency)
    name = "e2e_s_p50" if is_closed else WAIT
    axis = "seconds a request, p50" if is_closed else "seconds from due to first token, p50"
    latency, rates = {}, {}
    for group in summary.groups:
        wait, rate = group.figures[name], group.figures[RATE]
        if group.workload == workload.name and wait and rate:
            latency[group.label, group.level] = wait.mean
            rates[group.label, group.level] = rate
    if len(latency) < 2:
        return None
    means = {point: rate.mean for point, rate in rates.items()}
    return Pareto(axis, latency, rates, tuple(front(latency, means)))


def front(latency: Mapping[Point, float], rates: Mapping[Point, float]) -> list[Point]:
    """The points that no other one equals or beats in both, in the order of the latency.

    Args:
        latency, rates: of the same points; of the latency less is better, of the rate more.
    """
    kept: list[Point] = []
    for point in sorted(latency, key=lambda p: (latency[p], -rates[p])):
        if not kept or rates[point] > rates[kept[-1]]:
            kept.append(point)
    return kept

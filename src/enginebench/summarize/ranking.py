"""Who is first, as far as the trials can tell. Pure.

Two variants are apart where the interval of their ratio, paired by trial, leaves 1 out. A variant's
place is then a range: 1 + how many are surely ahead of it, to all but those surely behind it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from enginebench.base import stats
from enginebench.base.load_level import load_text
from enginebench.base.stats import Interval
from enginebench.summarize.study_summary import Group, Summary, cells_of, paired_ratio

RATE = "output_tokens_per_s"
WAIT = "ttft_planned_s_p50"  # at a given rate of requests engines differ in how long they let wait

Point = tuple[str, float]  # a variant and a level of load


@dataclass(frozen=True, slots=True)
class Place:
    """One variant in the ranking."""

    group: Group
    best: int  # the first place it may have
    worst: int
    # Its figure over that of the next one in the list; None: no common trial.
    to_next: Interval | None


@dataclass(frozen=True, slots=True)
class Ranking:
    workload: Mapping[str, Any]
    level: float
    figure: str
    places: tuple[Place, ...]  # the best mean first

    @property
    def load_text(self) -> str:
        first = self.places[0].group
        return load_text(first.concurrency, first.rate)


def ranking(summary: Summary) -> Ranking | None:
    """The variants at the study's highest level of load; None if no cell is valid.

    The level is the highest one of a closed loop if the study has any, and of an open one
    otherwise, at which at least two variants were measured; of several such workloads the first.
    """
    workloads = summary.study["study"]["workloads"]
    closed = [workload for workload in workloads if workload["concurrency"]]
    figure = RATE if closed else WAIT
    levels = [
        (max(workload["concurrency"] or workload["rate"]), workload)
        for workload in closed or workloads
    ]
    found = [
        Ranking(workload, level, figure, _places(summary, groups, figure))
        for level, workload in sorted(levels, key=lambda pair: -pair[0])
        if (groups := _measured(summary, workload["name"], level, figure))
    ]
    return next((one for one in found if len(one.places) > 1), found[0] if found else None)


def _measured(summary: Summary, workload: str, level: float, figure: str) -> list[Group]:
    return [
        group
        for group in summary.groups
        if (group.workload, group.level) == (workload, level) and group.figures[figure] is not None
    ]


def _places(summary: Summary, groups: Sequence[Group], figure: str) -> tuple[Place, ...]:
    sign = -1 if figure == RATE else 1

    def mean(group: Group) -> float:
        found = group.figures[figure]
        return sign * found.mean if found else float("inf")

    ranked = sorted(groups, key=mean)
    cells = {group.label: cells_of(summary, group) for group in ranked}
    places = []
    for index, group in enumerate(ranked):
        ratios = {
            other.label: paired_ratio(cells[group.label], cells[other.label], figure)
            for other in ranked
            if other is not group
        }
        apart = [r for r in ratios.values() if r and stats.standing(r) == "apart"]
        ahead = sum((ratio.mean < 1) == (figure == RATE) for ratio in apart)
        following = ranked[index + 1].label if index + 1 < len(ranked) else ""
        places.append(
            Place(group, 1 + ahead, len(ranked) - len(apart) + ahead, ratios.get(following))
        )
    return tuple(places)


@dataclass(frozen=True, slots=True)
class Pareto:
    """What a workload's levels cost in latency and give in throughput; means over the trials."""

    axis: str  # what the latency is
    latency: Mapping[Point, float]  # s
    rates: Mapping[Point, Interval]  # output tokens/s, of the same points
    front: tuple[Point, ...]  # what no other point beats in both, in the order of the latency


def pareto(summary: Summary, workload: Mapping[str, Any]) -> Pareto | None:
    """Every variant at every level of a workload; None where there is nothing to trade: fewer than
    two points, or one request at a time, whose throughput is its latency over again."""
    if workload["concurrency"] == [1]:
        return None
    is_closed = bool(workload["concurrency"])
    name = "e2e_s_p50" if is_closed else WAIT
    axis = "seconds a request, p50" if is_closed else "seconds from due to first token, p50"
    latency, rates = {}, {}
    for group in summary.groups:
        wait, rate = group.figures[name], group.figures[RATE]
        if group.workload == workload["name"] and wait and rate:
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

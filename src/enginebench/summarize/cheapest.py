"""At which level of load a variant makes tokens for the least money, as far as trials tell. Pure.

The least of several means is low by chance alone, so that the levels are compared with each other
first: over trials, as every start runs all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from enginebench.base.estimator import Interval, compare
from enginebench.base.load_level import load_text
from enginebench.summarize.study_summary import COST, Summary


@dataclass(frozen=True, slots=True)
class Cheapest:
    """A variant's levels that may be its cheapest, the lowest estimate first."""

    label: str
    levels: tuple[tuple[str, Interval], ...]  # the load in words, USD per million output tokens
    measured: int  # levels with a cost


def cheapest(summary: Summary, workload: Mapping[str, Any]) -> list[Cheapest]:
    """Every variant of a closed loop with more than one level, the study's order."""
    found = []
    for label in summary.labels:
        figures: dict[str, dict[int, float | None]] = {}
        for cell in summary.cells:
            if (cell.label, cell.workload, cell.rate) == (label, workload["name"], None):
                load = load_text(cell.concurrency, None)
                cost = cell.figures.get(COST) if cell.counts else None
                figures.setdefault(load, {})[cell.trial] = cost
        compared = compare(figures, "lower")
        if len(compared.order) > 1:
            first = [load for load in compared.order if compared.places[load][0] == 1]
            levels = tuple((load, compared.means[load]) for load in first)
            found.append(Cheapest(label, levels, len(compared.order)))
    return found

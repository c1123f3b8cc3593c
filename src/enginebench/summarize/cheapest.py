"""At which level of load a variant makes tokens for the least money, as far as trials tell. Pure.

The least of several means is low by chance alone, so that the levels are compared with each other
first: over trials, as every start runs all of them.
"""

from dataclasses import dataclass

from enginebench.base.estimator import compare
from enginebench.record.schema_study import Workload
from enginebench.summarize.groups import COST
from enginebench.summarize.study_summary import Summary


@dataclass(frozen=True, slots=True)
class Cheapest:
    """A variant's levels that may be its cheapest, the lowest estimate first."""

    label: str
    levels: tuple[int, ...]  # requests in flight
    measured: int  # levels with a cost


def cheapest(summary: Summary, workload: Workload) -> list[Cheapest]:
    """Every variant of a closed loop with more than one level, the study's order."""
    found = []
    for label in summary.labels:
        costs: dict[str, dict[int, float | None]] = {}
        for cell in summary.cells:
            if (cell.label, cell.workload, cell.rate) == (label, workload.name, None):
                cost = cell.figures.get(COST) if cell.counts else None
                costs.setdefault(str(cell.concurrency), {})[cell.trial] = cost
        compared = compare(costs, "lower")
        if len(compared.order) > 1:
            first = (int(level) for level in compared.order if compared.places[level][0] == 1)
            found.append(Cheapest(label, tuple(first), len(compared.order)))
    return found

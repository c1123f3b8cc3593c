"""How a latency is spread over the requests of a cell, and over trials. Pure.

A cell keeps a fixed number of quantiles of each latency (``latency.QUANTILES``), whatever its
number of requests. Over trials the same quantile has its arithmetic mean, as a gap may be 0; the
tables have geometric means, which are a little lower where trials differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from enginebench.summarize.cells import CellRow
from enginebench.summarize.study_summary import Summary

#: Fewer requests than these, in every trial, show no distribution.
LEAST_REQUESTS = 10


@dataclass(frozen=True, slots=True)
class Spread:
    """The quantiles of a latency, evenly from the least to the largest, in seconds."""

    mean: tuple[float, ...]  # over trials
    low: tuple[float, ...]  # the lowest trial
    high: tuple[float, ...]
    trials: int
    samples: int  # requests of the smallest trial


def spreads(summary: Summary, workload: str, level: float, name: str) -> dict[str, Spread]:
    """Variant -> the distribution of a latency (``ttft_s``, ``itl_s`` ...) at one level."""
    found = {}
    for label in summary.labels:
        cells = [
            cell
            for cell in summary.cells
            if (cell.label, cell.workload, cell.level) == (label, workload, level) and cell.counts
        ]
        spread = _spread(cells, name)
        if spread is not None and spread.samples >= LEAST_REQUESTS:
            found[label] = spread
    return found


def _spread(cells: Sequence[CellRow], name: str) -> Spread | None:
    rows = [row for cell in cells if (row := cell.quantiles.get(name))]
    if not rows:
        return None
    stacked = np.asarray(rows, dtype=np.float64)
    mean, low, high = (f(stacked, axis=0).tolist() for f in (np.mean, np.min, np.max))
    samples = min(int(cell.figures["requests"] or 0) for cell in cells)
    return Spread(tuple(mean), tuple(low), tuple(high), len(rows), samples)

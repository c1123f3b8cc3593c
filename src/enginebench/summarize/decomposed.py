"""A study's decompositions at every level of load, by every figure that they explain. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from enginebench.record.schema_decomposition import Decomposition
from enginebench.record.schema_study import Workload
from enginebench.summarize import attribution
from enginebench.summarize.attribution import Factorial, Ladder
from enginebench.summarize.cells import CellRow
from enginebench.summarize.groups import COST, RATE
from enginebench.summarize.ranking import WAIT
from enginebench.summarize.study_summary import Summary, levels

NOT_PLANNED = "not planned at this load"
NO_FIGURE = "ran, but has no such figure"


@dataclass(frozen=True, slots=True)
class Attribution:
    """One decomposition at one level of load, by one figure."""

    decomposition: str
    workload: str
    level: float
    figure: str
    ladder: Ladder | None  # None: the decomposition has none
    factorial: Factorial | None  # None: it has no switches


def attributions(summary: Summary) -> list[Attribution]:
    """Every decomposition of the study, in its own order of workloads, levels and figures."""
    return [
        found
        for decomposed in summary.study.study.decompositions
        for workload in summary.study.study.workloads
        for level in levels(workload)
        for found in _at_level(summary, decomposed, workload, level)
    ]


def main_figure(workload: Workload) -> str:
    """What a workload shows first: output tokens/s; at a given rate, how long engines let wait."""
    return RATE if workload.concurrency else WAIT


def figures(summary: Summary, workload: Workload) -> tuple[str, ...]:
    """The figures that are explained, the main one first."""
    is_gpu = summary.study.device == "cuda"
    memory = "gpu_memory_peak_bytes" if is_gpu else "memory_peak_bytes"
    if workload.concurrency:
        return RATE, "ttft_s_p50", "tpot_s_p50", memory, COST
    return WAIT, "tpot_s_p50", memory


def _at_level(
    summary: Summary, decomposed: Decomposition, workload: Workload, level: float
) -> Iterator[Attribution]:
    """By each figure that any run has; by the main one wherever a run was planned."""
    labels = {*(rung.run for rung in decomposed.ladder), *decomposed.runs}
    cells = [
        cell
        for cell in summary.cells
        if (cell.workload, cell.level) == (workload.name, level) and cell.label in labels
    ]
    if not cells:
        return
    for figure in figures(summary, workload):
        found = summary.comparisons[workload.name, level, figure]
        if figure != main_figure(workload) and not labels & set(found.means):
            continue
        reason = partial(_reason, cells, figure, _left_out(summary) | dict(found.excluded))
        rungs, switches = decomposed.ladder, decomposed.switches
        yield Attribution(
            decomposition=decomposed.name,
            workload=workload.name,
            level=level,
            figure=figure,
            ladder=attribution.ladder(rungs, found, reason) if rungs else None,
            factorial=attribution.factorial(decomposed, found, reason) if switches else None,
        )


def _left_out(summary: Summary) -> dict[str, str]:
    """The variants that this machine cannot run, and why not; records before schema 4 have none."""
    return {one.label: one.reason for one in summary.study.left_out}


def _reason(cells: Sequence[CellRow], figure: str, known: Mapping[str, str], label: str) -> str:
    """Why a run has no figure at a level; of invalid cells, what is wrong with the first."""
    own = [cell for cell in cells if cell.label == label]
    if not own:
        return known.get(label, NOT_PLANNED)
    if not any(cell.counts for cell in own):
        return next(f.text for f in own[0].findings if f.verdict == "invalid")
    if all(cell.figures.get(figure) is None for cell in own if cell.counts):
        return NO_FIGURE
    return known.get(label, NO_FIGURE)

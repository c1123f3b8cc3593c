"""The part of a report on prefill, decode and their lengths. Pure: tables and sentences."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from enginebench.base.estimator import Interval
from enginebench.report.formats import NOT_MEASURED, number
from enginebench.report.memory_report import Table
from enginebench.summarize import growth, length_grid, phases
from enginebench.summarize.length_grid import Grid
from enginebench.summarize.phases import Curve, Phase
from enginebench.summarize.study_summary import Summary

#: Phase -> what it is called, what its lengths are of, and what its other length is of.
WORDS = {
    "prefill": ("prefill: TTFT", "prompt", "output"),
    "decode": ("decode: first to last token", "output after the first", "prompt"),
    "itl": ("gap between tokens (ITL)", "context", "output"),
}
#: Phase -> factor from s a token, digits, unit: what one more token takes.
SLOPES = {
    "prefill": (1e6, 1, "ms per 1,000 prompt tokens"),
    "decode": (1e3, 2, "ms per output token"),
    "itl": (1e6, 3, "ms per 1,000 tokens of context"),
}

HEADINGS = [
    "engine/variant", "what grows", "tokens", "beside it", "constant ms", "each further token",
    "exponent", "between the two longest", "floor at the longest",
]  # fmt: skip


def table(found: Sequence[Phase]) -> Table:
    """The fits of every phase and variant."""
    rows = [_row(phase, curve) for phase in found for curve in phase.curves]
    return Table(HEADINGS, rows)


def _row(phase: Phase, curve: Curve) -> list[str]:
    what, over, other = WORDS[phase.name]
    factor, digits, unit = SLOPES[phase.name]
    line, law, last = curve.line, curve.law, curve.points[-1]
    slope = f"{line.slope * factor:,.{digits}f} ± {line.slope_error * factor:,.{digits}f} {unit}"
    floor = None if last.floor_s is None else last.floor_s / last.seconds.mean
    return [
        curve.label,
        what,
        f"{curve.points[0].tokens:,.0f} to {last.tokens:,.0f} of the {over}",
        f"{other} of {phase.fixed_tokens:,}",
        f"{line.constant * 1e3:,.1f}",
        slope,
        f"{law.exponent:.2f} ± {law.exponent_error:.2f}",
        f"{law.last_exponent:.2f}",
        NOT_MEASURED if floor is None else f"{floor:.0%}",
    ]


def sentences(found: Sequence[Phase]) -> Iterator[str]:
    """What a token of each kind takes; a sentence whose condition does not hold is not there."""
    slopes = {
        name: {curve.label: curve.line.slope for phase in found if phase.name == name
               for curve in phase.curves}
        for name in ("prefill", "decode")
    }  # fmt: skip
    for label, prompt_s in slopes["prefill"].items():
        output_s = slopes["decode"].get(label)
        if output_s is not None and prompt_s > 0 and output_s > prompt_s:
            yield (
                f"{label}: a further token of the prompt takes {prompt_s * 1e3:.3g} ms, a further "
                f"token of the output {output_s * 1e3:.3g} ms, {output_s / prompt_s:,.0f} times "
                "as long."
            )
    for phase in found:
        for curve in phase.curves:
            law = curve.law
            if phase.name == "decode" and law.last_exponent > 1.2:
                yield (
                    f"{curve.label}: decode grows faster than its output (exponent "
                    f"{law.last_exponent:.2f} between the two longest): each token takes longer "
                    "than the one before."
                )


@dataclass(frozen=True, slots=True)
class HeatRow:
    """One variant and prompt length: its name, and a text and a shade a column."""

    name: list[str]
    cells: list[tuple[str, float]]  # the text, and how far it is between the least and the most


@dataclass(frozen=True, slots=True)
class HeatTable:
    """P50 and P95 of one latency over the grid of lengths."""

    title: str
    headings: list[str]
    rows: list[HeatRow]


#: Title, figure without its percentile, factor from s, digits.
HEATED = (
    ("Time of a request (E2E), s", "e2e_s", 1.0, 2),
    ("Time to first token (TTFT), ms", "ttft_s", 1e3, 0),
    ("Gap between tokens (ITL), ms", "itl_s", 1e3, 1),
)


def heat_tables(summary: Summary) -> list[HeatTable]:
    """The grid of lengths, if the study has one."""
    found = length_grid.grid(summary)
    if found is None:
        return []
    return [_heat_table(summary, found, *columns) for columns in HEATED]


def _heat_table(
    summary: Summary, found: Grid, title: str, figure: str, factor: float, digits: int
) -> HeatTable:
    medians = [
        value.mean
        for group in found.cells.values()
        if (value := group.figures[f"{figure}_p50"]) is not None and value.mean > 0
    ]
    low, high = (min(medians), max(medians)) if medians else (1.0, 1.0)
    rows = []
    for label in summary.labels:
        for prompt in found.prompts:
            cells = []
            for output in found.outputs:
                group = found.cells.get((label, prompt, output))
                ends = [group.figures[f"{figure}_{p}"] if group else None for p in ("p50", "p95")]
                texts = (number(end.mean if end else None, digits, factor) for end in ends)
                cells.append((" / ".join(texts), _shade(ends[0], low, high)))
            if any(found.cells.get((label, prompt, output)) for output in found.outputs):
                rows.append(HeatRow([label, f"{prompt:,}"], cells))
    headings = ["engine/variant", "prompt", *(f"{output:,} out" for output in found.outputs)]
    return HeatTable(f"{title}: P50 / P95, {found.in_flight} in flight", headings, rows)


def _shade(found: Interval | None, low: float, high: float) -> float:
    """From 0 at the least median to 1 at the largest, on logarithms."""
    if found is None or found.mean <= 0 or high <= low:
        return 0.0
    return math.log(found.mean / low) / math.log(high / low)


def values(summary: Summary) -> dict[str, object]:
    """What the templates need."""
    found = phases.phases(summary)
    return {
        "phase_table": table(found),
        "phase_sentences": list(sentences(found)),
        "heat_tables": heat_tables(summary),
        "least_points": growth.MINIMUM_POINTS,
    }

"""The figure of what the machine did during a study, above the cells that were run meanwhile."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from enginebench.metrics.machine_load import LoadPoint
from enginebench.report.charts.style import SIZE_INCHES, STYLE, Drawing, Mark, looks

INK, SOFT = "#000000", "#777777"
MOST_POINTS = 1200  # a curve: of more, the largest value of neighbours is drawn
MINUTE_S = 60.0
GHZ = 1e9


@dataclass(frozen=True, slots=True)
class CellSpan:
    """One attempt of one cell, and the machine during it."""

    variant: str  # ``engine/variant``
    name: str  # cell, trial and attempt, for whoever points at it
    start_s: float
    end_s: float
    points: tuple[LoadPoint, ...]
    is_disturbed: bool


def machine_plot(
    spans: Sequence[CellSpan], order: Sequence[str], cpus: int | None, title: str
) -> Drawing | None:
    """Others' CPU, steal and frequency on the study's time, and below them its cells.

    Nothing is drawn between cells, as nothing was measured there. A panel without a value is left
    out; None where there is no panel at all.

    Args:
        order: all variants of the study, so that each has its colour.
        cpus: that the study may use, for the first panel's height.
    """
    panels: list[tuple[str, Callable[[LoadPoint], float | None]]] = [
        ("others, cores", lambda point: _at_least_0(point.others_cores)),
        ("steal, cores", lambda point: point.steal_cores),
        ("GHz", lambda point: None if point.frequency_hz is None else point.frequency_hz / GHZ),
    ]
    known = [
        (name, read)
        for name, read in panels
        if any(read(point) is not None for span in spans for point in span.points)
    ]
    if not known:
        return None
    start_s = min(span.start_s for span in spans)
    marks: list[Mark] = []
    with plt.rc_context(STYLE):
        heights = (*([1.2] * len(known)), 0.8)
        figure, axes = plt.subplots(
            len(heights),
            1,
            figsize=(SIZE_INCHES[0], 0.85 * sum(heights) + 0.6),
            sharex=True,
            height_ratios=heights,
            squeeze=False,
        )
        for (name, read), panel in zip(known, axes[:-1, 0], strict=True):
            marks += _curve(panel, spans, start_s, name, read)
            _axis(panel, name, cpus)
        marks += _cells(axes[-1, 0], spans, order, start_s)
        axes[0, 0].set_title(title, loc="left", fontweight="bold", fontsize=10)
        figure.align_ylabels()
        figure.tight_layout()
        return Drawing(figure, tuple(marks))


def _at_least_0(value: float | None) -> float | None:
    """Below 0 is the error of the counters."""
    return None if value is None else max(value, 0.0)


def _axis(panel: Axes, name: str, cpus: int | None) -> None:
    panel.set_ylabel(name)
    top = panel.dataLim.y1 * 1.15
    if name.startswith("others"):
        top = max(top, min(cpus or 1.0, 1.0))  # so that noise looks small
    elif name.startswith("steal"):
        top = max(top, 0.1)
    panel.set_ylim(0, top)


def _curve(
    panel: Axes,
    spans: Sequence[CellSpan],
    start_s: float,
    name: str,
    read: Callable[[LoadPoint], float | None],
) -> Iterator[Mark]:
    """One line a cell, with the highest value of each cell to point at."""
    every = max(1, -(-sum(len(span.points) for span in spans) // MOST_POINTS))
    for span in spans:
        values = [(p.t_s, v) for p in span.points if (v := read(p)) is not None]
        groups = [values[k : k + every] for k in range(0, len(values), every)]
        drawn = [(t_s, max(v for _, v in group)) for group in groups for t_s, _ in group[-1:]]
        if span.is_disturbed:
            ends = ((t_s - start_s) / MINUTE_S for t_s in (span.start_s, span.end_s))
            panel.axvspan(*ends, color=SOFT, alpha=0.25, linewidth=0)
        if not drawn:
            continue
        x = [(t_s - start_s) / MINUTE_S for t_s, _ in drawn]
        y = [value for _, value in drawn]
        panel.plot(x, y, color=INK, linewidth=1.0)
        top = max(range(len(y)), key=y.__getitem__)
        yield Mark(panel, x[top], y[top], f"{span.name}: at most {y[top]:.3g} {name}")


def _cells(
    panel: Axes, spans: Sequence[CellSpan], order: Sequence[str], start_s: float
) -> Iterator[Mark]:
    """A bar a cell in its engine's colour; one that others disturbed is taller and hatched."""
    styles = looks(order)
    for span in spans:
        left = (span.start_s - start_s) / MINUTE_S
        width = (span.end_s - span.start_s) / MINUTE_S
        panel.barh(
            0,
            width,
            left=left,
            height=1.0 if span.is_disturbed else 0.6,
            color=styles[span.variant].colour,
            edgecolor=INK if span.is_disturbed else "none",
            hatch="////" if span.is_disturbed else None,
            linewidth=0.8,
        )
        state = ", others disturbed it" if span.is_disturbed else ""
        yield Mark(panel, left + width / 2, 0, f"{span.name}{state}")
    panel.set_ylim(-0.7, 0.7)
    panel.set_yticks([])
    panel.grid(visible=False)
    panel.set_ylabel("cells")
    shaded = "; shaded: others disturbed it" if any(s.is_disturbed for s in spans) else ""
    panel.set_xlabel(f"minutes since the first cell{shaded}")

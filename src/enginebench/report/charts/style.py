"""What all figures of a report share: colours, axes, labels, and how a figure is saved.

The same values give the same bytes. An engine has one colour in every figure, a variant of it one
line and marker. Every drawing carries its values as text (marks), for whoever points at them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator
from PIL import Image

from enginebench.base.estimator import Interval
from enginebench.report.charts import svg

mpl.use("Agg")

# Okabe and Ito's palette: told apart with every common kind of colour blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = "osD^vPX*"
LINES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (7, 2, 1.5, 2)))
STYLE: Any = {
    "svg.hashsalt": "enginebench",  # otherwise every build has other ids
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
}
SIZE_INCHES = (5.0, 3.5)  # on a phone's width its text is still 9 pixels high
# The same for all, so that figures beside each other have their axes at one height.
MARGINS = {"left": 0.175, "bottom": 0.15, "top": 0.92}
LABEL_POINTS = 9.0
LABEL_GAP = 12.0  # points between two labels at the lines' ends
WIDE_LETTER = 4.8  # points that a letter of a label takes
LEAST_RANGE = 4.0  # of a logarithmic axis: its top over its bottom
ASIDE = 0.014  # of the axis, from one variant's intervals to the next one's


@dataclass(frozen=True, slots=True)
class Look:
    """How a variant is drawn."""

    colour: str  # of its engine
    line: Any
    marker: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A value in a figure, and what it says to whoever points at it."""

    axes: Axes
    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Drawing:
    figure: Figure
    marks: tuple[Mark, ...]


def looks(order: Sequence[str]) -> dict[str, Look]:
    """Variant -> how it is drawn, by its place in the study.

    Args:
        order: all variants (``engine/variant``) of the study, so that each looks alike throughout.
    """
    engines = list(dict.fromkeys(label.partition("/")[0] for label in order))
    made, seen = {}, dict.fromkeys(engines, 0)
    for label in order:
        engine = label.partition("/")[0]
        number, seen[engine] = seen[engine], seen[engine] + 1
        made[label] = Look(
            COLOURS[engines.index(engine) % len(COLOURS)],
            LINES[number % len(LINES)],
            MARKERS[number % len(MARKERS)],
        )
    return made


def exact_text(found: Interval) -> str:
    """Four digits that count, with the interval if there is one."""
    if found.low is None or found.high is None:
        return f"{found.mean:,.4g} (no interval)"
    return f"{found.mean:,.4g} [{found.low:,.4g}, {found.high:,.4g}]"


def level_axis(axes: Axes, levels: Sequence[float], load: str) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(list(levels)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.set_xlabel(load)
    if len(levels) == 1:
        axes.set_xlim(levels[0] / 2, levels[0] * 2)


def value_axis(axes: Axes, unit: str, log: bool) -> None:
    axes.set_ylabel(unit)
    if log:
        axes.set_yscale("log")
        axes.set_ylim(widened(*axes.get_ylim()))
        axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(0, axes.dataLim.y1 * 1.08)
    axes.yaxis.set_major_formatter(FuncFormatter(plain))


def widened(low: float, high: float) -> tuple[float, float]:
    """The ends of a logarithmic axis, LEAST_RANGE apart: small differences must look small."""
    room = max(1.0, (LEAST_RANGE * low / high) ** 0.5)
    return low / room, high * room


def plain(value: float, _: object = None) -> str:
    """A number on an axis, without an exponent."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def finish(
    figure: Figure, axes: Axes, title: str, ends: Sequence[tuple[float, float, str, str]]
) -> None:
    """Title, margins, and the names beside the lines' ends.

    Args:
        ends: x and y of each line's end, its name and its colour.
    """
    axes.set_title(title, loc="left", fontweight="bold", fontsize=10)
    room = max(_width(label) for *_, label, _ in ends) + 14
    figure.subplots_adjust(**MARGINS, right=1 - room / (figure.get_figwidth() * 72))
    _end_labels(figure, axes, ends)


def _width(label: str) -> float:
    """Points; an estimate, as the page's own font is not known here."""
    return len(label) * WIDE_LETTER


def _end_labels(figure: Figure, axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Write each line's name beside its end, moved apart where they would overlap."""
    places = axes.transData.transform([(x, y) for x, y, _, _ in ends]) * 72 / figure.dpi
    bottom, top = (axes.transAxes.transform((0, y))[1] * 72 / figure.dpi for y in (0, 1))
    boxes = [
        (float(x), float(y), _width(label))
        for (x, y), (*_, label, _) in zip(places, ends, strict=True)
    ]
    heights = spread(boxes, bottom + 3, top - 3)
    for (x, y, label, colour), (_, was, _), now in zip(ends, boxes, heights, strict=True):
        axes.annotate(
            label,
            (x, y),
            xytext=(9, now - was),
            textcoords="offset points",
            color=colour,
            annotation_clip=False,
            fontsize=LABEL_POINTS,
            verticalalignment="center",
        )


def spread(
    boxes: Sequence[tuple[float, float, float]], lowest: float, highest: float
) -> list[float]:
    """Heights for labels: their own, but LABEL_GAP apart where they are above each other, and
    inside the axes if there is room.

    Args:
        boxes: left edge, height and width of each label, in points.
    """
    order = sorted(range(len(boxes)), key=lambda index: boxes[index][1])
    placed = [height for _, height, _ in boxes]
    for upward, indices in ((True, order), (False, order[::-1])):
        for position, index in enumerate(indices):
            others = [placed[other] for other in indices[:position] if _meet(boxes, index, other)]
            if upward:
                placed[index] = max([placed[index], lowest, *(o + LABEL_GAP for o in others)])
            else:
                placed[index] = min([placed[index], highest, *(o - LABEL_GAP for o in others)])
    return placed


def _meet(boxes: Sequence[tuple[float, float, float]], a: int, b: int) -> bool:
    """Whether one label is above the other, or would be at its height."""
    return abs(boxes[a][0] - boxes[b][0]) < max(boxes[a][2], boxes[b][2])


def save(figure: Figure, stem: Path, marks: Sequence[Mark] = ()) -> None:
    """Write PNG and SVG, without a date or a version in them."""
    with plt.rc_context(STYLE):
        drawing = stem.with_suffix(".png")
        figure.savefig(drawing, dpi=200, metadata={"Software": None})
        _reduce(drawing)
        path = stem.with_suffix(".svg")
        figure.savefig(path, metadata={"Date": None, "Creator": None})
    drawn = svg.shortened(path.read_text(encoding="utf-8"))
    if marks:
        drawn = svg.with_marks(drawn, [_place(figure, m) for m in marks])
    path.write_text(drawn, encoding="utf-8")
    plt.close(figure)


def _reduce(drawing: Path) -> None:
    """Give a PNG of few colours a palette, which takes a third of the bytes."""
    with Image.open(drawing) as image:
        reduced = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    reduced.save(drawing, optimize=True)


def _place(figure: Figure, mark: Mark) -> tuple[float, float, str]:
    """Where a mark lies in the SVG, in points from its upper left corner."""
    x, y = mark.axes.transData.transform((mark.x, mark.y)) * 72 / figure.dpi
    return float(x), float(figure.get_figheight() * 72 - y), mark.text

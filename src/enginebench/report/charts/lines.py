"""The figures of a report against the load and against the length."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from enginebench.base.estimator import Interval
from enginebench.report.charts.style import (
    ASIDE,
    SIZE_INCHES,
    STYLE,
    Drawing,
    Look,
    Mark,
    exact_text,
    finish,
    level_axis,
    looks,
    value_axis,
)

Point = tuple[str, float, Interval | None]  # variant, level of load, the figure


def line_plot(
    points: Sequence[Point],
    order: Sequence[str],
    title: str,
    unit: str,
    load: str,
    *,
    log: bool,
) -> Drawing | None:
    """A figure against the load, one line a variant, labelled at its end; None if it is empty.

    Args:
        points: one workload's values, in ``unit``.
        load: what the levels are of.
        order: all variants of the study.
        log: logarithmic value axis; otherwise it starts at zero.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=SIZE_INCHES)
        ends, marks = [], []
        levels = sorted({x for _, x, _ in points})
        step = (levels[-1] / levels[0]) ** ASIDE if levels else 1.0
        for index, (label, look) in enumerate(looks(order).items()):
            # Side by side, as intervals at one place would hide each other.
            aside = step ** (index - (len(order) - 1) / 2)
            line = sorted(
                ((x, found) for name, x, found in points if name == label and found),
                key=lambda point: point[0],
            )
            if line:
                _line(axes, [(x * aside, found) for x, found in line], look)
                beyond = line[-1][0] * step ** (len(order) / 2)
                ends.append((beyond, line[-1][1].mean, label, look.colour))
                marks += [
                    Mark(axes, x * aside, v.mean, f"{label}, {x:g} {load}: {exact_text(v)} {unit}")
                    for x, v in line
                ]
        if not ends:
            plt.close(figure)
            return None
        level_axis(axes, levels, load)
        value_axis(axes, unit, log)
        finish(figure, axes, title, ends)
        return Drawing(figure, tuple(marks))


def _line(axes: Axes, points: Sequence[tuple[float, Interval]], look: Look) -> None:
    axes.plot(
        [level for level, _ in points],
        [v.mean for _, v in points],
        color=look.colour,
        linestyle=look.line,
        marker=look.marker,
        markersize=5,
    )
    for level, found in points:
        if found.low is not None and found.high is not None:
            axes.vlines(level, found.low, found.high, color=look.colour, alpha=0.4, linewidth=2.5)


def length_plot(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    order: Sequence[str],
    title: str,
    unit: str,
    over: str,
) -> Drawing:
    """A figure against the length of a request, both logarithmic: a power law is a straight line.

    Args:
        curves: variant -> (tokens, value), values in ``unit`` and above zero.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=SIZE_INCHES)
        ends, marks, all_looks = [], [], looks(order)
        for label, points in curves.items():
            look = all_looks[label]
            x, y = zip(*sorted(points), strict=True)
            axes.plot(
                x, y, color=look.colour, linestyle=look.line, marker=look.marker, markersize=5
            )
            ends.append((x[-1], y[-1], label, look.colour))
            marks += [
                Mark(axes, at, v, f"{label}, {at:.0f} tokens: {v:,.4g} {unit}")
                for at, v in sorted(points)
            ]
        level_axis(axes, sorted({x for points in curves.values() for x, _ in points}), over)
        value_axis(axes, unit, log=True)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.0f}"))
        finish(figure, axes, title, ends)
        return Drawing(figure, tuple(marks))

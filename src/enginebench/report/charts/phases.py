"""The figures of prefill and decode: times against lengths, and the roofline picture."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from enginebench.base import stats
from enginebench.report.charts.style import (
    LABEL_POINTS,
    SIZE_INCHES,
    STYLE,
    Drawing,
    Look,
    Mark,
    exact_text,
    finish,
    level_axis,
    looks,
    plain,
    value_axis,
)
from enginebench.summarize.phases import Curve, Phase, Placed, Roof

SOFT = "#777777"  # of what the hardware allows, in every theme
STEPS = 60  # points of a drawn fit
MS = 1e3
GIGA = 1e9
ROOM = 1.6  # of the roofline picture's axes, beyond its outermost points
APART = 1.9  # from one named length to the next


def phase_plot(phase: Phase, order: Sequence[str], title: str, over: str) -> Drawing:
    """A time against a length, with each variant's straight line and the hardware's floor.

    Both axes are logarithmic, so that a power law is straight and a line a + b·n is not: it starts
    flat at a and ends at a slope of 1.

    Args:
        order: all variants of the study.
        over: what the lengths are of.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=SIZE_INCHES)
        ends, marks, all_looks = [], [], looks(order)
        lengths = {point.tokens for curve in phase.curves for point in curve.points}
        longest = max(lengths)
        for curve in phase.curves:
            look = all_looks[curve.label]
            marks += _points(axes, curve, look)
            _fitted(axes, curve, look)
            last = curve.points[-1]
            if last.tokens == longest:
                ends.append((last.tokens, last.seconds.mean * MS, curve.label, look.colour))
            else:  # beside its end there may be other lines
                _named_above(axes, curve, look)
        for dtype, floor in _floors(phase).items():
            x, y = zip(*floor, strict=True)
            axes.plot(x, y, color=SOFT, linewidth=1.2, linestyle=(0, (4, 2)), zorder=1)
            name = "floor" if len(_floors(phase)) == 1 else f"floor, {dtype}"
            ends.append((x[-1], y[-1], name, SOFT))
            marks += [Mark(axes, a, b, f"{name}, {a:.0f} tokens: {b:,.4g} ms") for a, b in floor]
        level_axis(axes, _apart(sorted(lengths)), over)
        axes.set_xlim(min(lengths) / 1.15, longest * 1.15)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        value_axis(axes, "milliseconds", log=True)
        finish(figure, axes, title, ends)
        return Drawing(figure, tuple(marks))


def _apart(lengths: Sequence[float]) -> list[float]:
    """The lengths that the axis names: those too near to the next one have no room."""
    named = [lengths[-1]]
    for length in reversed(lengths[:-1]):
        if named[-1] / length >= APART:
            named.append(length)
    return named[::-1]


def _points(axes: Axes, curve: Curve, look: Look) -> list[Mark]:
    marks = []
    for point in curve.points:
        found = stats.scaled(point.seconds, MS)
        assert found is not None
        axes.plot(
            point.tokens, found.mean, color=look.colour, marker=look.marker, markersize=5, zorder=3
        )
        if found.low is not None and found.high is not None:
            ends = (found.low, found.high)
            axes.vlines(point.tokens, *ends, color=look.colour, alpha=0.4, linewidth=2.5)
        text = f"{curve.label}, {point.tokens:.0f} tokens: {exact_text(found)} ms"
        marks.append(Mark(axes, point.tokens, found.mean, text))
    return marks


def _named_above(axes: Axes, curve: Curve, look: Look) -> None:
    last = curve.points[-1]
    axes.annotate(
        curve.label,
        (last.tokens, last.seconds.mean * MS),
        xytext=(-8, 4),
        textcoords="offset points",
        color=look.colour,
        fontsize=LABEL_POINTS,
        horizontalalignment="right",
    )


def _fitted(axes: Axes, curve: Curve, look: Look) -> None:
    """The straight line of the fit, where it is above half of the least value measured: below, it
    fits nothing."""
    x = np.geomspace(curve.points[0].tokens, curve.points[-1].tokens, STEPS)
    y = (curve.line.constant + curve.line.slope * x) * MS
    least = min(point.seconds.mean for point in curve.points) * MS
    shown = y > least / 2
    axes.plot(x[shown], y[shown], color=look.colour, linestyle=look.line, linewidth=1.3, zorder=2)


def _floors(phase: Phase) -> dict[str, list[tuple[float, float]]]:
    """Dtype of the weights -> the least times, in ms, at all lengths of all its variants."""
    found: dict[str, dict[float, float]] = {}
    for curve in phase.curves:
        for point in curve.points:
            if curve.dtypes is not None and point.floor_s is not None:
                found.setdefault(curve.dtypes.weights, {})[point.tokens] = point.floor_s * MS
    return {dtype: sorted(values.items()) for dtype, values in found.items()}


def roofline_plot(
    placed: Sequence[Placed],
    roofs: Mapping[str, Sequence[Roof]],
    order: Sequence[str],
    title: str,
) -> Drawing:
    """FLOP/s against FLOP/byte below the roofs; prefill is filled, decode is hollow.

    Args:
        placed: not empty.
        roofs: what a roof is of (``data sheet``, ``measured``) -> one a dtype.
        order: all variants of the study.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=SIZE_INCHES)
        all_looks, marks, ends = looks(order), [], []
        left = min(point.intensity for point in placed) / ROOM
        right = max(point.intensity for point in placed) * ROOM
        for of, found in roofs.items():
            for index, roof in enumerate(found):
                y = _roof(axes, roof, left, right, index)
                name = roof.dtype if len(roofs) == 1 else f"{roof.dtype}, {of}"
                ends.append((right, y, name, SOFT))
        for point in placed:
            look = all_looks[point.label]
            is_prefill = point.name == "prefill"
            axes.plot(
                point.intensity,
                point.flops_per_s / GIGA,
                color=look.colour,
                marker=look.marker,
                markersize=6,
                markerfacecolor=look.colour if is_prefill else "none",
                linestyle="",
                zorder=3,
            )
            of = "prompt" if is_prefill else "context"
            text = f"{point.label}, {point.name}, {of} of {point.tokens:.0f} tokens: "
            text += f"{point.flops_per_s / GIGA:,.4g} GFLOP/s at {point.intensity:,.4g} FLOP/byte"
            marks.append(Mark(axes, point.intensity, point.flops_per_s / GIGA, text))
        ends += _outermost(placed, all_looks)
        _roofline_axes(axes, left, right)
        finish(figure, axes, title, ends)
        return Drawing(figure, tuple(marks))


def _roof(axes: Axes, roof: Roof, left: float, right: float, index: int) -> float:
    """Draw min(bandwidth · intensity, peak); its height at the right end, in GFLOP/s."""
    x = np.geomspace(left, right, STEPS * 4)
    y = np.minimum(roof.bandwidth_bytes_per_s * x, roof.peak_flops_per_s) / GIGA
    axes.plot(x, y, color=SOFT, linewidth=1.4, linestyle="-" if index == 0 else (0, (4, 2)))
    return float(y[-1])


def _outermost(
    placed: Sequence[Placed], all_looks: Mapping[str, Look]
) -> list[tuple[float, float, str, str]]:
    """Of each variant its point farthest right, where its name stands."""
    last: dict[str, Placed] = {}
    for point in sorted(placed, key=lambda point: point.intensity):
        last[point.label] = point
    return [
        (point.intensity, point.flops_per_s / GIGA, label, all_looks[label].colour)
        for label, point in last.items()
    ]


def _roofline_axes(axes: Axes, left: float, right: float) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(left, right)
    low, high = axes.get_ylim()
    axes.set_ylim(low / ROOM, high * ROOM)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(base=10))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(plain))
    axes.set_xlabel("FLOP/byte (hollow: decode, filled: prefill)")
    axes.set_ylabel("GFLOP/s")

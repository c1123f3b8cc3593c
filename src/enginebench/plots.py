"""The figures of a report, from its groups. The same groups give the same bytes."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from enginebench.memory import Sample
from enginebench.stats import Interval

mpl.use("Agg")

# Okabe and Ito's palette: told apart with every common kind of colour blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = "osD^vPX*"
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
SIZE_INCHES = (7.2, 4.0)
LABEL_GAP = 13.0  # points between two labels at the lines' ends

Point = tuple[str, float, Interval | None]  # variant, level of load, the figure


def line_plot(
    points: Sequence[Point],
    order: Sequence[str],
    title: str,
    unit: str,
    load: str,
    *,
    log: bool,
) -> Figure | None:
    """A figure against the load, one line a variant, labelled at its end; None if it is empty.

    Args:
        points: one workload's values, in ``unit``.
        load: what the levels are of.
        order: all variants of the study, so that a variant has one colour throughout.
        log: logarithmic value axis; otherwise it starts at zero.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=SIZE_INCHES)
        ends = []
        for index, label in enumerate(order):
            line = sorted(
                ((x, found) for name, x, found in points if name == label and found),
                key=lambda point: point[0],
            )
            if line:
                _line(axes, line, index)
                ends.append((line[-1][0], line[-1][1].mean, label, COLOURS[index % 8]))
        if not ends:
            plt.close(figure)
            return None
        _axes(axes, sorted({x for _, x, _ in points}), unit, load, log)
        axes.set_title(title, loc="left", fontweight="bold")
        figure.tight_layout()
        _end_labels(figure, axes, ends)
        return figure


def _line(axes: Axes, points: Sequence[tuple[float, Interval]], index: int) -> None:
    colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
    x = [level for level, _ in points]
    axes.plot(x, [v.mean for _, v in points], color=colour, marker=marker, markersize=5)
    for level, found in points:
        if found.low is not None and found.high is not None:
            # An interval that reaches below zero is drawn down to where a figure can be.
            low = max(found.low, found.mean / 10)
            axes.vlines(level, low, found.high, color=colour, alpha=0.4, linewidth=4)


def _axes(axes: Axes, levels: Sequence[float], unit: str, load: str, log: bool) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(list(levels)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.set_xlabel(load)
    axes.set_ylabel(unit)
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    else:
        axes.set_ylim(bottom=0)
    if len(levels) == 1:
        axes.set_xlim(levels[0] / 2, levels[0] * 2)


def _end_labels(figure: Figure, axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Write each line's name beside its end, moved apart where they would overlap."""
    scale = 72 / figure.dpi
    placed: list[tuple[float, float, float, str, str]] = []
    lowest = float("-inf")
    for x, y, label, colour in sorted(ends, key=lambda end: end[1]):
        at = float(axes.transData.transform((x, y))[1]) * scale
        lowest = max(at, lowest + LABEL_GAP)
        placed.append((x, y, lowest - at, label, colour))
    for x, y, shift, label, colour in placed:
        axes.annotate(
            label,
            (x, y),
            xytext=(9, shift - 3),
            textcoords="offset points",
            color=colour,
            annotation_clip=False,
            fontsize=9,
        )
    figure.subplots_adjust(right=0.76)


def save(figure: Figure, stem: Path) -> None:
    """Write PNG and SVG, without a date or a version in them."""
    with plt.rc_context(STYLE):
        figure.savefig(stem.with_suffix(".png"), dpi=144, metadata={"Software": None})
        figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None, "Creator": None})
    plt.close(figure)


def timeline(
    samples: Sequence[Sample],
    resident: Sequence[tuple[float, float]],
    power: Sequence[tuple[float, float]],
    capacity_tokens: float | None,
    title: str,
) -> Figure:
    """A cell over time: KV tokens, the requests behind them, the memory the machine shows, power.

    Args:
        samples: one a scrape, at least two.
        resident: time in s and bytes.
        power: time in s and watts; none: no panel for it.
    """
    start_s = samples[0].t_s
    with plt.rc_context(STYLE):
        heights = (3, 1.5, 1, 1) if power else (3, 1.5, 1)
        figure, panels = plt.subplots(
            len(heights), 1, figsize=(7.2, 1.1 * sum(heights)), sharex=True, height_ratios=heights
        )
        tokens, requests, memory = panels[:3]
        times = [sample.t_s - start_s for sample in samples]
        _curve(tokens, times, [s.used_tokens for s in samples], "used, as the engine says", 0)
        _curve(tokens, times, [s.held_tokens for s in samples], "needed, by the client's log", 1)
        if capacity_tokens is not None:
            tokens.axhline(capacity_tokens, color="#777777", linestyle="--", linewidth=1)
            tokens.annotate(
                f"capacity {capacity_tokens:,.0f}",
                (0, capacity_tokens),
                xytext=(3, 3),
                textcoords="offset points",
                color="#777777",
                fontsize=9,
            )
        _mark_preemptions(tokens, times, samples)
        tokens.set_ylabel("KV tokens")
        tokens.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
        _curve(requests, times, [s.running for s in samples], "running", 2)
        _curve(requests, times, [s.waiting for s in samples], "waiting", 3)
        requests.set_ylabel("requests")
        gib = [value / (1 << 30) for _, value in resident]
        _curve(memory, [t - start_s for t, _ in resident], gib, "", 5)
        memory.set_ylabel("memory, GiB")
        if power:
            watts = [value for _, value in power]
            _curve(panels[3], [t - start_s for t, _ in power], watts, "", 4)
            panels[3].set_ylabel("power, W")
        panels[-1].set_xlabel("seconds")
        for axes in panels:
            axes.set_ylim(bottom=0)
            axes.margins(y=0.15)
            if axes.get_legend_handles_labels()[0]:
                axes.legend(
                    loc="lower right", bbox_to_anchor=(1, 0.96), frameon=False, fontsize=8, ncols=3
                )
        requests.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        tokens.set_title(title, loc="left", fontweight="bold", pad=20)
        figure.align_ylabels()
        figure.tight_layout()
        return figure


def _curve(
    axes: Axes, times: Sequence[float], values: Sequence[float | None], label: str, colour: int
) -> None:
    """A step function of what was measured; nothing where it was not."""
    known = [(t, v) for t, v in zip(times, values, strict=True) if v is not None]
    if known:
        x, y = zip(*known, strict=True)
        axes.step(x, y, where="post", color=COLOURS[colour], label=label, linewidth=1.3)


def _mark_preemptions(axes: Axes, times: Sequence[float], samples: Sequence[Sample]) -> None:
    counts = [(t, s.preemptions) for t, s in zip(times, samples, strict=True)]
    known = [(t, count) for t, count in counts if count is not None]
    marked = [t for (_, before), (t, now) in pairwise(known) if now > before]
    if marked:
        axes.plot(
            marked, [0] * len(marked), "|", color=COLOURS[6], markersize=9, label="preempted",
            clip_on=False,
        )  # fmt: skip


def length_plot(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    order: Sequence[str],
    title: str,
    unit: str,
    over: str,
) -> Figure:
    """A figure against the length of a request, both logarithmic: a power law is a straight line.

    Args:
        curves: variant -> (tokens, value), values in ``unit`` and above zero.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=SIZE_INCHES)
        ends = []
        for label, points in curves.items():
            index = order.index(label)
            x, y = zip(*sorted(points), strict=True)
            axes.plot(
                x, y, color=COLOURS[index % 8], marker=MARKERS[index % len(MARKERS)], markersize=5
            )
            ends.append((x[-1], y[-1], label, COLOURS[index % 8]))
        levels = sorted({x for points in curves.values() for x, _ in points})
        _axes(axes, levels, unit, over, log=True)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.0f}"))
        axes.set_title(title, loc="left", fontweight="bold")
        figure.tight_layout()
        _end_labels(figure, axes, ends)
        return figure

"""Two figures of latency: how it is spread over the requests, and what it costs in throughput."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from enginebench.base.percentiles import CONFIDENCE, least_sample
from enginebench.report.charts.style import (
    SIZE_INCHES,
    STYLE,
    Drawing,
    Mark,
    exact_text,
    finish,
    looks,
    plain,
    value_axis,
    widened,
)
from enginebench.summarize.distributions import Spread
from enginebench.summarize.ranking import Pareto


def spread_plot(
    spreads: Mapping[str, Spread], order: Sequence[str], title: str, of: str
) -> Drawing:
    """Latency at every share of the requests, a line a variant: the mean over trials of each
    trial's own percentile, between the lowest and the highest trial.

    Args:
        spreads: variant -> its distribution, in seconds; not empty.
        of: what the shares are of.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=SIZE_INCHES)
        ends, marks = [], []
        for label, look in looks(order).items():
            if label not in spreads:
                continue
            found = spreads[label]
            shares = [100 * index / (len(found.mean) - 1) for index in range(len(found.mean))]
            mean, low, high = ([v * 1e3 for v in x] for x in (found.mean, found.low, found.high))
            axes.plot(shares, mean, color=look.colour, linestyle=look.line, linewidth=1.4)
            if found.trials > 1:
                axes.fill_between(shares, low, high, color=look.colour, alpha=0.15, linewidth=0)
            ends.append((100.0, mean[-1], label, look.colour))
            for percent in _stated(found.samples):
                at = round(percent / 100 * (len(mean) - 1))
                text = f"{label}, p{percent}: {mean[at]:,.4g} ms"
                text += f" [{low[at]:,.4g} to {high[at]:,.4g}]" if found.trials > 1 else ""
                marks.append(Mark(axes, percent, mean[at], text))
        axes.set_xlim(0, 100)
        axes.set_xlabel(f"% of {of} that took no longer")
        axes.xaxis.set_major_locator(FixedLocator([0, 25, 50, 75, 100]))
        value_axis(axes, "milliseconds", log=True)
        finish(figure, axes, title, ends)
        return Drawing(figure, tuple(marks))


def _stated(samples: int) -> list[int]:
    """The percentiles that so many requests allow to be stated."""
    tail = [q for q in (90, 95, 99) if samples >= least_sample(q / 100, CONFIDENCE, 0)]
    return [10, 25, 50, 75, *tail]


def pareto_plot(found: Pareto, order: Sequence[str], title: str) -> Drawing:
    """Throughput over latency, one line a variant through its levels of load; up and to the left is
    better. What no other point beats in both is ringed."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=SIZE_INCHES)
        ends, marks = [], []
        for label, look in looks(order).items():
            mine = sorted(point for point in found.latency if point[0] == label)
            if not mine:
                continue
            x, y = [found.latency[p] for p in mine], [found.rates[p].mean for p in mine]
            axes.plot(
                x, y, color=look.colour, linestyle=look.line, marker=look.marker, markersize=5
            )
            ends.append((x[-1], y[-1], label, look.colour))
            marks += [
                Mark(axes, x, found.rates[point].mean, _point_text(found, point))
                for x, point in zip(x, mine, strict=True)
            ]
        ringed = [(found.latency[p], found.rates[p].mean) for p in found.front]
        axes.plot(
            *zip(*ringed, strict=True), linestyle="", marker="o", markersize=12,
            markerfacecolor="none", markeredgecolor="#777777",
        )  # fmt: skip
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(plain))
        axes.margins(x=0.12)
        axes.set_xlim(widened(*axes.get_xlim()))
        axes.set_xlabel(found.axis)
        value_axis(axes, "output tokens/s", log=False)
        finish(figure, axes, title, ends)
        return Drawing(figure, tuple(marks))


def _point_text(found: Pareto, point: tuple[str, float]) -> str:
    label, level = point
    rate = exact_text(found.rates[point])
    return f"{label}, load {level:g}: {rate} output tokens/s, {found.latency[point]:.4g} s"

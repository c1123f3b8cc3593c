"""A gain taken apart: one bar a change, each from where the last one ended, on a log axis."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from enginebench.base.estimator import Interval, Ratio
from enginebench.base.text import one_line
from enginebench.record.schema_decomposition import Decomposition
from enginebench.report import formats, why
from enginebench.report.charts.style import (
    COLOURS,
    SIZE_INCHES,
    STYLE,
    Drawing,
    Mark,
    exact_text,
    plain,
    widened,
)
from enginebench.summarize.decomposed import Attribution, attributions
from enginebench.summarize.groups import COMPARED, COST, RATE
from enginebench.summarize.ranking import WAIT
from enginebench.summarize.study_summary import Summary

INK, SOFT = "#000000", "#777777"
BETTER, WORSE = COLOURS[2], COLOURS[1]
NAME_LETTERS = 24  # of a line of a bar's name
TITLE_LETTERS = 54  # of a line of the title
ROW_INCHES, LINE_INCHES = 0.24, 0.13  # a bar, and each further line of its name
PANEL_INCHES = 0.55  # a panel beside its bars
FACTOR_ROOM = 0.3  # of the axis, right of the longest bar, for its factor
FAINT = 0.4  # opacity of a bar that is not apart from 1
WHISKER = 20.0  # an interval is drawn so many times beyond its bar's end, and no further
MOST = 1e9  # a panel with a bar beyond it, or below its inverse, is not drawn


@dataclass(frozen=True, slots=True)
class Bar:
    """One change."""

    name: str
    factor: Interval | None  # None: not measured
    word: str  # apart, tie or cannot tell


@dataclass(frozen=True, slots=True)
class Panel:
    """One level of load."""

    title: str
    bars: Sequence[Bar]
    whole: Bar


def waterfalls(summary: Summary, is_main: bool) -> Iterator[tuple[str, Drawing, str]]:
    """File stem, figure and caption of every decomposition: by the main figures, or the others.

    Of switches the bars are their Shapley factors. Costs are left out: they mirror the rates.
    """
    found = attributions(summary)
    for number, decomposed in enumerate(summary.study.study.decompositions, 1):
        own = [one for one in found if one.decomposition == decomposed.name]
        for figure in dict.fromkeys(one.figure for one in own):
            if figure == COST or (figure in (RATE, WAIT)) != is_main:
                continue
            at_levels = [one for one in own if one.figure == figure]
            name, is_more_better = why.SHOWN[figure][0], COMPARED[figure] == "higher"
            title = f"{decomposed.title or decomposed.name}: {name}"
            for kind, start, make in (
                ("ladder", "the first rung", _ladder_panel),
                ("switches", "all switches off", _switches_panel),
            ):
                panels = [p for one in at_levels if (p := make(summary, decomposed, one))]
                axis = f"{name}, times {start}"
                drawn = waterfall(panels, title, axis, is_more_better=is_more_better)
                if drawn is not None:
                    yield f"why-{number}-{kind}-{figure}", drawn, f"{title}, by {kind}"


def _ladder_panel(summary: Summary, decomposed: Decomposition, one: Attribution) -> Panel | None:
    found = one.ladder
    if found is None or found.whole is None:
        return None
    steps = {step.run: step for step in found.steps}
    absent = {gap.run for gap in found.gaps}
    bars = []
    for rung in decomposed.ladder:
        if rung.run in absent:
            bars.append(Bar(rung.name, None, ""))
        elif step := steps.get(rung.run):
            bars.append(Bar(step.changes, step.factor.together, step.factor.verdict))
    return Panel(_panel_title(summary, one, found.between), bars, _whole(found.whole))


def _switches_panel(summary: Summary, _: Decomposition, one: Attribution) -> Panel | None:
    found = one.factorial
    if found is None or found.whole is None or not all(s.shapley for s in found.switches):
        return None  # bars that do not multiply to the whole would not end where it does
    bars = [Bar(s.name, s.shapley, _word(s.shapley)) for s in found.switches]
    return Panel(_panel_title(summary, one, found.between), bars, _whole(found.whole))


def _whole(found: Ratio) -> Bar:
    return Bar("the whole", found.together, found.verdict)


def _word(found: Interval | None) -> str:
    """A Shapley factor is no comparison of two variants: it has an interval and no word."""
    if found is None or found.low is None or found.high is None:
        return "no interval"
    return "may be 1" if found.low <= 1 <= found.high else "apart"


def _panel_title(summary: Summary, one: Attribution, between: tuple[str, str] | None) -> str:
    """The level, and what the figure is at both ends."""
    means = summary.comparisons[one.workload, one.level, one.figure].means
    _, unit, factor, digits = why.SHOWN[one.figure]
    ends = [formats.number(means[label].mean, digits, factor) for label in between or ()]
    return f"{why.where(summary, one.workload, one.level)}: {' to '.join(ends)} {unit}"


def waterfall(
    panels: Sequence[Panel], title: str, axis: str, *, is_more_better: bool
) -> Drawing | None:
    """One panel a level below each other; the last bar of each is the whole.

    A bar's factor stands beside it, its interval is the line across its end; what is not apart from
    1 is faint. None without a bar.

    Args:
        axis: what the factors are of.
    """
    known = [panel for panel in panels if _is_drawable(panel)]
    if not known:
        return None
    marks: list[Mark] = []
    heights = [PANEL_INCHES + sum(map(_row_inches, (*p.bars, p.whole))) for p in known]
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(
            len(known),
            1,
            figsize=(SIZE_INCHES[0], sum(heights) + 0.6),
            sharex=True,
            height_ratios=heights,
            squeeze=False,
        )
        for panel, axes in zip(known, grid[:, 0], strict=True):
            marks += _panel(axes, panel, is_more_better)
        bottom = grid[-1, 0]
        _factor_axis(bottom, axis, _ends(known))
        figure.suptitle(
            textwrap.fill(one_line(title), TITLE_LETTERS),
            x=0.015,
            ha="left",
            fontweight="bold",
            fontsize=10,
            parse_math=False,
        )
        figure.tight_layout()
        return Drawing(figure, tuple(marks))


def _row_inches(bar: Bar) -> float:
    return ROW_INCHES + LINE_INCHES * _shown_name(bar).count("\n")


def _shown_name(bar: Bar) -> str:
    return textwrap.fill(one_line(bar.name), NAME_LETTERS)


def _panel(axes: Axes, panel: Panel, is_more_better: bool) -> Iterator[Mark]:
    """Draw the bars of a level from top to bottom."""
    at = 1.0
    bars = (*panel.bars, panel.whole)
    for row, bar in enumerate(bars):
        start = 1.0 if bar is panel.whole else at
        if bar.factor is None:
            axes.annotate(
                "not measured", (start, row), xytext=(4, 0), textcoords="offset points",
                verticalalignment="center", fontsize=8, color=SOFT,
            )  # fmt: skip
            axes.plot([start, start], [row, row + 1], color=SOFT, linewidth=0.8, zorder=1)
            continue
        end = start * bar.factor.mean
        _bar(axes, row, start, bar, is_more_better, is_whole=bar is panel.whole)
        yield Mark(axes, end, row, f"{one_line(bar.name)}: {exact_text(bar.factor)} times")
        if bar is not panel.whole:
            axes.plot([end, end], [row, row + 1], color=SOFT, linewidth=0.8, zorder=1)
            at = end
    axes.axvline(1.0, color=SOFT, linewidth=0.8, zorder=1)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_yticks(range(len(bars)))
    axes.set_yticklabels([_shown_name(bar) for bar in bars], fontsize=8.5, parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_title(one_line(panel.title), loc="left", fontsize=9, parse_math=False)


def _bar(
    axes: Axes, row: int, start: float, bar: Bar, is_more_better: bool, *, is_whole: bool
) -> None:
    """One bar, its interval and its factor."""
    assert bar.factor is not None
    found, is_sure = bar.factor, bar.word == "apart"
    colour = BETTER if (found.mean > 1) == is_more_better else WORSE
    axes.barh(
        row,
        start * found.mean - start,
        left=start,
        height=0.62,
        color=SOFT if is_whole else colour,
        alpha=1.0 if is_sure else FAINT,
        linewidth=0,
        zorder=2,
    )
    low, high = _whisker(start, found)
    if low < high:
        axes.hlines(row, low, high, color=INK, linewidth=1.2, zorder=3)
    text = f"{found.mean:.{formats.digits(found.mean)}f}×"
    axes.annotate(
        text if is_sure else f"{text} {bar.word}",
        (max(start, high), row),
        xytext=(4, 0),
        textcoords="offset points",
        verticalalignment="center",
        fontsize=8,
    )


def _whisker(start: float, found: Interval) -> tuple[float, float]:
    """The ends of an interval, cut where they are far off; both the estimate: it has none."""
    end = start * found.mean
    low, high = (found.mean if value is None else value for value in (found.low, found.high))
    return max(start * low, end / WHISKER), min(start * high, end * WHISKER)


def _places(panel: Panel) -> Iterator[tuple[float, Interval]]:
    """Where each measured bar of a panel starts, and its factor."""
    at = 1.0
    for bar in panel.bars:
        if bar.factor is not None:
            yield at, bar.factor
            at *= bar.factor.mean
    if panel.whole.factor is not None:
        yield 1.0, panel.whole.factor


def _is_drawable(panel: Panel) -> bool:
    ends = [start * found.mean for start, found in _places(panel)]
    return bool(ends) and all(1 / MOST < end < MOST for end in ends)


def _ends(panels: Sequence[Panel]) -> tuple[float, float]:
    """The least and the largest value that any bar or interval reaches."""
    reached = [1.0]
    for panel in panels:
        for start, found in _places(panel):
            reached += _whisker(start, found)
    return min(reached), max(reached)


def _factor_axis(axes: Axes, label: str, ends: tuple[float, float]) -> None:
    axes.set_xscale("log")
    low, high = widened(*ends)
    axes.set_xlim(low / (high / low) ** 0.03, high * (high / low) ** FACTOR_ROOM)
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(plain))
    axes.set_xlabel(one_line(label), parse_math=False)

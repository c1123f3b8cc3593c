"""The figure of one cell over time: its KV cache, the requests behind it, memory, power."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from enginebench.metrics.memory import Sample
from enginebench.report.charts.style import COLOURS, SIZE_INCHES, STYLE, Drawing, Mark, plain

GIB = 1 << 30
INK, SOFT = "#000000", "#777777"
PREEMPTED = COLOURS[3]
MOST_MARKS = 60  # values to point at, a curve


def timeline(
    samples: Sequence[Sample],
    resident: Sequence[tuple[float, float]],
    power: Sequence[tuple[float, float]],
    capacity_tokens: float | None,
    title: str,
    colour: str,
) -> Drawing:
    """A cell over time: KV tokens, the requests behind them, the memory the machine shows, power.

    Args:
        samples: one a scrape, at least two.
        resident: time in s and bytes.
        power: time in s and watts; none: no panel for it.
        colour: of what the engine says of itself; the client's log is drawn in black.
    """
    start_s = samples[0].t_s
    with plt.rc_context(STYLE):
        heights = (3, 1.5, 1.2, 1.2) if power else (3, 1.5, 1.2)
        size = (SIZE_INCHES[0], 0.85 * sum(heights))
        figure, panels = plt.subplots(
            len(heights), 1, figsize=size, sharex=True, height_ratios=heights
        )
        tokens, requests, memory = panels[:3]
        times = [sample.t_s - start_s for sample in samples]
        used, held = [s.used_tokens for s in samples], [s.held_tokens for s in samples]
        marks = [
            *_curve(tokens, times, used, "used (engine)", colour, "tokens used"),
            *_curve(tokens, times, held, "needed (client’s log)", INK, "tokens needed", ":"),
        ]
        if capacity_tokens is not None:
            _capacity(tokens, capacity_tokens)
        _mark_preemptions(tokens, times, samples)
        tokens.set_ylabel("KV tokens")
        tokens.yaxis.set_major_formatter(FuncFormatter(plain))
        running, waiting = [s.running for s in samples], [s.waiting for s in samples]
        marks += _curve(requests, times, running, "running", colour, "requests running")
        marks += _curve(requests, times, waiting, "waiting", SOFT, "requests waiting")
        requests.set_ylabel("requests")
        gib = [value / GIB for _, value in resident]
        marks += _curve(memory, [t - start_s for t, _ in resident], gib, "", colour, "GiB")
        memory.set_ylabel("GiB")
        if power:
            watts = [value for _, value in power]
            marks += _curve(panels[3], [t - start_s for t, _ in power], watts, "", colour, "W")
            panels[3].set_ylabel("W")
        panels[-1].set_xlabel("seconds")
        for axes in panels:
            axes.set_ylim(0, max(axes.dataLim.y1, 1e-9) * 1.15)
            if axes.get_legend_handles_labels()[0]:
                axes.legend(
                    loc="lower right", bbox_to_anchor=(1, 0.96), frameon=False, fontsize=8, ncols=3
                )
        requests.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        tokens.set_title(title, loc="left", fontweight="bold", fontsize=10, pad=20)
        figure.align_ylabels()
        figure.tight_layout()
        return Drawing(figure, tuple(marks))


def _capacity(axes: Axes, capacity_tokens: float) -> None:
    axes.axhline(capacity_tokens, color=SOFT, linestyle="--", linewidth=1)
    axes.annotate(
        f"capacity {capacity_tokens:,.0f}",
        (0, capacity_tokens),
        xytext=(3, -11),
        textcoords="offset points",
        color=SOFT,
        fontsize=9,
    )


def _curve(
    axes: Axes,
    times: Sequence[float],
    values: Sequence[float | None],
    label: str,
    colour: str,
    unit: str,
    line: str = "-",
) -> Iterator[Mark]:
    """A step function of what was measured; nothing where it was not."""
    known = [(t, v) for t, v in zip(times, values, strict=True) if v is not None]
    if known:
        x, y = zip(*known, strict=True)
        axes.step(x, y, where="post", color=colour, label=label, linewidth=1.3, linestyle=line)
    every = -(-len(known) // MOST_MARKS)
    return (Mark(axes, t, v, f"{t:.1f} s: {v:,.4g} {unit}") for t, v in known[:: every or 1])


def _mark_preemptions(axes: Axes, times: Sequence[float], samples: Sequence[Sample]) -> None:
    counts = [(t, s.preemptions) for t, s in zip(times, samples, strict=True)]
    known = [(t, count) for t, count in counts if count is not None]
    marked = [t for (_, before), (t, now) in pairwise(known) if now > before]
    if marked:
        axes.plot(
            marked, [0] * len(marked), "|", color=PREEMPTED, markersize=9, label="preempted",
            clip_on=False,
        )  # fmt: skip

"""The part of a report on batching and the spread of output lengths. Pure: tables of a summary."""

from collections.abc import Sequence

from enginebench.report import formats
from enginebench.report.memory_report import Table
from enginebench.summarize.batching_gain import Gain, Lengths, gains, pairs
from enginebench.summarize.study_summary import Summary

LENGTHS_HEADINGS = [
    "workload", "in flight", "requests", "output tokens, mean", "shortest to longest",
    "steps of static batches", "of continuous batching", "useful share of static slots",
    "continuous over static, computed",
]  # fmt: skip
GAIN_HEADINGS = [
    "engine/variant over another", "in flight", "equal outputs, ×", "spread outputs, ×",
    "gain of the spread, measured", "computed",
]  # fmt: skip


def lengths_table(found: Sequence[Lengths]) -> Table:
    """What the lengths of each workload alone predict."""
    rows = []
    for pair in found:
        for name, steps in ((pair.equal, pair.equal_steps), (pair.spread, pair.spread_steps)):
            rows.append(
                [
                    name,
                    str(pair.in_flight),
                    str(steps.requests),
                    f"{steps.tokens / steps.requests:.1f}",
                    f"{steps.shortest} to {steps.longest}",
                    f"{steps.static:,}",
                    f"{steps.continuous:,}",
                    f"{steps.useful_share:.0%}",
                    f"{steps.gain:.2f}×",
                ]
            )
    unique = list(dict.fromkeys(map(tuple, rows)))  # an equal workload may serve several
    return Table(LENGTHS_HEADINGS, [list(row) for row in unique])


def gains_table(found: Sequence[Gain]) -> Table:
    """What two engines made of it."""
    rows = [
        [
            f"{gain.label} over {gain.over} ({gain.lengths.equal}, {gain.lengths.spread})",
            str(gain.lengths.in_flight),
            formats.ratio(gain.on_equal.alone),
            formats.ratio(gain.on_spread.alone),
            formats.ratio(gain.gain.alone),
            f"{gain.lengths.gain:.2f}×",
        ]
        for gain in found
    ]
    return Table(GAIN_HEADINGS, rows)


def values(summary: Summary) -> dict[str, object]:
    """What the templates need."""
    measured = gains(summary)
    return {
        "batching_lengths": lengths_table(pairs(summary) if measured else []),
        "batching_gains": gains_table(measured),
    }

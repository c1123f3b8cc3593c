"""What other load generators would have printed, beside our figures: the report's table."""

from collections.abc import Sequence

from enginebench.metrics.other_tools import MS, TOOLS
from enginebench.summarize.cells import CellRow
from enginebench.summarize.study_summary import Summary, levels

HEADINGS = ("engine/variant", "load", "word", "here", *TOOLS)
NOT_PRINTED = "–"

#: (word, our figure, its factor, digits, what each of TOOLS prints under the word)
WORDS = (
    (
        "output tokens/s",
        "output_tokens_per_s",
        1.0,
        1,
        (
            "Output token throughput (tok/s)",
            "Output Token Throughput (tokens/sec)",
            "Output Tokens Per Sec Mean",
        ),
    ),
    (
        "TTFT ms, mean",
        "ttft_s_mean",
        MS,
        1,
        ("Mean TTFT (ms)", "Time to First Token (ms) avg", "TTFT ms Mean"),
    ),
    ("TPOT ms, mean", "tpot_s_mean", MS, 2, ("Mean TPOT (ms)", "", "TPOT ms Mean")),
    (
        "ITL ms, mean",
        "itl_s_mean",
        MS,
        2,
        ("Mean ITL (ms)", "Inter Token Latency (ms) avg", "ITL ms Mean"),
    ),
    ("ITL ms, p99", "itl_s_p99", MS, 1, ("P99 ITL (ms)", "Inter Token Latency (ms) p99", "")),
)


def rows(summary: Summary) -> list[list[str]]:
    """Under HEADINGS: every variant at the highest level of each workload, means over its valid
    trials; empty where no cell is valid."""
    made = []
    for workload in summary.study.study.workloads:
        level = max(levels(workload))
        for label in summary.labels:
            cells = [
                cell
                for cell in summary.cells
                if (cell.label, cell.workload, cell.level) == (label, workload.name, level)
                if cell.counts and cell.elsewhere
            ]
            if cells:
                made += _rows(cells)
    return made


def _rows(cells: Sequence[CellRow]) -> list[list[str]]:
    what = [cells[0].label, f"{cells[0].workload}, {cells[0].load_text}"]
    return [
        [
            *what,
            word,
            _mean([cell.figures[figure] for cell in cells], factor, digits),
            *(
                _mean([cell.elsewhere[tool].get(name) for cell in cells], 1.0, digits)
                for tool, name in zip(TOOLS, names, strict=True)
            ),
        ]
        for word, figure, factor, digits, names in WORDS
    ]


def _mean(values: Sequence[float | None], factor: float, digits: int) -> str:
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known) * factor:,.{digits}f}" if known else NOT_PRINTED

"""The tables and figures of ``docs/guides``, made from published studies.

A page marks the place of each::

    <!-- table: cpu-sweep results chat 16 -->
    <!-- end -->

What stands between both marks is written anew by ``python -m enginebench.report.guides PAGES
STUDIES`` (``make guides``). The words are a study's name, what to show, and its arguments. Of
several records of a study the latest is taken; where there is none, the page says so.
"""

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

from enginebench.base.errors import UserError
from enginebench.record import locating
from enginebench.report import (
    arithmetic_report,
    batching_report,
    escaping,
    formats,
    memory_report,
    phases_report,
    tables,
)
from enginebench.report.formats import GIB
from enginebench.report.memory_report import Table
from enginebench.summarize import batching_gain, phases
from enginebench.summarize.groups import COST, RATE, Group
from enginebench.summarize.study_summary import Summary, levels, summarize, workload_of

BLOCK = re.compile(r"(<!-- (table|figure): ([^\n]*?) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
NOT_YET = "*Not measured yet: no record of the study `{}` has been published.*\n"

RESULT_HEADINGS = [
    "engine/variant", "output tokens/s", "× reference", "TTFT p50 ms", "TPOT p50 ms", "memory GiB",
    "USD/M output",
]  # fmt: skip

#: Of the headings that are means without an interval: figure, digits, factor from SI.
RESULT_MEANS = (
    ("ttft_s_p50", 1, 1e3),
    ("tpot_s_p50", 1, 1e3),
    ("memory_peak_bytes", 2, 1 / GIB),
)


def write(pages: Path, studies: Path) -> list[Path]:
    """Write the blocks of all pages anew; the pages that changed.

    Raises:
        UserError: a mark asks for something that its study does not have.
    """
    changed = []
    for page in sorted(pages.glob("*.md")):
        old = page.read_text(encoding="utf-8")
        new = filled(old, studies, page)
        if new != old:
            page.write_text(new, encoding="utf-8")
            changed.append(page)
    return changed


def filled(text: str, studies: Path, page: Path) -> str:
    """A page with its blocks as the published records give them."""

    def fill(found: re.Match[str]) -> str:
        start, kind, words, _, end = found.groups()
        study, *asked = words.split() or [""]
        record = locating.last(studies, study)
        if record is None:
            return f"{start}{NOT_YET.format(study)}{end}"
        try:
            made = _figure(record, page, asked) if kind == "figure" else _table(record, page, asked)
        except (LookupError, ValueError) as error:
            mark = f"<!-- {kind}: {words} -->"
            raise UserError(f"{page}: {mark}: {error}; correct the mark") from None
        return f"{start}{made}{end}"

    return BLOCK.sub(fill, text)


def _figure(record: Path, page: Path, asked: Sequence[str]) -> str:
    (stem,) = asked
    file = record / "derived" / "figures" / f"{stem}.svg"
    if not file.exists():
        raise LookupError(f"expected a figure of {record.name}, found none called {stem!r}")
    return f"![{stem}, of {record.name}]({_from(page, file)})\n"


def _table(record: Path, page: Path, asked: Sequence[str]) -> str:
    name, *arguments = asked or ("",)
    if name not in TABLES:
        raise LookupError(f"expected one of {', '.join(TABLES)}, found {name!r}")
    made = TABLES[name](_summary(record), arguments)
    if not made.rows:
        raise LookupError(f"{record.name} has no rows for {name!r}")
    report = _from(page, record / "derived" / "report.md")
    lines = [
        f"| {escaping.cells(made.headings)} |",
        f"|---|{'---:|' * (len(made.headings) - 1)}",
        *(f"| {escaping.cells(row)} |" for row in made.rows),
        "",
        f"From [{record.name}]({report}).",
    ]
    return "\n".join(lines) + "\n"


def _from(page: Path, file: Path) -> str:
    """The link from a page to a file."""
    return os.path.relpath(file.resolve(), page.resolve().parent)


@cache
def _summary(record: Path) -> Summary:
    return summarize(record)


def _results(summary: Summary, arguments: Sequence[str]) -> Table:
    """All variants of a workload at one level: the highest, unless it is given."""
    workload, *level = arguments
    if workload not in (names := [w.name for w in summary.study.study.workloads]):
        raise LookupError(f"expected a workload of {', '.join(names)}, found {workload!r}")
    found = workload_of(summary, workload)
    all_levels = levels(found)
    at = float(level[0]) if level else max(all_levels)
    is_shared = found.shared_prefix_tokens > 0
    rows = [
        [
            group.label,
            formats.interval(group.figures[RATE], 1),
            "1" if group.label == summary.reference else formats.verdict(group.ratio),
            *(_mean(group, *column) for column in RESULT_MEANS),
            formats.interval(group.figures[COST], 2),
            *([tables.cached_text(summary, group)] if is_shared else []),
        ]
        for group in summary.groups
        if (group.workload, group.level) == (workload, at)
    ]
    return Table([*RESULT_HEADINGS, *([tables.CACHED] if is_shared else [])], rows)


def _mean(group: Group, figure: str, digits: int, factor: float) -> str:
    found = group.figures[figure]
    return formats.number(found.mean if found else None, digits, factor)


def _phases(summary: Summary, arguments: Sequence[str]) -> Table:
    return phases_report.table(phases.phases(summary))


def _growth(summary: Summary, arguments: Sequence[str]) -> Table:
    return memory_report.growths(summary)


def _memory(summary: Summary, arguments: Sequence[str]) -> Table:
    return memory_report.accounts(summary)


def _lengths(summary: Summary, arguments: Sequence[str]) -> Table:
    return batching_report.lengths_table(batching_gain.pairs(summary))


def _batching(summary: Summary, arguments: Sequence[str]) -> Table:
    return batching_report.gains_table(batching_gain.gains(summary))


def _speculation(summary: Summary, arguments: Sequence[str]) -> Table:
    return arithmetic_report.speculation_table(summary)


def _weights(summary: Summary, arguments: Sequence[str]) -> Table:
    return arithmetic_report.weights_table(summary)


TABLES: Mapping[str, Callable[[Summary, Sequence[str]], Table]] = {
    "results": _results,
    "phases": _phases,
    "growth": _growth,
    "memory": _memory,
    "lengths": _lengths,
    "batching": _batching,
    "speculation": _speculation,
    "weights": _weights,
}


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit("guides: expected the directory of the pages and that of the studies")
    pages, studies = map(Path, sys.argv[1:])
    try:
        for page in write(pages, studies):
            print(f"written: {page}")
    except UserError as error:
        sys.exit(f"guides: {error.message}")


if __name__ == "__main__":
    main()

"""The report: tables, figures and sentences, all from a summary. Rebuilt from raw at any time."""

import contextlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from enginebench.base.errors import UserError
from enginebench.base.text import one_line
from enginebench.metrics import cost
from enginebench.metrics.agreement import NEAR_TIE_NATS
from enginebench.record import reading
from enginebench.report import (
    arithmetic_report,
    batching_report,
    check_tables,
    client_tables,
    data_files,
    escaping,
    machine_report,
    memory_report,
    narrative,
    other_tools_report,
    phases_file,
    phases_report,
    start_up_report,
    tables,
    threats,
    why,
)
from enginebench.report.charts import index as figures
from enginebench.report.formats import GIB
from enginebench.summarize import distributions, engine_configs
from enginebench.summarize.study_summary import Summary, of_a_record, output_text, summarize

#: The columns that fit on a terminal.
SHOWN = (
    "engine/variant", "in flight", "requests/s offered", "output tokens/s", "× reference",
    "TTFT p50 ms", "TTFT from due p50 ms", "USD/M output",
)  # fmt: skip


def build(directory: Path, on_bytes: Callable[[int], object] = reading.ignore) -> Summary:
    """Write every derived file of a study below ``directory/derived``; return the summary.

    Args:
        on_bytes: is called with the bytes of the record as they are read.
    """
    summary = summarize(directory, on_bytes)
    derived, part = directory / "derived", directory / "derived.part"
    try:
        _remove(part)  # of a report that was cut off
        (part / "figures").mkdir(parents=True)
        with of_a_record(directory):
            data_files.write(summary, part)
            phases_file.write(summary, part)
            drawn = figures.write(summary, part / "figures")
            values = _values(summary, directory) | _memory_values(summary) | {"figures": drawn}
            values |= phases_report.values(summary) | batching_report.values(summary)
            values |= arithmetic_report.values(summary)
            for name in ("report.md", "report.html"):
                (part / name).write_text(_render(name, values), encoding="utf-8")
        _move(part, derived)
    except OSError as error:
        raise UserError(
            f"{error.filename or derived}: cannot write the report ({error.strerror}); the raw "
            f"record is kept: free some space, then run: make report DIR={directory}"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            _remove(part)
    return summary


def _move(part: Path, derived: Path) -> None:
    """Put new files in the place of old ones. What a link points at is never written to."""
    for folder in (derived, derived / "figures"):
        if folder.is_symlink():
            raise UserError(
                f"{folder}: expected a directory, found a symbolic link; remove it and run: "
                f"make report DIR={derived.parent}"
            )
        folder.mkdir(exist_ok=True)
    made = {path.relative_to(part) for path in part.rglob("*") if path.is_file()}
    for old in (*derived.glob("figures/*.png"), *derived.glob("figures/*.svg")):
        if old.relative_to(derived) not in made:  # a figure that is no longer drawn must not stay
            old.unlink()
    for name in made:
        (part / name).replace(derived / name)
    _remove(part)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _values(summary: Summary, directory: Path) -> dict[str, object]:
    return {
        "summary": summary,
        "facts": summary.study,
        "study": summary.study.study,
        "directory": directory.name,
        "headline": narrative.headline(summary),
        "why": why.whys(summary),
        "why_legend": why.LEGEND,
        "ranking": tables.ranking_table(summary),
        "verdicts": tables.verdict_meanings(),
        "percentiles": tables.percentile_legend(),
        "answers": narrative.answers(summary),
        "trades": narrative.trades(summary),
        "costs": narrative.costs(summary),
        "threats": threats.threats(summary),
        "tables": tables.tables(summary),
        "engines": engine_configs.engine_facts(summary),
        "differences": engine_configs.differences(summary),
        "claims": check_tables.claim_rows(summary),
        "claim_headings": check_tables.CLAIM_HEADINGS,
        "invalid": summary.invalid,
        "suspect": summary.suspect,
        "parity": check_tables.parity(summary),
        "hardware": narrative.hardware(summary),
        "machine": machine_report.sentences(summary),
        "plausibility": check_tables.plausibility(summary),
        "plausibility_headings": check_tables.PLAUSIBILITY_HEADINGS,
        "answer_rows": check_tables.agreement_rows(summary),
        "answer_headings": check_tables.ANSWER_HEADINGS,
        "near_ties": NEAR_TIE_NATS,
        "compared_on": summary.study.study.agreement,
        "perplexity_rows": check_tables.perplexity_rows(summary),
        "perplexity_headings": check_tables.PERPLEXITY_HEADINGS,
        "start_up_rows": start_up_report.rows(summary),
        "start_up_headings": start_up_report.HEADINGS,
        "price": cost.recorded_price(summary.study),
        "checks": check_tables.shown_checks(summary),
        "least_requests": distributions.LEAST_REQUESTS,
        "elsewhere_headings": other_tools_report.HEADINGS,
        "elsewhere": other_tools_report.rows(summary),
        **_client(summary),
    }


def _client(summary: Summary) -> dict[str, object]:
    """What the report says of the load generator itself."""
    cells = [
        (f"{cell.label} {cell.workload}, {cell.load_text}", cell.client)
        for cell in summary.cells
        if cell.client is not None
    ]
    calibration = summary.study.calibration
    return {
        "calibration_headings": client_tables.CALIBRATION_HEADINGS,
        "calibration": client_tables.calibration_table(calibration),
        "shares_core": any(not found.has_own_core for found in calibration),
        "client_headings": client_tables.CELL_HEADINGS,
        "clients": client_tables.cell_table(cells),
    }


def _memory_values(summary: Summary) -> dict[str, object]:
    made = (memory_report.accounts, memory_report.capacities, memory_report.growths)
    return {
        "memory_tables": [table for make in made if (table := make(summary)).rows],
        "memory_sentences": memory_report.sentences(summary),
        "not_followed": [
            cell.label
            for cell in memory_report.fullest_cells(summary)
            if not memory_report.is_followed(cell)
        ],
    }


def _render(name: str, values: Mapping[str, object]) -> str:
    is_html = name.endswith(".html")
    environment = Environment(
        loader=PackageLoader("enginebench"),
        autoescape=is_html,
        finalize=escaping.html if is_html else escaping.markdown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "gib": lambda value: f"{value / GIB:.1f} GiB",
        "assignments": lambda values: "".join(f"{key}={value} " for key, value in values.items()),
        "raw": escaping.Raw,
        "cells": escaping.cells,
        "code": escaping.code,
        "fenced": escaping.fenced,
    }
    return environment.get_template(f"{name}.jinja").render(values)


def print_table(summary: Summary, console: Console) -> None:
    """The result on a terminal: the columns that fit, what gave most, and what is invalid."""
    for made in tables.tables(summary):
        workload = made.workload
        table = Table(
            title=f"{_plain(workload.name)}: {workload.prompt_tokens} tokens in, "
            f"{output_text(workload)} out",
            title_justify="left",
            box=box.SIMPLE_HEAD,
        )
        shown = [i for i, heading in enumerate(made.headings) if heading in SHOWN]
        for index in shown:
            heading = made.headings[index]
            table.add_column(heading, justify="left" if index == 0 else "right", no_wrap=not index)
        table.add_column("valid", justify="right")
        for row in made.rows:
            style = None if row.is_valid else "red"
            table.add_row(*(_plain(row.cells[i]) for i in shown), row.verdict, style=style)
        console.print(table)
    for sentence in why.answers(summary):
        console.print(one_line(sentence), markup=False, soft_wrap=True)
    for cell in (*summary.invalid, *summary.suspect):
        console.print(
            one_line(
                f"{cell.verdict}: {cell.label} {cell.workload}, {cell.load_text}, "
                f"trial {cell.trial}: " + "; ".join(cell.problems)
            ),
            markup=False,
            soft_wrap=True,
        )


def _plain(text: str) -> str:
    """Text from a record, without escapes of a terminal and without Rich's markup."""
    return escape(one_line(text))

"""The report: tables, figures and sentences, all from a summary. Rebuilt from raw at any time."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.console import Console
from rich.table import Table

from enginebench import (
    budget,
    datafiles,
    figures,
    memory_report,
    other_tools_report,
    sentences,
    stats,
)
from enginebench.agreement import NEAR_TIE_NATS
from enginebench.check import CHECKS
from enginebench.errors import UserError
from enginebench.stats import Interval
from enginebench.summarize import Group, Summary, summarize

NOT_MEASURED = "–"
GIB = 1 << 30

#: (heading, figure, factor from SI, digits after the point)
COLUMNS: tuple[tuple[str, str, float, int], ...] = (
    ("output tokens/s", "output_tokens_per_s", 1, 1),
    ("TTFT p50 ms", "ttft_s_p50", 1e3, 0),
    ("TTFT p95 ms", "ttft_s_p95", 1e3, 0),
    ("TPOT p50 ms", "tpot_s_p50", 1e3, 1),
    ("ITL p99 ms", "itl_s_p99", 1e3, 1),
    ("E2E p50 s", "e2e_s_p50", 1, 2),
    ("requests/s", "requests_per_s", 1, 2),
    ("USD/M output", "usd_per_million_output_tokens", 1, 2),
    ("memory GiB", "memory_peak_bytes", 1 / GIB, 2),
    ("% of ceiling", "ceiling_share", 100, 0),
)

#: The same, of machines with a GPU.
GPU_COLUMNS = (
    ("GPU memory GiB", "gpu_memory_peak_bytes", 1 / GIB, 2),
    ("GPU power W", "power_w_mean", 1, 0),
    ("GPU utilisation %", "gpu_utilisation_mean", 100, 0),
)

#: Checks that cannot be made without a figure, which not every engine or machine gives.
NEEDED_FOR = {
    "physics": "ceiling_share",
    "counters": "counters_checked",
    "kv": "kv_capacity_tokens",
    "energy": "energy_j",
    "client": "client_judged",
}

ANSWER_HEADINGS = (
    "engine/variant",
    "beside",
    "dtype",
    "identical",
    "first different token, median",
    "earliest",
    "margin there at most, nats",
    "margins differ by at most, nats",
    "parted at a clear choice, or unknown",
)


#: What an open loop shows instead: its wait counts from the moment a request was due.
OPEN_COLUMNS = {
    "ttft_s_p50": ("TTFT from due p50 ms", "ttft_planned_s_p50", 1e3, 0),
    "ttft_s_p95": ("TTFT from due p95 ms", "ttft_planned_s_p95", 1e3, 0),
}


def build(directory: Path, told: Callable[[int], object] = int) -> Summary:
    """Write every derived file of a study below ``directory/derived``; return the summary.

    Args:
        told: is given the bytes of the record as they are read.
    """
    summary = summarize(directory, told)
    derived = directory / "derived"
    try:
        (derived / "figures").mkdir(parents=True, exist_ok=True)
        datafiles.write(summary, derived)
        sweeps = figures.write_sweeps(summary, derived / "figures")
        memory_figures = figures.write_memory(summary, derived / "figures")
        values = _values(summary, directory, sweeps) | _memory_values(summary, memory_figures)
        for name in ("report.md", "report.html"):
            (derived / name).write_text(_render(name, values))
    except OSError as error:
        raise UserError(
            f"{error.filename or derived}: cannot write the report ({error.strerror}); the raw "
            f"record is kept: free some space, then run: make report DIR={directory}"
        ) from error
    return summary


def number(value: float | None, digits: int) -> str:
    return NOT_MEASURED if value is None else f"{value:,.{digits}f}"


def interval_text(found: Interval | None, digits: int) -> str:
    """A mean with its interval, where there is one."""
    if found is None or found.low is None or found.high is None:
        return number(found.mean if found else None, digits)
    return f"{found.mean:,.{digits}f} [{found.low:,.{digits}f}, {found.high:,.{digits}f}]"


def ratio_text(group: Group, reference: str) -> str:
    """How many times the reference, with interval; ties are called ties."""
    ratio = group.ratio
    if group.label == reference:
        return "1"
    if ratio is None:
        return NOT_MEASURED
    text = f"{ratio.mean:.2f}×"
    if ratio.low is not None and ratio.high is not None:
        text += f" [{ratio.low:.2f}, {ratio.high:.2f}]"
        standing = stats.standing(ratio)
        text += f" {standing}" if standing != "apart" else ""
    return text


def tables(summary: Summary) -> list[dict[str, Any]]:
    """One table a workload: headings, and a row a (level, variant)."""
    made = []
    answers = {c.label: f"{c.identical} of {c.prompts}" for c in reversed(summary.agreement)}
    has_gpu = summary.study["device"] == "cuda"
    for workload in summary.study["study"]["workloads"]:
        rows = []
        is_open = not workload["concurrency"]
        columns = [OPEN_COLUMNS.get(c[1], c) if is_open else c for c in COLUMNS]
        columns += GPU_COLUMNS if has_gpu else ()
        for group in summary.groups:
            if group.workload != workload["name"]:
                continue
            cells = [
                number(found.mean if found else None, digits)
                for _, name, factor, digits in columns
                for found in [stats.scaled(group.figures[name], factor)]
            ]
            verdict = f"{group.trials_valid} of {group.trials_planned}"
            ratio = ratio_text(group, summary.reference)
            rate = interval_text(group.figures["output_tokens_per_s"], 1)
            where = [group.label, f"{group.level:g}", str(group.requests)]
            answered = [answers.get(group.label, NOT_MEASURED)] if answers else []
            rows.append(
                {
                    "cells": [*where, rate, ratio, *cells[1:], *answered],
                    "verdict": verdict,
                    "is_valid": group.trials_valid == group.trials_planned,
                }
            )
        level = "requests/s offered" if is_open else "in flight"
        headings = ["engine/variant", level, "requests", columns[0][0], "× reference"]
        headings += [heading for heading, *_ in columns[1:]]
        headings += ["same answers"] if answers else []
        made.append({"workload": workload, "headings": [*headings, "valid trials"], "rows": rows})
    return made


def parity(summary: Summary) -> list[dict[str, Any]]:
    """Variant × check: how many requests (or cells) failed it; None where it was not checked."""
    rows = []
    for label in summary.labels:
        cells = [cell for cell in summary.cells if cell.label == label]
        row: dict[str, int | None] = {}
        for check in CHECKS:
            found = [f for cell in cells for f in cell.findings if f.check == check]
            row[check] = sum(1 if f.failed is None else f.failed for f in found)
        for check, figure in NEEDED_FOR.items():
            if not any(cell.figures.get(figure) for cell in cells):
                row[check] = None
        same = [c for c in summary.agreement if c.label == label and c.is_same_dtype]
        row["answers"] = len(same[0].clear) + same[0].unanswered if same else None
        rows.append({"label": label, "checks": row})
    return rows


def agreement_rows(summary: Summary) -> list[list[str]]:
    """One row a comparison of answers, under ANSWER_HEADINGS."""

    def text(value: float | None) -> str:
        return NOT_MEASURED if value is None else f"{value:.3g}"

    return [
        [
            found.label,
            found.against,
            " and ".join(dict.fromkeys(dtype or "unknown" for dtype in found.dtypes)),
            f"{found.identical} of {found.prompts}",
            text(found.first_token_median),
            text(found.first_token_worst),
            text(found.margin_largest),
            text(found.margin_error),
            str(len(found.clear)),
        ]
        for found in summary.agreement
    ]


def _values(
    summary: Summary, directory: Path, sweeps: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    return {
        "summary": summary,
        "facts": summary.study,
        "study": summary.study["study"],
        "directory": directory.name,
        "answers": sentences.answers(summary),
        "limits": sentences.limits(summary),
        "tables": tables(summary),
        "figures": sweeps,
        "engines": sentences.engine_facts(summary),
        "invalid": summary.invalid,
        "suspect": summary.suspect,
        "parity": parity(summary),
        "answer_rows": agreement_rows(summary),
        "answer_headings": ANSWER_HEADINGS,
        "near_ties": NEAR_TIE_NATS,
        "compared_on": summary.study["study"].get("agreement"),
        "stand_in": sentences.price_is_stand_in(summary),
        "checks": CHECKS,
        "elsewhere_headings": other_tools_report.HEADINGS,
        "elsewhere": other_tools_report.rows(summary),
        **_client(summary),
    }


def _client(summary: Summary) -> dict[str, Any]:
    """What the report says of the load generator itself."""
    cells = [
        (f"{cell.label} {cell.workload}, {cell.load_text}", cell.figures["client"])
        for cell in summary.cells
        if cell.figures.get("client")
    ]
    calibration = summary.study.get("calibration") or []
    return {
        "calibration_headings": budget.CALIBRATION_HEADINGS,
        "calibration": budget.calibration_table(summary.study),
        "shares_core": any(not found["has_own_core"] for found in calibration),
        "client_headings": budget.CELL_HEADINGS,
        "clients": budget.cell_table(cells),
    }


def _memory_values(summary: Summary, drawn: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    made = (memory_report.accounts, memory_report.capacities, memory_report.growths)
    return {
        "memory_tables": [table for make in made if (table := make(summary))["rows"]],
        "memory_sentences": memory_report.sentences(summary),
        "memory_figures": drawn,
    }


def _render(name: str, values: Mapping[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("enginebench"),
        autoescape=name.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["gib"] = lambda value: f"{value / GIB:.1f} GiB"
    return environment.get_template(f"{name}.jinja").render(values)


def print_table(summary: Summary, console: Console) -> None:
    """The result on a terminal: the columns that fit, and what is invalid."""
    shown = (0, 1, 3, 4, 5, 7, 11, 13)  # variant, level, rate, ratio, TTFT, TPOT, cost, ceiling
    for made in tables(summary):
        workload = made["workload"]
        table = Table(
            title=f"{workload['name']}: {workload['prompt_tokens']} tokens in, "
            f"{sentences.output_text(workload)} out",
            title_justify="left",
        )
        for index in shown:
            heading = made["headings"][index]
            table.add_column(heading, justify="left" if index == 0 else "right", no_wrap=not index)
        table.add_column("valid", justify="right")
        for row in made["rows"]:
            style = None if row["is_valid"] else "red"
            table.add_row(*(row["cells"][i] for i in shown), row["verdict"], style=style)
        console.print(table)
    for cell in (*summary.invalid, *summary.suspect):
        console.print(
            f"{cell.verdict}: {cell.label} {cell.workload}, {cell.load_text}, "
            f"trial {cell.trial}: " + "; ".join(cell.problems),
            markup=False,
            soft_wrap=True,
        )

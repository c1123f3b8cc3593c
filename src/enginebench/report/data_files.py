"""The derived figures as files for programs: JSON, and CSV for spreadsheets."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from pathlib import Path

import msgspec
import pandas as pd

from enginebench.base.estimator import Comparison, Interval
from enginebench.metrics import agreement
from enginebench.metrics.memory import Sample
from enginebench.report.escaping import spreadsheet
from enginebench.summarize import start_up
from enginebench.summarize.cells import CellRow
from enginebench.summarize.decomposed import attributions
from enginebench.summarize.groups import COMPARED, RATE, Group
from enginebench.summarize.study_summary import Summary

Row = dict[str, object]  # of a JSON or CSV file

PLAIN_FIELDS = (
    "launch", "trial", "engine", "variant", "label", "workload", "concurrency", "rate",
)  # fmt: skip


def write(summary: Summary, derived: Path) -> None:
    data = {
        "study": summary.study.study.name,
        "reference": summary.reference,
        "cells": [_cell_data(cell) for cell in summary.cells],
        "agreement": [_agreement_data(found) for found in summary.agreement],
        "groups": [asdict(group) for group in summary.groups],
        "comparisons": [
            {"workload": workload, "level": level, "figure": figure} | _comparison_data(found)
            for (workload, level, figure), found in summary.comparisons.items()
            if found.order
        ],
    }
    if starts := start_up.of_study(summary):
        data["start_up"] = [asdict(found) for found in starts]
    if summary.perplexities:
        data["perplexity"] = [asdict(found) for found in summary.perplexities]
    if summary.study.study.decompositions:
        data["attributions"] = [asdict(found) for found in attributions(summary)]
    text = json.dumps(data, indent=1, allow_nan=False, default=list)
    (derived / "metrics_data.json").write_text(text + "\n", encoding="utf-8")
    (derived / "kv_cache_data.json").write_text(_series_text(summary, _kv_series), encoding="utf-8")
    (derived / "gpu_memory_data.json").write_text(
        _series_text(summary, _memory_series), encoding="utf-8"
    )
    (derived / "latency_data.json").write_text(
        _series_text(summary, _latency_series), encoding="utf-8"
    )
    elsewhere = _series_text(summary, lambda cell: {"tools": cell.elsewhere})
    (derived / "other_tools_data.json").write_text(elsewhere, encoding="utf-8")
    rows = [_csv_row(summary, group) for group in summary.groups]
    pd.DataFrame(rows).to_csv(derived / "metrics_summary.csv", index=False)


def _cell_data(cell: CellRow) -> Row:
    verdict = {"verdict": cell.verdict, "is_valid": cell.counts, "problems": cell.problems}
    attempts = [
        asdict(span.attempt) | {"start_s": span.start_s, "end_s": span.end_s}
        for span in cell.attempts
    ]
    # The load is in machine.jsonl, the samples are in kv_cache_data.json, the quantiles in
    # latency_data.json, what other tools would print in other_tools_data.json.
    bare = {name: getattr(cell, name) for name in PLAIN_FIELDS}
    return (
        bare
        | {
            "findings": [asdict(finding) for finding in cell.findings],
            "log_tail": cell.log_tail,
            "figures": dict(_figures(cell)),
        }
        | {"samples": (), "resident": (), "power": (), "elsewhere": {}, "attempts": attempts}
        | verdict
    )


def _figures(cell: CellRow) -> Iterator[tuple[str, object]]:
    """All figures of a cell, with those that are no numbers where readers of the file know them."""
    for name, value in cell.figures.items():
        yield name, value
        if name == "gpu_utilisation_mean":
            yield "throttled", cell.throttled
            yield "gpu_errors", cell.gpu_errors
        if name == "kv_tokens_in_flight_peak":
            yield "client", msgspec.to_builtins(cell.client)
    if cell.figures:
        yield "machine", asdict(cell.machine) if cell.machine else None


def _series_text(summary: Summary, series: Callable[[CellRow], Row]) -> str:
    """A series of every cell, one cell a line: readable by people and by programs."""
    rows = [
        {name: getattr(c, name) for name in ("label", "trial", "workload", "concurrency", "rate")}
        | series(c)
        for c in summary.cells
    ]
    return "[\n" + ",\n".join(json.dumps(row, allow_nan=False) for row in rows) + "\n]\n"


def _kv_series(cell: CellRow) -> Row:
    names = ("kv_capacity_tokens", "kv_block_tokens", "kv_reserved_bytes", "kv_bytes_per_token")
    facts = {name: cell.figures.get(name) for name in names}
    columns = [field.name for field in fields(Sample)]
    return facts | {name: [getattr(s, name) for s in cell.samples] for name in columns}


def _memory_series(cell: CellRow) -> Row:
    return {
        "memory_t_s": [time_s for time_s, _ in cell.resident],
        "memory_bytes": [value for _, value in cell.resident],
        "power_t_s": [time_s for time_s, _ in cell.power],
        "power_w": [value for _, value in cell.power],
    }


def _latency_series(cell: CellRow) -> Row:
    found = cell.quantiles
    return {name: [round(value, 7) for value in row] for name, row in found.items()}


def _agreement_data(found: agreement.Comparison) -> Row:
    return asdict(found) | {
        "identical": found.identical,
        "clear": len(found.clear),
        "first_token_median": found.first_token_median,
        "first_token_worst": found.first_token_worst,
        "margin_largest": found.margin_largest,
    }


def _comparison_data(found: Comparison) -> Row:
    """One comparison; its pairs, which are keys of a mapping, as rows."""
    return {
        "order": found.order,
        "places": found.places,
        "ratios": [{"a": a, "b": b} | asdict(ratio) for (a, b), ratio in found.ratios.items()],
        "spreads": [asdict(spread) for spread in found.spreads],
        "excluded": found.excluded,
        "margin": found.margin,
    }


def _csv_row(summary: Summary, group: Group) -> Row:
    row: Row = {
        "engine": spreadsheet(group.engine),
        "variant": spreadsheet(group.variant),
        "workload": spreadsheet(group.workload),
        "concurrency": group.concurrency,
        "rate": group.rate,
        "trials_valid": group.trials_valid,
        "trials_planned": group.trials_planned,
    }
    for name, found in group.figures.items():
        row |= _ends(name, found, has_interval=name in COMPARED)
    ratio = group.ratio
    row |= _ends("ratio_to_reference", ratio.together if ratio else None, has_interval=True)
    row["ratio_to_reference_verdict"] = ratio.verdict if ratio else None
    places = summary.comparisons[group.workload, group.level, RATE].places
    row["place_best"], row["place_worst"] = places.get(group.label, (None, None))
    return row


def _ends(name: str, found: Interval | None, *, has_interval: bool) -> dict[str, float | None]:
    row = {name: found.mean if found else None}
    if has_interval:
        row |= {f"{name}_low": found.low if found else None}
        row |= {f"{name}_high": found.high if found else None}
    return row

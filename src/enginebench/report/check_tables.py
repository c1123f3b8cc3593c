"""What supports the results of a report: parity, plausibility, answers, claims. Pure."""

from collections.abc import Mapping
from typing import Any

from enginebench.check.findings import CHECKS
from enginebench.hardware import data_sheets
from enginebench.report import formats
from enginebench.report.formats import NOT_MEASURED, number
from enginebench.summarize import claims
from enginebench.summarize.study_summary import Summary

#: Checks that cannot be made without a figure, which not every engine or machine gives.
NEEDED_FOR = {
    "physics": "ceiling_share",
    "counters": "counters_checked",
    "kv": "kv_capacity_tokens",
    "energy": "energy_j",
    "client": "client_judged",
    "machine": "machine",
    "cache": "cache_checked",
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


PLAUSIBILITY_HEADINGS = (
    "engine/variant",
    "% of ceiling, throughput",
    "decode",
    "prefill",
    "nearest request",
    "KV held, % of capacity",
    "in flight on average, % of streams",
    "counters compared",
)


def plausibility(summary: Summary) -> list[list[str]]:
    """How near each variant's cells came to what is possible: the largest of all its cells."""
    rows = []
    for label in summary.labels:
        figures = [c.figures for c in summary.cells if c.label == label and c.figures]
        closed = [c for c in summary.cells if c.label == label and c.figures and c.rate is None]
        held = [
            f["kv_tokens_in_flight_peak"] / f["kv_capacity_tokens"]
            for f in figures
            if f["kv_tokens_in_flight_peak"] and f["kv_capacity_tokens"]
        ]
        loads = [
            mean / cell.concurrency for cell in closed if (mean := cell.figures["in_flight_mean"])
        ]
        shares = [
            [value for f in figures if (value := f[name]) is not None]
            for name in (
                "ceiling_share",
                "ceiling_share_decode",
                "ceiling_share_prefill",
                "ceiling_share_request",
            )
        ]
        counted = sum(bool(f["counters_checked"]) for f in figures)
        rows.append(
            [
                label,
                *(number(max(v, default=None), 0, 100) for v in (*shares, held, loads)),
                f"{counted} of {len(figures)} cells",
            ]
        )
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


CLAIM_HEADINGS = (
    "claim",
    "verdict",
    "claimed",
    "here",
    "what keeps it from more",
    "theirs: model, GPU, workload",
    "ours",
    "source",
)


def _model_text(model: Mapping[str, Any]) -> str:
    """Name and size."""
    count = model.get("parameters")
    return f"{model['name']} ({count / 1e6:,.0f} M parameters)" if count else str(model["name"])


def claim_rows(summary: Summary) -> list[dict[str, Any]]:
    """One row a claim of the literature, under CLAIM_HEADINGS, and where it was made."""
    facts = summary.study
    device = ", ".join(gpu["name"] for gpu in facts["machine"]["gpus"]) or facts["machine"]["cpu"]
    rows = []
    for found in claims.tested(summary, data_sheets.table("claims.yaml")):
        claim = found.claim
        cells = [
            claim["name"],
            found.verdict,
            f"{claim['times']:g}× ({claim['range']})",
            formats.ratio(found.ratio),
            found.reason or "nothing",
            f"{claim['model']}; {claim['gpu']}; {claim['workload']}",
            f"{_model_text(facts['model'])}; {device}; {found.here}"
            if found.here
            else NOT_MEASURED,
            claim["source"],
        ]
        rows.append({"cells": cells, "url": claim["url"], "is_covered": bool(found.here)})
    return rows

"""The tables of a report as rows of text: the ranking, the results, parity, answers. Pure."""

from collections.abc import Mapping
from typing import Any

from enginebench.base import stats
from enginebench.base.stats import Interval
from enginebench.check.findings import CHECKS
from enginebench.hardware import data_sheets
from enginebench.summarize import claims, ranking
from enginebench.summarize.study_summary import Group, Summary, output_text

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
    "machine": "machine",
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


def number(value: float | None, digits: int, factor: float = 1) -> str:
    return NOT_MEASURED if value is None else f"{value * factor:,.{digits}f}"


def interval_text(found: Interval | None, digits: int) -> str:
    """A mean with its interval, where there is one."""
    if found is None or found.low is None or found.high is None:
        return number(found.mean if found else None, digits)
    return f"{found.mean:,.{digits}f} [{found.low:,.{digits}f}, {found.high:,.{digits}f}]"


def ratio_text(group: Group, reference: str) -> str:
    """How many times the reference, with interval; ties are called ties."""
    return "1" if group.label == reference else _times_text(group.ratio)


def _times_text(ratio: Interval | None) -> str:
    if ratio is None:
        return NOT_MEASURED
    text = f"{ratio.mean:.2f}×"
    if ratio.low is not None and ratio.high is not None:
        text += f" [{ratio.low:.2f}, {ratio.high:.2f}]"
        standing = stats.standing(ratio)
        text += f" {standing}" if standing != "apart" else ""
    return text


RANKING_HEADINGS = (
    "place",
    "engine/variant",
    "output tokens/s",
    "× reference",
    "× the next",
    "TTFT p50 ms",
    "TPOT p50 ms",
    "USD/M output",
    "valid trials",
)


def ranking_table(summary: Summary) -> dict[str, Any] | None:
    """The variants at the study's highest level of load, the best mean first."""
    found = ranking.ranking(summary)
    if found is None:
        return None
    wait = "ttft_s_p50" if found.figure == ranking.RATE else ranking.WAIT
    rows = []
    for place in found.places:
        group, last = place.group, place is found.places[-1]
        figures = [
            interval_text(stats.scaled(group.figures[name], factor), digits)
            for name, factor, digits in (
                (wait, 1e3, 0),
                ("tpot_s_p50", 1e3, 1),
                ("usd_per_million_output_tokens", 1, 2),
            )
        ]
        rows.append(
            [
                f"{place.best}" if place.best == place.worst else f"{place.best}–{place.worst}",
                group.label,
                interval_text(group.figures[ranking.RATE], 1),
                ratio_text(group, summary.reference),
                "" if last else _times_text(place.to_next),
                *figures,
                f"{group.trials_valid} of {group.trials_planned}",
            ]
        )
    headings = list(RANKING_HEADINGS)
    headings[5] = "TTFT p50 ms" if wait == "ttft_s_p50" else "TTFT from due p50 ms"
    if found.figure != ranking.RATE:
        headings[4] = "TTFT × the next’s"
    return {"found": found, "headings": headings, "rows": rows}


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
        made.append(
            {
                "workload": workload,
                "output": output_text(workload),
                "headings": [*headings, "valid trials"],
                "rows": rows,
            }
        )
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
            _times_text(found.ratio) if found.ratio else NOT_MEASURED,
            found.reason or "nothing",
            f"{claim['model']}; {claim['gpu']}; {claim['workload']}",
            f"{_model_text(facts['model'])}; {device}; {found.here}"
            if found.here
            else NOT_MEASURED,
            claim["source"],
        ]
        rows.append({"cells": cells, "url": claim["url"], "is_covered": bool(found.here)})
    return rows

"""What supports the results of a report: parity, plausibility, answers, claims. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from enginebench.check.findings import CHECKS
from enginebench.record.schema import Model
from enginebench.report import formats
from enginebench.report.formats import NOT_MEASURED, number
from enginebench.summarize import claims
from enginebench.summarize.cells import CellRow
from enginebench.summarize.study_summary import Summary

#: Checks that cannot be made without a figure, which not every engine or machine gives.
NEEDED_FOR: Mapping[str, Callable[[CellRow], object]] = {
    "physics": lambda cell: cell.figures.get("ceiling_share"),
    "counters": lambda cell: cell.figures.get("counters_checked"),
    "kv": lambda cell: cell.figures.get("kv_capacity_tokens"),
    "energy": lambda cell: cell.figures.get("energy_j"),
    "client": lambda cell: cell.figures.get("client_judged"),
    "machine": lambda cell: cell.machine,
    "cache": lambda cell: cell.figures.get("cache_checked"),
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


@dataclass(frozen=True, slots=True)
class ParityRow:
    """One variant: by check, how many requests (or cells) failed it; None: it was not checked."""

    label: str
    checks: Mapping[str, int | None]


def shown_checks(summary: Summary) -> dict[str, str]:
    """The checks of the parity table with their meanings.

    A study whose variants promise nothing has no column for that. Where prompts are declared to
    begin alike, a cache may have the beginning.
    """
    is_switched = any(launch.resolved for launch in summary.launches.values())
    checks = {name: text for name, text in CHECKS.items() if name != "effect" or is_switched}
    if any(workload.shared_prefix_tokens for workload in summary.study.study.workloads):
        checks["cache"] += ", but of a beginning that the workload's prompts share"
    return checks


def parity(summary: Summary) -> list[ParityRow]:
    """Variant × check: how many requests (or cells) failed it; None where it was not checked."""
    rows = []
    checks = shown_checks(summary)
    for label in summary.labels:
        cells = [cell for cell in summary.cells if cell.label == label]
        row: dict[str, int | None] = {}
        for check in checks:
            found = [f for cell in cells for f in cell.findings if f.check == check]
            row[check] = sum(1 if f.failed is None else f.failed for f in found)
        for check, needed in NEEDED_FOR.items():
            if not any(needed(cell) for cell in cells):
                row[check] = None
        launches = [start for c in cells if (start := summary.launches.get(c.launch))]
        if not row["record"] and not any(launch.files for launch in launches):
            row["record"] = None  # from before raw files had checksums
        if "effect" in checks and not any(launch.resolved for launch in launches):
            row["effect"] = None
        same = [c for c in summary.agreement if c.label == label and c.is_same_dtype]
        row["answers"] = len(same[0].clear) + same[0].unanswered if same else None
        rows.append(ParityRow(label, row))
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
        kv_shares = [
            held / capacity
            for f in figures
            if (held := f["kv_tokens_in_flight_peak"]) and (capacity := f["kv_capacity_tokens"])
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
                *(number(max(v, default=None), 0, 100) for v in (*shares, kv_shares, loads)),
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


PERPLEXITY_HEADINGS = ("engine/variant", "perplexity", "× reference", "tokens")


def perplexity_rows(summary: Summary) -> list[list[str]]:
    """One row a variant, under PERPLEXITY_HEADINGS; empty if no engine was asked."""
    return [
        [
            found.label,
            number(found.perplexity, 2),
            number(found.ratio, 4),
            number(found.tokens, 0),
        ]
        for found in summary.perplexities
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


def _model_text(model: Model) -> str:
    """Name and size."""
    count = model.parameters
    return f"{model.name} ({count / 1e6:,.0f} M parameters)" if count else model.name


@dataclass(frozen=True, slots=True)
class ClaimRow:
    """A claim of the literature, and where it was made."""

    cells: list[str]  # under CLAIM_HEADINGS
    url: str
    is_covered: bool


def claim_rows(summary: Summary) -> list[ClaimRow]:
    """One row a claim of the literature."""
    study = summary.study
    device = ", ".join(gpu.name or "" for gpu in study.machine.gpus) or study.machine.cpu
    rows = []
    for found in claims.tested(summary, claims.published()):
        claim = found.claim
        cells = [
            claim.name,
            found.verdict,
            f"{claim.times:g}× ({claim.range})",
            formats.ratio(found.ratio),
            found.reason or "nothing",
            f"{claim.model}; {claim.gpu}; {claim.workload}",
            f"{_model_text(study.model)}; {device}; {found.here}" if found.here else NOT_MEASURED,
            claim.source,
        ]
        rows.append(ClaimRow(cells, claim.url, is_covered=bool(found.here)))
    return rows

"""The part of a report on what changes a model's arithmetic: speculation, quantized weights, the
dtype of the KV cache; each beside its speed. Pure: tables of a summary."""

from collections.abc import Mapping

from enginebench.base.load_level import load_text
from enginebench.metrics import speculation
from enginebench.metrics.agreement import Comparison
from enginebench.record.schema import Launch
from enginebench.report import formats
from enginebench.report.formats import NOT_MEASURED, number
from enginebench.report.memory_report import Table
from enginebench.summarize import ceiling_shares, engine_configs
from enginebench.summarize.groups import RATE, Group
from enginebench.summarize.study_summary import Summary, cells_of

MIB = 1 << 20
SPECULATION_HEADINGS = [
    "engine/variant", "workload", "proposed tokens", "accepted", "acceptance",
    "tokens a step with a draft", "accepted, % of the output", "output tokens/s",
    "× the same without drafts", "TPOT p50 ms", "same answers",
]  # fmt: skip
#: Figure of a variant, its heading, factor from SI, digits after the point.
MEMORY_COLUMNS = (
    ("weights_bytes", "weights MiB", 1 / MIB, 0),
    ("kv_bytes_per_token", "KV bytes a token", 1, 0),
    ("kv_capacity_tokens", "KV capacity, tokens", 1, 0),
)


def values(summary: Summary) -> dict[str, object]:
    """What the templates need; a study in which nothing of the kind was tried has no rows."""
    is_tried = any(map(_is_quantized, engine_configs.launches(summary).values()))
    return {
        "speculation_table": speculation_table(summary),
        "weights_table": weights_table(summary) if is_tried else Table([], []),
    }


def speculation_table(summary: Summary) -> Table:
    """Every level of a variant that speculates: what its drafts were worth, and what it gained."""
    starts = engine_configs.launches(summary)
    rows = []
    for group in summary.groups:
        start = starts.get(group.label)
        if start is None or not _is_speculative(start):
            continue
        cells = [cell.figures for cell in cells_of(summary, group) if cell.counts]
        drafts = speculation.together(cells)
        output = sum(figures["output_tokens"] or 0 for figures in cells)
        plain = _without_drafts(start, starts)
        comparison = summary.comparisons[group.workload, group.level, RATE]
        tpot = group.figures["tpot_s_p50"]
        rows.append(
            [
                group.label,
                f"{group.workload}, {load_text(group.concurrency, group.rate)}",
                number(drafts.proposed if drafts else None, 0),
                number(drafts.accepted if drafts else None, 0),
                number(drafts.acceptance if drafts else None, 2),
                number(drafts.step_tokens if drafts else None, 2),
                number(drafts.accepted / output if drafts and output else None, 0, 100),
                formats.interval(group.figures[RATE], 1),
                formats.verdict(comparison.ratio(group.label, plain)) if plain else NOT_MEASURED,
                number(tpot.mean if tpot else None, 1, 1e3),
                _answers_text(_answers(summary, group.label)),
            ]
        )
    return Table(SPECULATION_HEADINGS, rows)


def weights_table(summary: Summary) -> Table:
    """Every variant: the memory of its weights and its KV cache, its speed, and its answers."""
    by_label: dict[str, list[Group]] = {}
    for group in summary.groups:
        by_label.setdefault(group.label, []).append(group)
    levels = list(dict.fromkeys((g.workload, g.concurrency, g.rate) for g in summary.groups))
    headings = ["engine/variant", *(heading for _, heading, *_ in MEMORY_COLUMNS)]
    for workload, concurrency, rate in levels:
        load = load_text(concurrency, rate)
        headings += [f"output tokens/s, {workload}, {load}", f"× {summary.reference}"]
    headings += ["same answers", "first different token, median"]
    rows = []
    for label, groups in by_label.items():
        at = {(g.workload, g.concurrency, g.rate): g for g in groups}
        row = [label, *(_memory(groups, *column) for column in MEMORY_COLUMNS)]
        for level in levels:
            row += _speed(at.get(level), is_reference=label == summary.reference)
        answers = _answers(summary, label)
        first = answers.first_token_median if answers else None
        rows.append([*row, _answers_text(answers), number(first, 0)])
    return Table(headings, rows)


def _memory(groups: list[Group], figure: str, heading: str, factor: float, digits: int) -> str:
    """A figure that all levels of a variant share, of the first level that has it."""
    known = (found.mean for group in groups if (found := group.figures[figure]))
    return number(next(known, None), digits, factor)


def _speed(group: Group | None, *, is_reference: bool) -> list[str]:
    if group is None:
        return [NOT_MEASURED, NOT_MEASURED]
    ratio = "1" if is_reference else formats.verdict(group.ratio)
    return [formats.interval(group.figures[RATE], 1), ratio]


def _answers(summary: Summary, label: str) -> Comparison | None:
    """Beside the variant that it should agree with, or else the reference."""
    return next((found for found in summary.agreement if found.label == label), None)


def _answers_text(found: Comparison | None) -> str:
    if found is None:
        return NOT_MEASURED
    return f"{found.identical} of {found.prompts} beside {found.against}"


def _is_speculative(launch: Launch) -> bool:
    return ceiling_shares.launch_options(launch).is_speculative


def _is_quantized(launch: Launch) -> bool:
    options, model = ceiling_shares.launch_options(launch), launch.model
    is_stored = model is not None and ceiling_shares.is_stored_quantized(model)
    return is_stored or options.is_quantized or options.kv_dtype is not None


def _without_drafts(start: Launch, starts: Mapping[str, Launch]) -> str | None:
    """The label of the same engine with the same declared variants but the one that speculates."""
    own = set(start.declared)
    for label, other in starts.items():
        rest = set(other.declared)
        is_one_less = rest < own and len(own - rest) == 1
        is_same = other.engine == start.engine and other.model == start.model
        if is_same and is_one_less and other.dtype == start.dtype and not _is_speculative(other):
            return label
    return None

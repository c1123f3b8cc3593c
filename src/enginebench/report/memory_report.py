"""The part of a report that says where the memory goes. Pure: tables and sentences of a summary."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from enginebench.hardware.capacity import requests_that_fit
from enginebench.metrics.memory import LEAST_SAMPLES
from enginebench.record.schema_study import OutputRange
from enginebench.summarize import growth
from enginebench.summarize.cells import CellRow
from enginebench.summarize.groups import Group
from enginebench.summarize.study_summary import Summary, workload_of

GIB = 1 << 30
NOT_MEASURED = "–"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under their headings."""

    headings: list[str]
    rows: list[list[str]]


def fullest_cells(summary: Summary) -> list[CellRow]:
    """Of each variant, the cell of its first trial that had the most KV tokens in use."""
    found = []
    by_label = sorted(summary.cells, key=lambda cell: cell.label)
    for _, cells in groupby(by_label, key=lambda cell: cell.label):
        measured = [
            cell
            for cell in cells
            if cell.trial == 1
            and cell.counts
            and cell.figures.get("kv_tokens_in_flight_peak") is not None
        ]
        if measured:
            found.append(max(measured, key=_fullness))
    return found


def is_followed(cell: CellRow) -> bool:
    """Whether the engine was asked often enough to know its peaks."""
    return len(cell.samples) >= LEAST_SAMPLES


def _fullness(cell: CellRow) -> float:
    peak = cell.figures["kv_used_tokens_peak"] or cell.figures["kv_tokens_in_flight_peak"]
    return float(peak or 0.0)


def accounts(summary: Summary) -> Table:
    """What each variant's memory is made of, in its fullest cell."""
    rows = []
    for cell in fullest_cells(summary):
        figures = cell.figures
        used, capacity = figures["kv_used_tokens_peak"], figures["kv_capacity_tokens"]
        rows.append(
            [
                cell.label,
                f"{cell.workload}, {cell.load_text}",
                *(
                    _gib(figures[name])
                    for name in (
                        "total_bytes", "weights_bytes", "kv_reserved_bytes", "other_bytes",
                    )
                ),
                _count(capacity),
                _count(used) + (f" ({used / capacity:.0%})" if used and capacity else ""),
                _count(figures["kv_tokens_in_flight_peak"]),
                f"{_count(figures['kv_bytes_per_token'])} / "
                f"{_count(figures['kv_bytes_per_token_measured'])}",
                _percent(figures["kv_waste"]),
                _percent(figures["kv_follow_error"]),
            ]
        )  # fmt: skip
    headings = [
        "engine/variant", "workload", "memory GiB", "weights", "KV reserved", "other",
        "KV capacity, tokens", "used at most", "held by requests at most",
        "bytes a token, computed / measured", "used but not needed", "engine's curve off ours by",
    ]  # fmt: skip
    return Table(headings, rows)


def capacities(summary: Summary) -> Table:
    """For every level of an engine with a fixed cache: what was predicted, and what was seen."""
    rows = []
    for group in summary.groups:
        capacity = group.figures["kv_capacity_tokens"]
        if capacity is None or group.rate is not None:
            continue  # an open loop's requests in flight are not known beforehand
        if workload_of(summary, group.workload).shared_prefix_tokens:
            continue  # nor what requests hold whose prompts begin alike
        names = ("requests_running_peak", "waiting_for_room_peak", "preemptions")
        seen = [found.mean if (found := group.figures[name]) else None for name in names]
        if not _is_group_followed(summary, group):
            seen = [None, None, seen[2]]  # a counter misses nothing
        length = request_tokens(summary, group.workload)
        fit = requests_that_fit(capacity.mean, length, _block(summary, group))
        rows.append(
            [
                group.label,
                group.workload,
                str(group.concurrency),
                _count(length),
                _count(fit),
                "queues" if group.concurrency > fit else "fits",
                *map(_count, seen),
                _as_predicted(seen, group.concurrency > fit),
            ]
        )
    headings = [
        "engine/variant", "workload", "in flight", "tokens a request, at most", "requests that fit",
        "predicted", "running, peak", "waiting for KV space, peak", "preempted", "as predicted",
    ]  # fmt: skip
    return Table(headings, rows)


def request_tokens(summary: Summary, workload: str) -> int:
    """Prompt and longest output of a request of a workload."""
    found = workload_of(summary, workload)
    output = found.output_tokens
    return found.prompt_tokens + (output.max if isinstance(output, OutputRange) else output)


def _block(summary: Summary, group: Group) -> int:
    cells = (cell for cell in summary.cells if cell.label == group.label)
    return next((int(b) for c in cells if (b := c.figures.get("kv_block_tokens"))), 1)


def _is_group_followed(summary: Summary, group: Group) -> bool:
    here = (group.label, group.workload, group.concurrency)
    cells = [c for c in summary.cells if (c.label, c.workload, c.concurrency) == here and c.counts]
    return all(is_followed(cell) for cell in cells)


def _as_predicted(seen: Sequence[float | None], is_predicted_to_queue: bool) -> str:
    """Of requests running, waiting for room and preempted, as far as they are known."""
    _, waiting, preempted = seen
    if waiting or preempted:
        return "yes" if is_predicted_to_queue else "no"
    if waiting is None:
        return NOT_MEASURED
    return "no" if is_predicted_to_queue else "yes"


#: (what grows, its figure, whether with the output alone or the whole request)
GROWING = (
    ("time of a request", "e2e_s_p50", "output"),
    ("bytes of KV", "kv_reserved_bytes", "request"),
)


def curves(summary: Summary) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Figure -> variant -> (tokens, value), of single requests with one prompt length and outputs
    of at least three."""
    alone = [
        group
        for group in summary.groups
        if group.concurrency == 1
        and group.rate is None
        and isinstance(workload_of(summary, group.workload).output_tokens, int)
    ]
    prompts = Counter(workload_of(summary, group.workload).prompt_tokens for group in alone)
    if not prompts:
        return {}
    prompt = prompts.most_common(1)[0][0]
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for _, figure, over in GROWING:
        variants: dict[str, list[tuple[float, float]]] = {}
        for group in alone:
            value = group.figures[figure]
            if value is not None and workload_of(summary, group.workload).prompt_tokens == prompt:
                tokens = request_tokens(summary, group.workload)
                length = tokens - (prompt if over == "output" else 0)
                variants.setdefault(group.label, []).append((float(length), value.mean))
        found[figure] = {
            label: points
            for label, points in variants.items()
            if len({x for x, _ in points}) >= growth.MINIMUM_POINTS
        }
    return found


def growths(summary: Summary) -> Table:
    """The exponents with which time and memory grow with length."""
    rows = []
    measured = curves(summary)
    for what, figure, over in GROWING:
        for label, points in measured.get(figure, {}).items():
            law = growth.power_law(points)
            if law is None:
                continue
            shortest, longest = min(points)[0], max(points)[0]
            rows.append(
                [
                    label,
                    what,
                    f"{shortest:.0f} to {longest:.0f} of the {over}",
                    f"{law.exponent:.2f} ± {law.exponent_error:.2f}",
                    f"{law.last_exponent:.2f}",
                ]
            )
    headings = [
        "engine/variant", "what grows", "tokens", "exponent", "between the two longest",
    ]  # fmt: skip
    return Table(headings, rows)


def sentences(summary: Summary) -> list[str]:
    """What the tables come to; a sentence whose condition does not hold is not there."""
    said = []
    times = curves(summary).get("e2e_s_p50", {})
    reference = times.get(summary.reference)
    for label, points in times.items():
        if reference is None or label == summary.reference:
            continue
        length = growth.crossover(points, reference)
        if length is not None:
            longest = max(x for x, _ in points if x in dict(reference))
            ratio = dict(points)[longest] / dict(reference)[longest]
            said.append(
                f"{label} takes longer than {summary.reference} from about {length:.0f} output "
                f"tokens on; with {longest:.0f} it takes {ratio:.1f} times as long."
            )
    for cell in fullest_cells(summary):
        total, reserved = cell.figures["total_bytes"], cell.figures["kv_reserved_bytes"]
        used, capacity = cell.figures["kv_used_tokens_peak"], cell.figures["kv_capacity_tokens"]
        if total and reserved and used and capacity:
            said.append(
                f"{cell.label} shows {total / GIB:.1f} GiB; its KV cache is reserved whole "
                f"({reserved / GIB:.1f} GiB) and was used to {used / capacity:.0%} at most: what "
                "the machine shows says nothing of what the requests needed."
            )
    return said


def _gib(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value / GIB:.2f}"


def _count(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:,.0f}"


def _percent(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:.0%}"

"""The ranking and the results of a report as rows of text. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from enginebench.base import stats
from enginebench.base.estimator import Comparison
from enginebench.base.percentiles import least_samples
from enginebench.base.verdicts import MARGIN, meanings
from enginebench.metrics import lockstep
from enginebench.record.schema_study import Workload
from enginebench.report import formats
from enginebench.report.formats import GIB, NOT_MEASURED, number
from enginebench.summarize import ranking
from enginebench.summarize.groups import COST, RATE, Group
from enginebench.summarize.study_summary import (
    Summary,
    cells_of,
    levels,
    output_text,
    workload_of,
)

Column = tuple[str, str, float, int]  # heading, figure, factor from SI, digits after the point

BURST_DIFFERS = 1.1  # a first burst's TTFT this many times that of later requests is shown apart

#: After variant, level, requests, output tokens/s and the ratio. A column that no row of a workload
#: has a value for is left out.
COLUMNS: tuple[Column, ...] = (
    ("TTFT p50 ms", "ttft_s_p50", 1e3, 0),
    ("TTFT p90 ms", "ttft_s_p90", 1e3, 0),
    ("TTFT p95 ms", "ttft_s_p95", 1e3, 0),
    ("TTFT p99 ms", "ttft_s_p99", 1e3, 0),
    ("TPOT p50 ms", "tpot_s_p50", 1e3, 1),
    ("ITL p95 ms", "itl_s_p95", 1e3, 1),
    ("ITL p99 ms", "itl_s_p99", 1e3, 1),
    ("ITL max ms", "itl_s_max", 1e3, 1),
    ("E2E p50 s", "e2e_s_p50", 1, 2),
    ("E2E p95 s", "e2e_s_p95", 1, 2),
    ("requests/s", "requests_per_s", 1, 2),
    ("USD/M output", COST, 1, 2),
    ("memory GiB", "memory_peak_bytes", 1 / GIB, 2),
    ("% of ceiling", "ceiling_share", 100, 0),
)

#: The same, of machines with a GPU.
GPU_COLUMNS = (
    ("GPU memory GiB", "gpu_memory_peak_bytes", 1 / GIB, 2),
    ("GPU power W", "power_w_mean", 1, 0),
    ("GPU utilisation %", "gpu_utilisation_mean", 100, 0),
)

#: Shown where the first burst of a closed loop waited clearly longer, or less, than what followed.
BURST_COLUMNS: tuple[Column, ...] = (
    ("TTFT p50 ms, first burst", "ttft_burst_s_p50", 1e3, 0),
    ("after it", "ttft_steady_s_p50", 1e3, 0),
)

#: What an open loop shows instead: waiting counts from the moment a request was due, and costs,
#: which are those of the offered rate, are left out.
FROM_DUE = {"ttft_s": ("TTFT", "ttft_planned_s"), "e2e_s": ("E2E", "e2e_planned_s")}

#: Of a workload whose prompts begin alike.
CACHED = "prompt from cache %"


RANKING_HEADINGS = (
    "place",
    "engine/variant",
    "output tokens/s",
    "× reference",
    "× the next",
)


@dataclass(frozen=True, slots=True)
class RankingTable:
    """The ranking as rows of text."""

    headings: list[str]
    rows: list[list[str]]
    notes: list[str]


def ranking_table(summary: Summary) -> RankingTable | None:
    """The variants at one level of load, the best estimate first, and what the words mean."""
    found = ranking.ranking(summary)
    if found is None:
        return None
    is_closed = found.figure == RATE
    columns: list[Column] = [("TPOT p50 ms", "tpot_s_p50", 1e3, 1)]
    if is_closed:
        columns = [("TTFT p50 ms", "ttft_s_p50", 1e3, 0), *columns, ("USD/M output", COST, 1, 2)]
    else:
        columns = [("TTFT from due p50 ms", ranking.WAIT, 1e3, 0), *columns]
    rows = []
    for place in found.places:
        group, is_last = place.group, place is found.places[-1]
        rows.append(
            [
                f"{place.best}" if place.best == place.worst else f"{place.best}–{place.worst}",
                group.label,
                formats.interval(group.figures[RATE], 1),
                _reference_text(group, summary.reference),
                "" if is_last else formats.verdict(place.to_next),
                *(
                    formats.interval(stats.scaled(group.figures[name], factor), digits)
                    for _, name, factor, digits in columns
                ),
                f"{group.trials_valid} of {group.trials_planned}",
            ]
        )
    headings = [*RANKING_HEADINGS, *(heading for heading, *_ in columns), "valid trials"]
    if not is_closed:
        headings[4] = "TTFT × the next’s"
    return RankingTable(headings, rows, _ranking_notes(found))


def _ranking_notes(found: ranking.Ranking) -> list[str]:
    """Where the ranking is from, and what limits it."""
    text = f"Workload {found.workload.name}, {found.load_text}, {found.outputs_text}"
    if found.figure != RATE:
        choice = "."
    elif found.has_varied_outputs:
        choice = ": lengths differ, so that streams do not move in step."
    else:
        choice = (
            ": all equally long, which favours engines that wait for the longest of a batch, and "
            "makes TTFT that of a burst where streams move in step."
        )
    return [text + choice, *_comparison_notes(found.comparison)]


def verdict_meanings() -> list[tuple[str, str]]:
    """The words for a ratio and what each means, for the place where they are first used."""
    return list(meanings(MARGIN).items())


def percentile_legend() -> str:
    """From how many requests on a percentile is printed."""
    shown = ", ".join(f"{name} from {least} requests" for name, least, _ in least_samples())
    return (
        f"A percentile of a trial's requests is printed from the sample on that bounds it: {shown}."
    )


def _comparison_notes(comparison: Comparison) -> list[str]:
    """What the intervals of one comparison rest on, and who is not in it."""
    notes = [spread.text for spread in comparison.spreads]
    return notes + [
        f"{label} has no estimate: {why}." for label, why in comparison.excluded.items()
    ]


def _reference_text(group: Group, reference: str) -> str:
    return "1" if group.label == reference else formats.verdict(group.ratio)


@dataclass(frozen=True, slots=True)
class WorkloadRow:
    """One variant at one level."""

    cells: list[str]
    verdict: str  # how many of its trials are valid
    is_valid: bool  # all of them


@dataclass(frozen=True, slots=True)
class WorkloadTable:
    """The results of one workload as rows of text."""

    workload: Workload
    output: str  # the length of its outputs
    headings: list[str]
    rows: list[WorkloadRow]
    notes: list[str]


def tables(summary: Summary) -> list[WorkloadTable]:
    """One table a workload: headings, a row a (level, variant), and notes."""
    answers = {c.label: f"{c.identical} of {c.prompts}" for c in reversed(summary.agreement)}
    made = []
    for workload in summary.study.study.workloads:
        groups = [group for group in summary.groups if group.workload == workload.name]
        is_open = not workload.concurrency
        columns = _columns(summary, groups, is_open)
        level = "requests/s offered" if is_open else "in flight"
        headings = ["engine/variant", level, "requests", "output tokens/s", "× reference"]
        headings += [heading for heading, *_ in columns]
        headings += [CACHED] if workload.shared_prefix_tokens else []
        headings += ["ITL gaps", *(["same answers"] if answers else []), "valid trials"]
        made.append(
            WorkloadTable(
                workload=workload,
                output=output_text(workload),
                headings=headings,
                rows=[_row(summary, group, columns, answers) for group in groups],
                notes=list(_notes(summary, workload)),
            )
        )
    return made


def _columns(summary: Summary, groups: Sequence[Group], is_open: bool) -> list[Column]:
    """The columns that have a value, as the workload and the machine have them."""
    columns = [_from_due(column) for column in COLUMNS] if is_open else list(COLUMNS)
    if any(_has_burst(group) for group in groups):
        columns[1:1] = BURST_COLUMNS
    if summary.study.device == "cuda":
        columns += GPU_COLUMNS
    return [
        column
        for column in columns
        if any(group.figures[column[1]] is not None for group in groups)
        and not (is_open and column[1] == COST)
    ]


def _from_due(column: Column) -> Column:
    heading, figure, factor, digits = column
    for start, (word, planned) in FROM_DUE.items():
        if figure.startswith(start):
            heading = heading.replace(word, f"{word} from due")
            return heading, figure.replace(start, planned), factor, digits
    return column


def _has_burst(group: Group) -> bool:
    burst, after = group.figures["ttft_burst_s_p50"], group.figures["ttft_steady_s_p50"]
    if burst is None or after is None:
        return False
    return not 1 / BURST_DIFFERS < burst.mean / after.mean < BURST_DIFFERS


def _row(
    summary: Summary, group: Group, columns: Sequence[Column], answers: Mapping[str, str]
) -> WorkloadRow:
    figures = [
        number(found.mean if (found := group.figures[name]) else None, digits, factor)
        for _, name, factor, digits in columns
    ]
    if workload_of(summary, group.workload).shared_prefix_tokens:
        figures.append(cached_text(summary, group))
    gaps = [int(cell.figures["itl_gaps"] or 0) for cell in cells_of(summary, group) if cell.counts]
    return WorkloadRow(
        cells=[
            group.label,
            f"{group.level:g}",
            str(group.requests),
            formats.interval(group.figures[RATE], 1),
            _reference_text(group, summary.reference),
            *figures,
            f"{sum(gaps):,}",
            *([answers.get(group.label, NOT_MEASURED)] if answers else []),
        ],
        verdict=f"{group.trials_valid} of {group.trials_planned}",
        is_valid=group.trials_valid == group.trials_planned,
    )


def cached_text(summary: Summary, group: Group) -> str:
    """Under CACHED: the mean over the valid trials."""
    valid = [cell.figures.get("cached_share") for cell in cells_of(summary, group) if cell.counts]
    shares = [share for share in valid if share is not None]
    return number(fmean(shares) if shares else None, 0, 100)


def _notes(summary: Summary, workload: Workload) -> Iterator[str]:
    """What prompts share, what the intervals of each level rest on, and who moved in step there."""
    if shared := workload.shared_prefix_tokens:
        yield (
            f"All prompts begin with the same {shared} of {workload.prompt_tokens} tokens, those"
            " of the warm-up too, so that a prefix cache has them. "
            f"{CACHED}: of all prompt tokens, as the engine says."
        )
    for level in levels(workload):
        comparison = summary.comparisons.get((workload.name, level, RATE))
        unit = "in flight" if workload.concurrency else "requests/s"
        if comparison is not None and (notes := _comparison_notes(comparison)):
            yield f"{level:g} {unit}: {' '.join(notes)}"
    in_step: dict[str, list[str]] = {}
    for group in summary.groups:
        share = group.figures["in_step_share"]
        if group.workload == workload.name and share and share.mean >= lockstep.IN_STEP:
            in_step.setdefault(group.label, []).append(f"{group.level:g}")
    if in_step:
        texts = [f"{label} at {formats.listed(levels)}" for label, levels in in_step.items()]
        yield (
            f"Streams moved in step ({'; '.join(texts)} in flight): their requests were sent "
            "together, so that TTFT is that of a burst of so many prompts."
        )

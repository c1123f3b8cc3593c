"""From a study's raw files to its figures: one row a cell and trial, one group over the trials.

A pure function of the record: the same raw files give the same summary, anywhere, any time.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enginebench import check, cost, measure, prometheus, record, stats
from enginebench.dialect import Dialect
from enginebench.stats import Interval

#: Figures that are averaged over trials, and what they are.
AVERAGED = (
    "output_tokens_per_s",
    "requests_per_s",
    "usd_per_million_output_tokens",
    "ttft_s_p50",
    "ttft_s_p95",
    "tpot_s_p50",
    "itl_s_p50",
    "itl_s_p99",
    "e2e_s_p50",
    "e2e_s_p95",
    "memory_peak_bytes",
)


@dataclass(frozen=True, slots=True)
class CellRow:
    """One cell of one trial."""

    launch: str
    trial: int
    engine: str
    variant: str
    label: str
    workload: str
    concurrency: int
    problems: tuple[str, ...]  # empty: the cell is valid
    log_tail: tuple[str, ...]
    figures: Mapping[str, Any]  # empty where nothing was recorded

    @property
    def is_valid(self) -> bool:
        return not self.problems


@dataclass(frozen=True, slots=True)
class Group:
    """One variant at one workload and level, over its valid trials."""

    label: str
    engine: str
    variant: str
    workload: str
    concurrency: int
    trials_valid: int
    trials_planned: int
    figures: Mapping[str, Interval | None]
    ratio: Interval | None  # output tokens/s over the reference's, paired by trial


@dataclass(frozen=True, slots=True)
class Summary:
    study: Mapping[str, Any]  # study.json
    launches: Mapping[str, Mapping[str, Any]]  # launch.json by launch id; only what was started
    finished: bool
    cells: tuple[CellRow, ...]
    groups: tuple[Group, ...]
    reference: str

    @property
    def invalid(self) -> tuple[CellRow, ...]:
        return tuple(cell for cell in self.cells if not cell.is_valid)


def summarize(directory: Path, dialects: Mapping[str, Dialect]) -> Summary:
    """Read a study's raw files and work out every figure.

    Args:
        directory: the study's directory below results/.
        dialects: by engine name; an engine whose directory is gone has none, and its metrics
            count as not measured.
    """
    study = record.read_study(directory)
    price = float(study["study"]["price"]["usd_per_hour"])
    launches: dict[str, Any] = {}
    cells: list[CellRow] = []
    for planned in study["plan"]:
        file = directory / "raw" / planned["id"] / "launch.json"
        facts = record.read_json(file) if file.exists() else None
        if facts is not None:
            launches[planned["id"]] = facts
        for cell in planned["cells"]:
            dialect = dialects.get(planned["engine"])
            cells.append(_cell_row(directory, planned, cell, facts, dialect, price))
    reference = study["study"]["reference"] or study["plan"][0]["label"]
    if not study["study"]["reference"]:
        first = study["study"]["engines"][0]
        reference = f"{first['engine']}/{first['variant']}"
    return Summary(
        study,
        launches,
        (directory / "finished.json").exists(),
        tuple(cells),
        tuple(_groups(study, cells, reference)),
        reference,
    )


def _cell_row(
    directory: Path,
    planned: Mapping[str, Any],
    cell: Mapping[str, Any],
    facts: Mapping[str, Any] | None,
    dialect: Dialect | None,
    price: float,
) -> CellRow:
    where = directory / "raw" / planned["id"] / cell["id"]
    found: list[str] = []
    tail: Sequence[str] = ()
    figures: dict[str, Any] = {}
    if not (where / "cell.json").exists():
        failure = (facts or {}).get("failure")
        if failure:
            found.append(f"not run: {failure['message'].removesuffix('; the end of its log:')}")
            tail = failure["log_tail"]
        else:
            found.append("not run: the study ended before this cell")
    else:
        facts_of_cell = record.read_json(where / "cell.json")
        rows = list(record.read_lines(where / "requests.jsonl"))
        rows = [row for row in rows if row["phase"] == "measured"]
        scrapes = list(record.read_lines(where / "scrapes.jsonl.gz"))
        processes = list(record.read_lines(where / "processes.jsonl"))
        if facts_of_cell["engine_death"]:
            found.append(facts_of_cell["engine_death"])
            tail = facts_of_cell["log_tail"]
        metrics = [prometheus.read(s["text"], dialect) if dialect else {} for s in scrapes]
        ends = (metrics[0], metrics[-1]) if metrics else ({}, {})
        found += check.problems(rows, cell["requests"], *ends)
        figures = measure.cell_figures(rows) | _watched(metrics, processes)
        rate = figures["output_tokens_per_s"]
        figures["usd_per_million_output_tokens"] = (
            cost.usd_per_million_output_tokens(price, rate) if rate else None
        )
    return CellRow(
        planned["id"],
        planned["trial"],
        planned["engine"],
        planned["variant"],
        planned["label"],
        cell["workload"],
        cell["concurrency"],
        tuple(found),
        tuple(tail),
        figures,
    )


def _watched(
    metrics: Sequence[Mapping[str, float | None]], processes: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Peaks over the cell of what was watched; None is "not measured"."""

    def peak(values: Sequence[float | None]) -> float | None:
        return max((value for value in values if value is not None), default=None)

    return {
        "memory_peak_bytes": peak([sample["pss_bytes"] for sample in processes]),
        "kv_used_ratio_peak": peak([page.get("kv_used_ratio") for page in metrics]),
        "kv_used_bytes_peak": peak([page.get("kv_used_bytes") for page in metrics]),
        "requests_running_peak": peak([page.get("requests_running") for page in metrics]),
        "requests_waiting_peak": peak([page.get("requests_waiting") for page in metrics]),
    }


def _groups(study: Mapping[str, Any], cells: Sequence[CellRow], reference: str) -> list[Group]:
    """Groups in the study's own order: workload, level, variant."""
    groups = []
    labels = [f"{v['engine']}/{v['variant']}" for v in study["study"]["engines"]]
    for workload in study["study"]["workloads"]:
        for concurrency in workload["concurrency"]:
            level = [
                cell
                for cell in cells
                if (cell.workload, cell.concurrency) == (workload["name"], concurrency)
            ]
            for label in labels:
                members = [cell for cell in level if cell.label == label]
                if members:
                    against = [cell for cell in level if cell.label == reference]
                    groups.append(_group(members, against))
    return groups


def _group(members: Sequence[CellRow], against: Sequence[CellRow]) -> Group:
    valid = [cell for cell in members if cell.is_valid]
    figures = {
        name: stats.mean_interval([v for c in valid if (v := c.figures.get(name)) is not None])
        for name in AVERAGED
    }
    ratio = paired_ratio(members, against)
    first = members[0]
    return Group(
        first.label,
        first.engine,
        first.variant,
        first.workload,
        first.concurrency,
        len(valid),
        len(members),
        figures,
        ratio,
    )


def paired_ratio(members: Iterable[CellRow], against: Iterable[CellRow]) -> Interval | None:
    """Output tokens/s of one variant over another's at the same level, paired by trial."""
    rates = [
        {cell.trial: cell.figures["output_tokens_per_s"] for cell in cells if cell.is_valid}
        for cells in (members, against)
    ]
    pairs = [(rates[0][trial], rates[1][trial]) for trial in rates[0].keys() & rates[1].keys()]
    return stats.ratio_interval(sorted(pairs))

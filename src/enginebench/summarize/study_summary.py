"""From a study's raw files to its figures: one row a cell and trial, one group over the trials.

A pure function of the record: the same raw files give the same summary, anywhere, any time.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from enginebench.base import stats
from enginebench.base.stats import Interval
from enginebench.check import record_damage
from enginebench.hardware import roofline
from enginebench.metrics import agreement
from enginebench.metrics.agreement import Comparison
from enginebench.record import manifest, reading, schema, schema_study
from enginebench.summarize import cells
from enginebench.summarize.cells import CellRow

#: Figures that are averaged over trials, and what they are.
AVERAGED = (
    "output_tokens_per_s",
    "requests_per_s",
    "usd_per_million_output_tokens",
    "ttft_s_p50",
    "ttft_s_p95",
    "ttft_planned_s_p50",
    "ttft_planned_s_p95",
    "requests_offered_per_s",
    "tpot_s_p50",
    "itl_s_p50",
    "itl_s_p99",
    "e2e_s_p50",
    "e2e_s_p95",
    "memory_peak_bytes",
    "gpu_memory_peak_bytes",
    "gpu_utilisation_mean",
    "power_w_mean",
    "weights_bytes",
    "kv_reserved_bytes",
    "other_bytes",
    "kv_capacity_tokens",
    "kv_used_tokens_peak",
    "kv_tokens_in_flight_peak",
    "kv_bytes_per_token",
    "kv_bytes_per_token_measured",
    "kv_waste",
    "kv_follow_error",
    "requests_running_peak",
    "requests_waiting_peak",
    "preemptions",
    "waiting_for_room_peak",
    "ceiling_share",
)


@dataclass(frozen=True, slots=True)
class Group:
    """One variant at one workload and level, over its valid trials."""

    label: str
    engine: str
    variant: str
    workload: str
    concurrency: int
    rate: float | None
    trials_valid: int
    trials_planned: int
    requests: int  # measured, over the valid trials
    figures: Mapping[str, Interval | None]
    ratio: Interval | None  # output tokens/s over the reference's, paired by trial

    @property
    def level(self) -> float:
        return self.concurrency if self.rate is None else self.rate


@dataclass(frozen=True, slots=True)
class Summary:
    study: Mapping[str, Any]  # study.json
    launches: Mapping[str, Mapping[str, Any]]  # launch.json by launch id; only what was started
    finished: bool
    resumed: int  # how often it was gone on with
    cells: tuple[CellRow, ...]
    groups: tuple[Group, ...]
    reference: str
    agreement: tuple[Comparison, ...]  # empty: answers were not compared

    @property
    def labels(self) -> list[str]:
        """The variants, in the order of the study."""
        return list(dict.fromkeys(group.label for group in self.groups))

    @property
    def invalid(self) -> tuple[CellRow, ...]:
        return tuple(cell for cell in self.cells if cell.verdict == "invalid")

    @property
    def suspect(self) -> tuple[CellRow, ...]:
        return tuple(cell for cell in self.cells if cell.verdict == "suspect")


def summarize(directory: Path, told: Callable[[int], object] = int) -> Summary:
    """Read a study's raw files, in its directory below results/, and work out every figure.

    Args:
        told: is given the bytes of the requests' records as they are read; ``size`` has their sum.
    """
    study = reading.read_study_json(directory)
    damages: dict[str, str] = {}
    finished = _read(directory, "finished.json", schema_study.Finished, damages)
    study["ceilings"] = _ceilings(finished, study)
    study["ceiling"] = roofline.higher(*study["ceilings"]) if study["ceilings"] else None
    launches = {}
    for planned in study["plan"]:
        facts = _read(directory, f"raw/{planned['id']}/launch.json", schema.Launch, damages)
        if facts is not None:
            launches[planned["id"]] = facts
    for facts in (finished or {}, *launches.values()):
        damages |= manifest.damages(directory, facts.get("files", {}))
    reference = study["study"]["reference"] or _labels(study)[0]
    compared = _comparisons(directory, study, launches, reference, damages)
    rows = []
    for planned in study["plan"]:
        facts = launches.get(planned["id"])
        for cell in planned["cells"]:
            row = cells.cell_row(directory, study, planned, cell, facts, compared, told)
            damaged = tuple(record_damage.findings(damages, planned["id"], cell["id"]))
            rows.append(replace(row, findings=damaged + row.findings))
    return Summary(
        study,
        launches,
        finished is not None,
        _resumed(directory, damages),
        tuple(rows),
        tuple(_groups(study, rows, reference)),
        reference,
        compared,
    )


def _read(directory: Path, path: str, kind: Any, damages: dict[str, str]) -> dict[str, Any] | None:
    """A document of a record, if it is there; one that cannot be read is noted as damaged."""
    if not os.path.lexists(directory / path):
        return None
    try:
        plain: dict[str, Any] = reading.read_json(directory / path, kind)
        return plain
    except reading.RecordError as error:
        damages[path] = error.message
        return None


def size(directory: Path) -> int:
    """Bytes of the requests' records of a study."""
    return sum(file.lstat().st_size for file in directory.glob("raw/*/*/requests.jsonl"))


def _labels(study: Mapping[str, Any]) -> list[str]:
    return [f"{v['engine']}/{v['variant']}" for v in study["study"]["engines"]]


def _comparisons(
    directory: Path,
    study: Mapping[str, Any],
    launches: Mapping[str, Mapping[str, Any]],
    reference: str,
    damages: dict[str, str],
) -> tuple[Comparison, ...]:
    """The answers of every variant that gave any, beside those it should agree with."""
    files = {
        planned["label"]: (planned["id"], file)
        for planned in study["plan"]
        if planned["id"] in launches
        and (file := directory / "raw" / planned["id"] / "agreement.jsonl.gz").exists()
    }
    answers = {}
    for label in (label for label in _labels(study) if label in files):
        launch, file = files[label]
        try:
            answers[label] = list(reading.read_rows(file, schema.Request))
        except reading.RecordError as error:
            damages[f"raw/{launch}/{file.name}"] = error.message
    dtypes = {label: launches[files[label][0]].get("dtype") for label in answers}
    return agreement.comparisons(answers, dtypes, reference)


def _resumed(directory: Path, damages: dict[str, str]) -> int:
    """How often a study was resumed; a line that a full disk has cut counts for nothing."""
    events = directory / "events.jsonl"
    if not os.path.lexists(events):
        return 0
    try:
        steps = list(reading.whole_rows(events, schema_study.Event))
    except reading.RecordError as error:
        damages[events.name] = error.message
        return 0
    return sum(event.step == "resumed" for event in steps)


def _ceilings(
    finished: Mapping[str, Any] | None, study: Mapping[str, Any]
) -> tuple[roofline.Ceiling, roofline.Ceiling | None] | None:
    """The machine's ceiling before the first engine and after the last, if it was measured then; of
    the two the higher counts, as a busy machine measures too low."""
    if not study.get("ceiling"):
        return None
    after = (finished or {}).get("ceiling")
    return _ceiling(study["ceiling"]), _ceiling(after) if after else None


def _ceiling(plain: Mapping[str, Any]) -> roofline.Ceiling:
    found = msgspec.convert(plain, schema_study.Ceiling)
    return roofline.Ceiling(
        found.name, found.bandwidth_bytes_per_s, found.flops_per_s, found.source
    )


def _groups(study: Mapping[str, Any], cells: Sequence[CellRow], reference: str) -> list[Group]:
    """Groups in the study's own order: workload, level, variant."""
    groups = []
    labels = _labels(study)
    for workload in study["study"]["workloads"]:
        for level in workload["concurrency"] or workload["rate"]:
            here = [
                cell for cell in cells if (cell.workload, cell.level) == (workload["name"], level)
            ]
            for label in labels:
                members = [cell for cell in here if cell.label == label]
                if members:
                    against = [cell for cell in here if cell.label == reference]
                    groups.append(_group(members, against))
    return groups


def _group(members: Sequence[CellRow], against: Sequence[CellRow]) -> Group:
    valid = [cell for cell in members if cell.counts]
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
        first.rate,
        len(valid),
        len(members),
        sum(cell.figures["requests"] for cell in valid),
        figures,
        ratio,
    )


def workload_of(summary: Summary, name: str) -> Mapping[str, Any]:
    """A workload of the study by its name."""
    (found,) = (w for w in summary.study["study"]["workloads"] if w["name"] == name)
    return dict(found)


def output_text(workload: Mapping[str, Any]) -> str:
    """How many tokens its outputs have."""
    output = workload["output_tokens"]
    return f"{output['min']} to {output['max']}" if isinstance(output, dict) else f"{output}"


def cells_of(summary: Summary, group: Group) -> list[CellRow]:
    """The cells behind a group: of all its trials, the invalid ones too."""
    here = (group.label, group.workload, group.level)
    return [cell for cell in summary.cells if (cell.label, cell.workload, cell.level) == here]


def paired_ratio(
    members: Iterable[CellRow], against: Iterable[CellRow], figure: str = "output_tokens_per_s"
) -> Interval | None:
    """A figure of one variant over another's at the same level, paired by trial."""
    values = [
        {
            cell.trial: cell.figures[figure]
            for cell in cells
            if cell.counts and cell.figures[figure] is not None
        }
        for cells in (members, against)
    ]
    pairs = [(values[0][trial], values[1][trial]) for trial in values[0].keys() & values[1].keys()]
    return stats.ratio_interval(sorted(pairs))

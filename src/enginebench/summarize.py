"""From a study's raw files to its figures: one row a cell and trial, one group over the trials.

A pure function of the record: the same raw files give the same summary, anywhere, any time.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enginebench import (
    agreement,
    budget,
    ceilings,
    check,
    cost,
    gpu,
    kv,
    measure,
    memory,
    plausible,
    prometheus,
    record,
    roofline,
    stats,
)
from enginebench.agreement import Comparison
from enginebench.check import Finding, Verdict
from enginebench.plausible import Shares
from enginebench.stats import Interval

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
class CellRow:
    """One cell of one trial."""

    launch: str
    trial: int
    engine: str
    variant: str
    label: str
    workload: str
    concurrency: int  # most requests in flight
    rate: float | None  # requests/s offered in an open loop; None: a closed loop
    findings: tuple[Finding, ...]  # empty: the cell is valid
    log_tail: tuple[str, ...]
    figures: Mapping[str, Any]  # empty where nothing was recorded
    samples: tuple[memory.Sample, ...] = ()  # the KV cache over time
    resident: tuple[tuple[float, float], ...] = ()  # the processes' memory: t_s, bytes

    @property
    def level(self) -> float:
        return self.concurrency if self.rate is None else self.rate

    @property
    def load_text(self) -> str:
        return load_text(self.concurrency, self.rate)

    @property
    def verdict(self) -> Verdict:
        return check.verdict(self.findings)

    @property
    def counts(self) -> bool:
        """Whether its figures go into averages: a suspect cell does, an invalid one never."""
        return self.verdict != "invalid"

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(finding.text for finding in self.findings)


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
    cells: tuple[CellRow, ...]
    groups: tuple[Group, ...]
    reference: str
    agreement: tuple[Comparison, ...]  # empty: answers were not compared

    @property
    def invalid(self) -> tuple[CellRow, ...]:
        return tuple(cell for cell in self.cells if cell.verdict == "invalid")

    @property
    def suspect(self) -> tuple[CellRow, ...]:
        return tuple(cell for cell in self.cells if cell.verdict == "suspect")


def load_text(concurrency: int, rate: float | None) -> str:
    """A level of load in words."""
    return f"{concurrency} in flight" if rate is None else f"{rate:g} requests/s offered"


def summarize(directory: Path) -> Summary:
    """Read a study's raw files, in its directory below results/, and work out every figure."""
    study = record.read_study(directory)
    study["ceiling"] = _ceiling(directory, study)
    files = {p["id"]: directory / "raw" / p["id"] / "launch.json" for p in study["plan"]}
    launches = {name: record.read_json(file) for name, file in files.items() if file.exists()}
    reference = study["study"]["reference"] or _labels(study)[0]
    compared = _comparisons(directory, study, launches, reference)
    cells = [
        _cell_row(directory, study, planned, cell, launches.get(planned["id"]), compared)
        for planned in study["plan"]
        for cell in planned["cells"]
    ]
    return Summary(
        study,
        launches,
        (directory / "finished.json").exists(),
        tuple(cells),
        tuple(_groups(study, cells, reference)),
        reference,
        compared,
    )


def _labels(study: Mapping[str, Any]) -> list[str]:
    return [f"{v['engine']}/{v['variant']}" for v in study["study"]["engines"]]


def _comparisons(
    directory: Path,
    study: Mapping[str, Any],
    launches: Mapping[str, Mapping[str, Any]],
    reference: str,
) -> tuple[Comparison, ...]:
    """The answers of every variant that gave any, beside those it should agree with."""
    files = {
        planned["label"]: (planned["id"], file)
        for planned in study["plan"]
        if planned["id"] in launches
        and (file := directory / "raw" / planned["id"] / "agreement.jsonl.gz").exists()
    }
    labels = [label for label in _labels(study) if label in files]
    answers = {label: list(record.read_lines(files[label][1])) for label in labels}
    dtypes = {label: launches[files[label][0]].get("dtype") for label in labels}
    return agreement.comparisons(answers, dtypes, reference)


def _cell_row(
    directory: Path,
    study: Mapping[str, Any],
    planned: Mapping[str, Any],
    cell: Mapping[str, Any],
    facts: Mapping[str, Any] | None,
    compared: Sequence[Comparison],
) -> CellRow:
    where = directory / "raw" / planned["id"] / cell["id"]
    figures: dict[str, Any] = {}
    series: tuple[Any, Any] = ((), ())
    if (where / "cell.json").exists():
        about = record.read_json(where / "cell.json")
        tail = about["log_tail"]
        findings, figures, series = _read_cell(where, study, cell, facts or {}, about)
        for found in compared:
            if found.label == planned["label"] and found.is_same_dtype:
                findings += check.answer_findings(found)
    else:
        failure = (facts or {}).get("failure")
        reason = (
            failure["message"].removesuffix("; the end of its log:")
            if failure
            else "the study ended before this cell"
        )
        tail = failure["log_tail"] if failure else []
        findings = [Finding("complete", "invalid", f"not run: {reason}")]
    return CellRow(
        planned["id"],
        planned["trial"],
        planned["engine"],
        planned["variant"],
        planned["label"],
        cell["workload"],
        cell["concurrency"],
        cell.get("rate"),
        tuple(findings),
        tuple(tail),
        figures,
        *series,
    )


def _read_cell(
    where: Path,
    study: Mapping[str, Any],
    cell: Mapping[str, Any],
    facts: Mapping[str, Any],
    about: Mapping[str, Any],
) -> tuple[list[Finding], dict[str, Any], tuple[Any, Any]]:
    """What is wrong with a recorded cell, its figures, and its memory over time."""
    everything = list(record.read_lines(where / "requests.jsonl"))
    rows = [row for row in everything if row["phase"] == "measured"]
    scrapes = list(record.read_lines(where / "scrapes.jsonl.gz"))
    processes = list(record.read_lines(where / "processes.jsonl"))
    metrics = [prometheus.read(scrape, facts.get("metrics", {})) for scrape in scrapes]
    if logged := facts.get("kv_capacity_tokens"):  # of an engine whose pages do not have it
        metrics = [page | {"kv_capacity_tokens": float(logged)} for page in metrics]
    first, last = (metrics[0], metrics[-1]) if metrics else ({}, {})
    gpus = list(record.read_lines(found)) if (found := where / "gpus.jsonl.gz").exists() else []
    samples = memory.samples([scrape["t_s"] for scrape in scrapes], metrics, rows)
    figures = measure.cell_figures(rows) | _watched(metrics, processes, gpus)
    figures |= memory.figures(metrics, samples, rows)
    figures |= _account(study, facts.get("dtype"), figures)
    rate = figures["output_tokens_per_s"]
    price = float(study["study"]["price"]["usd_per_hour"])
    figures["usd_per_million_output_tokens"] = (
        cost.usd_per_million_output_tokens(price, rate) if rate else None
    )
    shares = _shares(study, facts.get("dtype"), rows, cell["concurrency"], figures)
    started, ended = about.get("started") or {}, about.get("ended") or {}
    energy_j = plausible.energy_used_j(started, ended)
    tokens = figures["output_tokens"]
    figures |= {
        "kv_tokens_in_flight_peak": kv.tokens_in_flight_peak(rows),
        "client": about.get("client"),
        "client_judged": bool(about.get("client")) and study["study"].get("judge_client", True),
        "energy_j": energy_j,
        "energy_j_per_output_token": energy_j / tokens if energy_j and tokens else None,
        "preemptions": prometheus.difference(first, last, "preemptions_total"),
        "counters_checked": prometheus.difference(first, last, "output_tokens_total") is not None,
        "ceiling_share": shares.throughput,
        "ceiling_share_decode": shares.decode,
        "ceiling_share_prefill": shares.prefill,
    }
    findings: list[Finding] = []
    if about["engine_death"]:
        findings.append(Finding("complete", "invalid", about["engine_death"]))
    findings += check.warmup_findings([row for row in everything if row["phase"] == "warmup"])
    findings += check.requests_findings(rows, cell["requests"])
    findings += check.counter_findings(rows, first, last)
    if figures["client_judged"]:
        findings += budget.findings(about.get("client"), figures)
    findings += plausible.clock_findings(started, ended)
    findings += plausible.load_findings(figures["in_flight_mean"], cell["concurrency"])
    findings += plausible.physics_findings(shares)
    held, room = figures["kv_tokens_in_flight_peak"], figures["kv_capacity_tokens"]
    findings += plausible.kv_findings(held, room, figures["preemptions"])
    findings += plausible.energy_findings(started, ended)
    resident = [(p["t_s"], p["pss_bytes"]) for p in processes if p["pss_bytes"] is not None]
    return findings, figures, (samples, tuple(resident))


def _account(
    study: Mapping[str, Any], dtype: str | None, figures: Mapping[str, Any]
) -> dict[str, float | None]:
    """The parts of the memory that the machine shows, and what a token takes by the config."""
    name, count = roofline.dtype_name(dtype or ""), study["model"].get("parameters")
    size = roofline.DTYPE_BYTES[name] if name else None
    try:
        shape = roofline.shape(study["model"]["config"])
    except roofline.UnknownShape:
        per_token = None
    else:
        per_token = shape.kv_bytes_per_token(size) if size else None
    shown_by = "gpu_memory_peak_bytes" if study["device"] == "cuda" else "memory_peak_bytes"
    total = figures[shown_by]
    weights = count * size if count and size else None
    parts = memory.account(total, weights, figures["kv_reserved_bytes"])
    return parts | {"kv_bytes_per_token": per_token}


def _ceiling(directory: Path, study: Mapping[str, Any]) -> roofline.Ceiling | None:
    """The machine's ceiling; of two measurements the higher, as a busy machine measures too low."""
    file = directory / "finished.json"
    after = record.read_json(file).get("ceiling") if file.exists() else None
    if not study.get("ceiling"):
        return None
    before = roofline.Ceiling(**study["ceiling"])
    return ceilings.higher(before, roofline.Ceiling(**after) if after else None)


def _shares(
    study: Mapping[str, Any],
    dtype: str | None,
    rows: Sequence[measure.Row],
    concurrency: int,
    figures: Mapping[str, Any],
) -> Shares:
    """How near the cell came to what the hardware allows; None where a ceiling is not known."""
    name = roofline.dtype_name(dtype or "")
    finished = [row for row in rows if row["error"] is None and row["output_tokens"]]
    try:
        model = roofline.shape(study["model"]["config"])
    except roofline.UnknownShape:
        return Shares()
    if name is None or not study.get("ceiling") or not finished or not figures["window_s"]:
        return Shares()
    ceiling = study["ceiling"]
    work = [(row["prompt_tokens_asked"], row["output_tokens"]) for row in finished]
    prompt = min(prompt for prompt, _ in work)
    least_s = roofline.cell_s(model, ceiling, name, work, concurrency)
    step_s = roofline.decode_step_s(model, ceiling, name, [prompt])
    prefill_s = roofline.prefill_s(model, ceiling, name, prompt)
    tpot_s, ttft_s = figures["tpot_s_min"], figures["ttft_s_min"]
    return Shares(
        least_s / figures["window_s"],
        step_s / tpot_s if tpot_s else None,
        prefill_s / ttft_s if ttft_s else None,
        study["device"] == "cpu",
    )


def _watched(
    metrics: Sequence[Mapping[str, float | None]],
    processes: Sequence[Mapping[str, Any]],
    gpus: Sequence[gpu.Row],
) -> dict[str, Any]:
    """Peaks over the cell of what was watched; None is "not measured"."""

    def peak(values: Sequence[float | None]) -> float | None:
        return max((value for value in values if value is not None), default=None)

    return {
        "memory_peak_bytes": peak([sample["pss_bytes"] for sample in processes]),
        "kv_used_ratio_peak": peak([page.get("kv_used_ratio") for page in metrics]),
        **gpu.figures(gpus, {pid for sample in processes for pid in sample.get("pids", ())}),
    }


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


def paired_ratio(members: Iterable[CellRow], against: Iterable[CellRow]) -> Interval | None:
    """Output tokens/s of one variant over another's at the same level, paired by trial."""
    rates = [
        {cell.trial: cell.figures["output_tokens_per_s"] for cell in cells if cell.counts}
        for cells in (members, against)
    ]
    pairs = [(rates[0][trial], rates[1][trial]) for trial in rates[0].keys() & rates[1].keys()]
    return stats.ratio_interval(sorted(pairs))

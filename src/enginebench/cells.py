"""One recorded cell: its raw files, its figures, what is wrong with it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enginebench import (
    budget,
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
)
from enginebench.agreement import Comparison
from enginebench.check import Finding, Verdict
from enginebench.plausible import Shares


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
    resident: tuple[tuple[float, float], ...] = ()  # the processes' or GPUs' memory: t_s, bytes
    power: tuple[tuple[float, float], ...] = ()  # of all GPUs: t_s, watts

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


def load_text(concurrency: int, rate: float | None) -> str:
    """A level of load in words."""
    return f"{concurrency} in flight" if rate is None else f"{rate:g} requests/s offered"


def cell_row(
    directory: Path,
    study: Mapping[str, Any],
    planned: Mapping[str, Any],
    cell: Mapping[str, Any],
    facts: Mapping[str, Any] | None,
    compared: Sequence[Comparison],
) -> CellRow:
    """One cell of the plan, run or not.

    Args:
        planned, cell: of the plan in study.json; ``facts``: launch.json, None if it never started.
        compared: the comparisons of answers of all variants.
    """
    where = directory / "raw" / planned["id"] / cell["id"]
    figures: dict[str, Any] = {}
    series: tuple[Any, Any, Any] = ((), (), ())
    if (where / "cell.json").exists():
        about = record.read_json(where / "cell.json")
        tail = about["log_tail"]
        recorded = _read(where, study["device"], facts or {})
        figures = _figures(recorded, study, cell, facts or {}, about)
        findings = _findings(recorded, cell, figures, about)
        series = (recorded.samples, recorded.resident, recorded.power)
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


@dataclass(frozen=True, slots=True)
class _Recorded:
    """A cell's raw files, read."""

    warmup: list[Any]  # lines of requests.jsonl
    rows: list[Any]  # the measured ones
    pages: list[prometheus.Metrics]  # one a scrape
    processes: list[Any]
    gpus: list[Any]
    container: list[Any]  # what its container was seen to hold and use, if it has one
    samples: tuple[memory.Sample, ...]
    resident: tuple[tuple[float, float], ...]  # memory over time: t_s, bytes
    power: tuple[tuple[float, float], ...]  # of the engine's GPUs: t_s, watts

    @property
    def ends(self) -> tuple[prometheus.Metrics, prometheus.Metrics]:
        """The first and the last page."""
        return (self.pages[0], self.pages[-1]) if self.pages else ({}, {})


def _read(where: Path, device: str, facts: Mapping[str, Any]) -> _Recorded:
    requests = list(record.read_lines(where / "requests.jsonl"))
    rows = [row for row in requests if row["phase"] == "measured"]
    scrapes = list(record.read_lines(where / "scrapes.jsonl.gz"))
    processes = list(record.read_lines(where / "processes.jsonl"))
    gpus = list(record.read_lines(found)) if (found := where / "gpus.jsonl.gz").exists() else []
    pages = [prometheus.read(scrape, facts.get("metrics", {})) for scrape in scrapes]
    if logged := facts.get("kv_capacity_tokens"):  # of an engine whose pages do not have it
        pages = [page | {"kv_capacity_tokens": float(logged)} for page in pages]
    its_gpus = gpu.of_engine(gpus, {pid for p in processes for pid in p.get("pids", ())})
    inside = _of_container(where.parent / "container.jsonl", processes)
    times = [(p["t_s"], p["pss_bytes"]) for p in processes if p["pss_bytes"] is not None]
    times = times or [(row["t_s"], row["memory_bytes"]) for row in inside]
    return _Recorded(
        [row for row in requests if row["phase"] == "warmup"],
        rows,
        pages,
        processes,
        gpus,
        inside,
        memory.samples([scrape["t_s"] for scrape in scrapes], pages, rows),
        tuple(gpu.over_time(its_gpus, "memory_used_bytes") if device == "cuda" else times),
        tuple(gpu.over_time(its_gpus, "power_w") if device == "cuda" else ()),
    )


def _of_container(file: Path, processes: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The rows of a launch's container that fall into this cell."""
    if not processes or not file.exists():
        return []
    first_s, last_s = processes[0]["t_s"], processes[-1]["t_s"]
    return [row for row in record.read_lines(file) if first_s <= row["t_s"] <= last_s]


def _figures(
    recorded: _Recorded,
    study: Mapping[str, Any],
    cell: Mapping[str, Any],
    facts: Mapping[str, Any],
    about: Mapping[str, Any],
) -> dict[str, Any]:
    rows = recorded.rows
    first, last = recorded.ends
    figures = measure.cell_figures(rows)
    figures |= _watched(recorded)
    figures |= memory.figures(recorded.pages, recorded.samples, rows)
    figures |= _account(study, facts.get("dtype"), figures)
    rate, tokens = figures["output_tokens_per_s"], figures["output_tokens"]
    price = float(study["study"]["price"]["usd_per_hour"])
    shares = _shares(study, facts.get("dtype"), rows, cell["concurrency"], figures)
    energy_j = plausible.energy_used_j(about.get("started") or {}, about.get("ended") or {})
    return figures | {
        "usd_per_million_output_tokens": (
            cost.usd_per_million_output_tokens(price, rate) if rate else None
        ),
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
        "ceiling_share_request": shares.request,
        "ceiling_is_measured": shares.is_measured,
    }


def _findings(
    recorded: _Recorded,
    cell: Mapping[str, Any],
    figures: Mapping[str, Any],
    about: Mapping[str, Any],
) -> list[Finding]:
    started, ended = about.get("started") or {}, about.get("ended") or {}
    findings: list[Finding] = []
    if about["engine_death"]:
        findings.append(Finding("complete", "invalid", about["engine_death"]))
    findings += check.warmup_findings(recorded.warmup)
    findings += check.requests_findings(recorded.rows, cell["requests"])
    findings += check.counter_findings(recorded.rows, *recorded.ends)
    if figures["client_judged"]:
        findings += budget.findings(about.get("client"), figures)
    findings += plausible.clock_findings(started, ended)
    findings += plausible.load_findings(figures["in_flight_mean"], cell["concurrency"])
    shares = Shares(
        figures["ceiling_share"],
        figures["ceiling_share_decode"],
        figures["ceiling_share_prefill"],
        figures["ceiling_share_request"],
        figures["ceiling_is_measured"],
    )
    findings += plausible.physics_findings(shares)
    held, room = figures["kv_tokens_in_flight_peak"], figures["kv_capacity_tokens"]
    findings += plausible.kv_findings(held, room, figures["preemptions"])
    findings += plausible.energy_findings(started, ended)
    return findings


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
    return parts | {"total_bytes": total, "kv_bytes_per_token": per_token}


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
        _request_share(model, ceiling, name, finished),
        study["device"] == "cpu",
    )


def _request_share(
    model: roofline.Shape, ceiling: roofline.Ceiling, dtype: str, rows: Sequence[measure.Row]
) -> float | None:
    """Of all requests, the nearest to the least time in which its tokens can be made."""
    shortest: dict[tuple[int, int], float] = {}  # by prompt and output tokens
    for row in rows:
        last_s = measure.last_token_s(row)
        if last_s is not None and row["sent_s"] is not None:
            work = (row["prompt_tokens_asked"], row["output_tokens"])
            shortest[work] = min(shortest.get(work, math.inf), last_s - row["sent_s"])
    shares = [
        roofline.batch_s(model, ceiling, dtype, 1, *work) / e2e_s
        for work, e2e_s in shortest.items()
        if e2e_s > 0
    ]
    return max(shares, default=None)


def _watched(recorded: _Recorded) -> dict[str, Any]:
    """Peaks over the cell of what was watched; None is "not measured"."""

    def peak(values: Iterable[float | None]) -> float | None:
        return max((value for value in values if value is not None), default=None)

    of_processes = peak(sample["pss_bytes"] for sample in recorded.processes)
    of_container = peak(row["memory_bytes"] for row in recorded.container)
    pids = {pid for sample in recorded.processes for pid in sample.get("pids", ())}
    return {
        "memory_peak_bytes": of_container if of_processes is None else of_processes,
        "container_memory_peak_bytes": of_container,
        "kv_used_ratio_peak": peak(page.get("kv_used_ratio") for page in recorded.pages),
        **gpu.figures(recorded.gpus, pids),
    }

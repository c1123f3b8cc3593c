"""One recorded cell: its raw files, its figures, what is wrong with it."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from enginebench.base.load_level import cell_id, load_text
from enginebench.base.machine_row import MachineRow
from enginebench.check import client_error, disturbance, physics, silence
from enginebench.check import findings as check
from enginebench.check.disturbance import Attempt
from enginebench.check.findings import Finding, Verdict
from enginebench.check.physics import Shares
from enginebench.hardware import roofline
from enginebench.hardware.model_config import text_config
from enginebench.hardware.run_options import run_options
from enginebench.metrics import (
    cost,
    gpu,
    kv_in_flight,
    latency,
    machine_load,
    memory,
    metrics_page,
    other_tools,
    request_table,
)
from enginebench.metrics.agreement import Comparison
from enginebench.metrics.machine_load import LoadPoint
from enginebench.metrics.request_table import Columns
from enginebench.record import reading, schema
from enginebench.record.schema_samples import ContainerSample, GpuSample, ProcessSample, Scrape


@dataclass(frozen=True, slots=True)
class AttemptSpan:
    """One run of a cell, and the machine's load during it."""

    attempt: Attempt
    start_s: float
    end_s: float
    load: tuple[LoadPoint, ...]  # over sliding seconds; empty in older records


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
    elsewhere: Mapping[str, other_tools.Printed] = field(default_factory=dict)  # by tool
    attempts: tuple[AttemptSpan, ...] = ()  # all of them, in order; empty where nothing was run

    @property
    def id(self) -> str:
        return cell_id(self.workload, self.concurrency, self.rate)

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
    def attempts_text(self) -> str:
        """How often the cell was run and which attempt counts; empty if it was run once."""
        return disturbance.attempts_text([span.attempt for span in self.attempts])

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(finding.text for finding in self.findings)


def cell_row(
    directory: Path,
    study: Mapping[str, Any],
    planned: Mapping[str, Any],
    cell: Mapping[str, Any],
    facts: Mapping[str, Any] | None,
    compared: Sequence[Comparison],
    told: Callable[[int], object] = int,
) -> CellRow:
    """One cell of the plan, run or not. Of several attempts the least disturbed one counts.

    Args:
        planned, cell: of the plan in study.json; ``facts``: launch.json, None if it never started.
        compared: the comparisons of answers of all variants.
        told: is given the bytes of requests.jsonl as they are read.
    """
    try:
        return _cell_row(directory, study, planned, cell, facts, compared, told)
    except reading.RecordError as error:
        return _without_figures(planned, cell, Finding("record", "invalid", error.message))
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        text = f"no figures can be computed from its files ({type(error).__name__}: {error})"
        return _without_figures(planned, cell, Finding("record", "invalid", text))


def _cell_row(
    directory: Path,
    study: Mapping[str, Any],
    planned: Mapping[str, Any],
    cell: Mapping[str, Any],
    facts: Mapping[str, Any] | None,
    compared: Sequence[Comparison],
    told: Callable[[int], object],
) -> CellRow:
    where = directory / "raw" / planned["id"]
    rows = {}
    for number in range(1, disturbance.MOST_RERUNS + 2):
        place = where / f"{cell['id']}{disturbance.attempt_suffix(number)}"
        if (place / "cell.json").exists():
            rows[number] = _attempt_row(place, study, planned, cell, facts, compared, told)
    if not rows:
        return _unrun_row(planned, cell, facts)
    spans = tuple(span for row in rows.values() for span in row.attempts)
    chosen = disturbance.counting_attempt([span.attempt for span in spans])
    return replace(rows[chosen.number], attempts=spans)


def _attempt_row(
    where: Path,
    study: Mapping[str, Any],
    planned: Mapping[str, Any],
    cell: Mapping[str, Any],
    launch: Mapping[str, Any] | None,
    compared: Sequence[Comparison],
    told: Callable[[int], object],
) -> CellRow:
    """One attempt of a cell, from its directory."""
    facts = launch or {}
    about = reading.read_json(where / "cell.json", schema.Cell)
    recorded = _read(where, study["device"], facts, told)
    figures = _figures(recorded, study, cell, facts, about)
    seen = machine_load.figures(recorded.machine)
    findings = _findings(recorded, cell, figures, about)
    findings += check.cut_off_findings(launch is not None, len(recorded.pages))
    findings += silence.findings(recorded.requests, recorded.scrape_errors)
    for found in compared:
        if found.label == planned["label"] and found.is_same_dtype:
            findings += check.answer_findings(found)
    judged = study["study"].get("judge_machine", True)
    attempt = Attempt(
        about.get("attempt", 1),
        is_invalid=check.verdict(findings) == "invalid",
        is_disturbed=judged and disturbance.is_disturbed(seen),
        disturbance_cores=disturbance.disturbance(seen),
    )
    findings += disturbance.disturbance_findings(seen) if judged else ()
    load = tuple(machine_load.points(recorded.machine, machine_load.SLIDING_S))
    span = AttemptSpan(attempt, about["started"]["t_s"], about["ended"]["t_s"], load)
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
        tuple(about["log_tail"]),
        figures | {"machine": asdict(seen) if recorded.machine else None},
        recorded.samples,
        recorded.resident,
        recorded.power,
        other_tools.printed_by_all(recorded.requests),
        (span,),
    )


def _unrun_row(
    planned: Mapping[str, Any], cell: Mapping[str, Any], facts: Mapping[str, Any] | None
) -> CellRow:
    failure = (facts or {}).get("failure")
    reason = (
        failure["message"].removesuffix("; the end of its log:")
        if failure
        else "the study ended before this cell"
    )
    finding = Finding("complete", "invalid", f"not run: {reason}")
    return _without_figures(planned, cell, finding, failure["log_tail"] if failure else ())


def _without_figures(
    planned: Mapping[str, Any],
    cell: Mapping[str, Any],
    finding: Finding,
    log_tail: Sequence[str] = (),
) -> CellRow:
    return CellRow(
        planned["id"],
        planned["trial"],
        planned["engine"],
        planned["variant"],
        planned["label"],
        cell["workload"],
        cell["concurrency"],
        cell.get("rate"),
        (finding,),
        tuple(log_tail),
        {},
    )


@dataclass(frozen=True, slots=True)
class _Recorded:
    """A cell's raw files, read."""

    warmup: list[schema.Request]
    requests: Columns  # the measured ones
    tally: check.Tally  # what the checks counted in them
    scrape_errors: list[str | None]  # one a scrape; None: there is a page
    pages: list[metrics_page.Metrics]  # one a scrape
    processes: list[ProcessSample]
    gpus: list[GpuSample]
    its_gpus: list[GpuSample]  # of these, the engine's own
    container: list[ContainerSample]  # of its container, if it has one
    machine: list[MachineRow]  # empty in records before schema 3
    samples: tuple[memory.Sample, ...]
    resident: tuple[tuple[float, float], ...]  # memory over time: t_s, bytes
    power: tuple[tuple[float, float], ...]  # of the engine's GPUs: t_s, watts

    @property
    def ends(self) -> tuple[metrics_page.Metrics, metrics_page.Metrics]:
        """The first and the last page."""
        return (self.pages[0], self.pages[-1]) if self.pages else ({}, {})


def _read(
    where: Path, device: str, facts: Mapping[str, Any], told: Callable[[int], object]
) -> _Recorded:
    warmup: list[schema.Request] = []
    tally = check.Tally()
    requests = request_table.gather(_measured(where / "requests.jsonl", warmup, tally, told))
    processes = list(reading.read_rows(where / "processes.jsonl", ProcessSample))
    gpus: list[GpuSample] = []
    if (found := where / "gpus.jsonl.gz").exists():
        gpus = list(reading.read_rows(found, GpuSample))
    scraped_s, errors, pages = [], [], []
    for scrape in reading.read_rows(where / "scrapes.jsonl.gz", Scrape):
        scraped_s.append(scrape.t_s)
        errors.append(scrape.error)
        kept_back = facts.get("kv_blocks_kept_back", 0)
        page = metrics_page.read(scrape.status, scrape.text, facts.get("metrics", {}), kept_back)
        pages.append(page)
    if logged := facts.get("kv_capacity_tokens"):  # of an engine whose pages do not have it
        pages = [page | {"kv_capacity_tokens": float(logged)} for page in pages]
    load = where / "machine.jsonl"
    its_gpus = gpu.of_engine(gpus, _pids(processes))
    inside = _of_container(where.parent / "container.jsonl", processes)
    times = [(p.t_s, p.pss_bytes) for p in processes if p.pss_bytes is not None]
    times = times or [(row.t_s, row.memory_bytes) for row in inside]
    return _Recorded(
        warmup,
        requests,
        tally,
        errors,
        pages,
        processes,
        gpus,
        its_gpus,
        inside,
        list(reading.read_rows(load, MachineRow)) if load.exists() else [],
        memory.samples(scraped_s, pages, requests),
        tuple(gpu.over_time(its_gpus, "memory_used_bytes") if device == "cuda" else times),
        tuple(gpu.over_time(its_gpus, "power_w") if device == "cuda" else ()),
    )


def _pids(processes: Sequence[ProcessSample]) -> set[int]:
    return {pid for sample in processes for pid in sample.pids}


def _of_container(file: Path, processes: Sequence[ProcessSample]) -> list[ContainerSample]:
    """The rows of a launch's container that fall into this cell."""
    if not processes or not file.exists():
        return []
    first_s, last_s = processes[0].t_s, processes[-1].t_s
    rows = reading.read_rows(file, ContainerSample)
    return [row for row in rows if first_s <= row.t_s <= last_s]


def _measured(
    file: Path,
    warmup: list[schema.Request],
    tally: check.Tally,
    told: Callable[[int], object],
) -> Iterator[schema.Request]:
    """The measured rows of requests.jsonl, counted on their way; the others go to ``warmup``."""
    for row in reading.read_rows(file, schema.Request, told):
        if row.phase == "measured":
            tally.add(row)
            yield row
        else:
            warmup.append(row)


def _figures(
    recorded: _Recorded,
    study: Mapping[str, Any],
    cell: Mapping[str, Any],
    facts: Mapping[str, Any],
    about: Mapping[str, Any],
) -> dict[str, Any]:
    requests = recorded.requests
    first, last = recorded.ends
    figures = latency.figures(requests, None if cell.get("rate") else cell["concurrency"])
    figures |= _watched(recorded)
    figures |= memory.figures(recorded.pages, recorded.samples, requests)
    figures |= _account(study, facts, figures)
    rate, tokens = figures["output_tokens_per_s"], figures["output_tokens"]
    price = cost.recorded_price(study)
    # Its GPUs, as far as the samples say; all of the machine's where there are none.
    gpus = len({row.index for row in recorded.its_gpus}) or len(study["machine"]["gpus"])
    shares = _shares(study, facts, requests, cell["concurrency"], figures)
    indices = {row.index for row in recorded.its_gpus}
    energy_j = physics.energy_used_j(about.get("started") or {}, about.get("ended") or {}, indices)
    return figures | {
        # Whether the engine says how many prompt tokens came from a cache.
        "cache_checked": recorded.tally.says_cached > 0
        or metrics_page.difference(first, last, "prefix_hit_tokens_total") is not None,
        "usd_per_million_output_tokens": (
            cost.usd_per_million_output_tokens(price.usd(gpus), rate) if price and rate else None
        ),
        "kv_tokens_in_flight_peak": kv_in_flight.tokens_in_flight_peak(requests),
        "client": about.get("client"),
        "client_judged": bool(about.get("client")) and study["study"].get("judge_client", True),
        "energy_j": energy_j,
        "energy_j_per_output_token": energy_j / tokens if energy_j and tokens else None,
        "preemptions": metrics_page.difference(first, last, "preemptions_total"),
        "counters_checked": metrics_page.difference(first, last, "output_tokens_total") is not None,
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
    findings += check.tally_findings(recorded.tally, cell["requests"])
    findings += check.counter_findings(recorded.requests, *recorded.ends)
    if figures["client_judged"]:
        findings += client_error.findings(about.get("client"), figures)
    findings += physics.clock_findings(started, ended)
    findings += physics.load_findings(figures["in_flight_mean"], cell["concurrency"])
    shares = Shares(
        figures["ceiling_share"],
        figures["ceiling_share_decode"],
        figures["ceiling_share_prefill"],
        figures["ceiling_share_request"],
        figures["ceiling_is_measured"],
    )
    findings += physics.physics_findings(shares)
    held, room = figures["kv_tokens_in_flight_peak"], figures["kv_capacity_tokens"]
    findings += physics.kv_findings(held, room, figures["preemptions"])
    findings += physics.energy_findings(started, ended)
    return findings


def _account(
    study: Mapping[str, Any],
    facts: Mapping[str, Any],
    figures: Mapping[str, Any],
) -> dict[str, float | None]:
    """The parts of the memory that the machine shows, and what a token takes by the config."""
    shape = _shape(study)
    dtypes = _dtypes(shape, facts) if shape is not None else None
    per_token = None
    if shape is not None and dtypes is not None:
        per_token = shape.kv_bytes_per_token(dtypes.kv_bytes)
    shown_by = "gpu_memory_peak_bytes" if study["device"] == "cuda" else "memory_peak_bytes"
    total = figures[shown_by]
    weights = _weights_bytes(study["model"], facts)
    parts = memory.account(total, weights, figures["kv_reserved_bytes"])
    return parts | {"total_bytes": total, "kv_bytes_per_token": per_token}


def _shape(study: Mapping[str, Any]) -> roofline.ModelShape | None:
    """The model's shape; None where its form is not worked out."""
    try:
        return roofline.shape(study["model"]["config"])
    except roofline.UnknownShape:
        return None


def _dtypes(shape: roofline.ModelShape, facts: Mapping[str, Any]) -> roofline.Dtypes | None:
    """The dtypes of a launch; None: not known."""
    name = roofline.dtype_name(facts.get("dtype") or "")
    stated = run_options(facts).kv_dtype
    kv_dtype = roofline.dtype_name(stated or "")
    if name is None or (stated is not None and kv_dtype is None):
        return None
    return roofline.run_dtypes(shape, name, kv_dtype)


def _is_quantized(model: Mapping[str, Any]) -> bool:
    config = model["config"]
    return bool((text_config(config) | config).get("quantization_config"))


def _weights_bytes(model: Mapping[str, Any], facts: Mapping[str, Any]) -> float | None:
    """Bytes that the weights take in memory; None: not known."""
    if _is_quantized(model):
        return model.get("weights_bytes")  # they stay as they are stored
    name, count = roofline.dtype_name(facts.get("dtype") or ""), model.get("parameters")
    if name is None or not count or run_options(facts).is_quantized:
        return None
    return float(count * roofline.DTYPE_BYTES[name])


def _shares(
    study: Mapping[str, Any],
    facts: Mapping[str, Any],
    requests: Columns,
    concurrency: int,
    figures: Mapping[str, Any],
) -> Shares:
    """How near the cell came to what the hardware allows; None where a ceiling is not known."""
    shortest, model, options = _shortest(requests), _shape(study), run_options(facts)
    if model is None or not study.get("ceiling") or not shortest or not figures["window_s"]:
        return Shares()
    if options.is_quantized and not _is_quantized(study["model"]):
        return Shares()  # by the engine, in a way that is not known here
    dtypes = _dtypes(model, facts)
    if dtypes is None:
        return Shares()
    ceiling = study["ceiling"]
    per_read = math.inf if options.is_speculative else 1
    work = {kind: count for kind, (count, _) in shortest.items()}
    prompt = min(prompt for prompt, _ in work)
    try:
        least_s = roofline.cell_s(model, ceiling, dtypes, work, concurrency, per_read)
        step_s = roofline.decode_step_s(model, ceiling, dtypes, [prompt]) / per_read
        prefill_s = roofline.prefill_s(model, ceiling, dtypes, prompt)
        shares = [
            roofline.request_s(model, ceiling, dtypes, *kind, per_read) / e2e_s
            for kind, (_, e2e_s) in shortest.items()
            if 0 < e2e_s < math.inf
        ]
    except roofline.UnknownShape:  # how its weights are quantized
        return Shares()
    tpot_s, ttft_s = figures["tpot_s_min"], figures["ttft_s_min"]
    return Shares(
        least_s / figures["window_s"],
        step_s / tpot_s if tpot_s else None,
        prefill_s / ttft_s if ttft_s else None,
        max(shares, default=None),
        study["device"] == "cpu",
    )


def _shortest(requests: Columns) -> dict[tuple[int, int], tuple[int, float]]:
    """By prompt and output tokens: how many requests finished, and the shortest E2E in s."""
    done = ~requests.is_failed & (requests.output_tokens > 0)
    e2e_s = np.nan_to_num(requests.last_s - requests.sent_s, nan=math.inf)[done]
    kinds = np.stack([requests.prompt_tokens_asked[done], requests.output_tokens[done]], axis=1)
    found, index = np.unique(kinds, axis=0, return_inverse=True)
    least = np.full(len(found), math.inf)
    np.minimum.at(least, index, e2e_s)
    counts = np.bincount(index, minlength=len(found)).tolist()
    return {
        (int(prompt), int(output)): (count, shortest)
        for (prompt, output), count, shortest in zip(found, counts, least.tolist(), strict=True)
    }


def _watched(recorded: _Recorded) -> dict[str, Any]:
    """Peaks over the cell of what was watched; None is "not measured"."""

    def peak(values: Iterable[float | None]) -> float | None:
        return max((value for value in values if value is not None), default=None)

    of_processes = peak(sample.pss_bytes for sample in recorded.processes)
    of_container = peak(row.memory_bytes for row in recorded.container)
    return {
        "memory_peak_bytes": of_container if of_processes is None else of_processes,
        "container_memory_peak_bytes": of_container,
        "kv_used_ratio_peak": peak(page.get("kv_used_ratio") for page in recorded.pages),
        **gpu.figures(recorded.gpus, _pids(recorded.processes)),
    }

"""From the raw files of a cell to its row: of several attempts the least disturbed one counts."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path

import msgspec

from enginebench.check import (
    answers,
    client_error,
    counters,
    disturbance,
    in_effect,
    physics,
    request_checks,
    silence,
)
from enginebench.check import findings as check
from enginebench.check.disturbance import Attempt
from enginebench.check.findings import Finding
from enginebench.check.physics import Shares
from enginebench.hardware import roofline
from enginebench.metrics import (
    batching,
    cost,
    gpu,
    kv_in_flight,
    latency,
    machine_load,
    memory,
    metrics_page,
    other_tools,
    prefix_cache,
    speculation,
)
from enginebench.metrics.agreement import Comparison
from enginebench.metrics.figures import Figures
from enginebench.metrics.gpu import GpuFigures
from enginebench.record import reading
from enginebench.record.schema import Cell, Failure, Launch
from enginebench.record.schema_study import PlannedCell, PlannedLaunch, Study
from enginebench.summarize import ceiling_shares, raw_cell
from enginebench.summarize.cells import AttemptSpan, CellRow
from enginebench.summarize.raw_cell import RawCell

LARGEST = 1e18  # of any figure: bytes, joules, tokens, seconds on either clock


@dataclass(frozen=True, slots=True, kw_only=True)
class CellSource:
    """One cell of the plan, and what of the study its figures depend on."""

    directory: Path  # the study's
    study: Study
    ceiling: roofline.Ceiling | None
    planned: PlannedLaunch
    cell: PlannedCell
    launch: Launch | None  # None: its launch.json was never written
    comparisons: Sequence[Comparison]  # of the answers of all variants

    @property
    def cached_permitted(self) -> int:
        """Tokens of a prompt that may come from a prefix cache."""
        workloads = self.study.study.workloads
        shared = (w.shared_prefix_tokens for w in workloads if w.name == self.cell.workload)
        return prefix_cache.permitted(next(shared, 0))


def cell_row(source: CellSource, on_bytes: Callable[[int], object] = reading.ignore) -> CellRow:
    """The row of one cell of the plan, run or not; files that cannot be used make it invalid.

    Args:
        on_bytes: is called with the bytes of requests.jsonl as they are read.
    """
    try:
        row = _cell_row(source, on_bytes)
        _require_possible(row, "its row")
        return row
    except reading.RecordError as error:
        return _without_figures(source, Finding("record", "invalid", error.message))
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        text = f"no figures can be computed from its files ({type(error).__name__}: {error})"
        return _without_figures(source, Finding("record", "invalid", text))


def _require_possible(value: object, place: str) -> None:
    """Refuse what JSON cannot hold and no chart can show, at any depth.

    Raises:
        ValueError: a number that is not finite or absurdly large; says where.
    """
    if isinstance(value, float | int):
        if not abs(value) <= LARGEST:
            raise ValueError(f"{place} is {value:.6g}")
    elif isinstance(value, Mapping):
        for name, item in value.items():
            _require_possible(item, str(name))
    elif isinstance(value, list | tuple):
        for item in value:
            _require_possible(item, place)
    else:
        for name in _field_names(value):
            _require_possible(getattr(value, name), name)


def _field_names(value: object) -> Sequence[str]:
    if isinstance(value, msgspec.Struct):
        return value.__struct_fields__
    return [field.name for field in fields(value)] if is_dataclass(value) else ()


def _cell_row(source: CellSource, on_bytes: Callable[[int], object]) -> CellRow:
    launch_directory = source.directory / "raw" / source.planned.id
    rows = {}
    for number in range(1, disturbance.MOST_RERUNS + 2):
        where = launch_directory / f"{source.cell.id}{disturbance.attempt_suffix(number)}"
        if (where / "cell.json").exists():
            rows[number] = _attempt_row(where, source, on_bytes)
    if not rows:
        return _unrun_row(source)
    spans = tuple(span for row in rows.values() for span in row.attempts)
    chosen = disturbance.counting_attempt([span.attempt for span in spans])
    return replace(rows[chosen.number], attempts=spans)


def _attempt_row(where: Path, source: CellSource, on_bytes: Callable[[int], object]) -> CellRow:
    """One attempt of a cell, from its directory."""
    about = reading.read_document(where / "cell.json", Cell)
    device, permitted = source.study.device, source.cached_permitted
    raw = raw_cell.read(where, device, source.launch, permitted, on_bytes)
    streams = None if source.cell.rate else source.cell.concurrency
    latencies = latency.latencies(raw.requests, streams)
    gpus = gpu.figures(raw.gpus, raw.pids)
    shares, figures = _figures(source, raw, about, latencies.figures, gpus)
    machine = machine_load.figures(raw.machine)
    findings = _findings(source, raw, about, figures, shares)
    judged = source.study.study.judge_machine
    attempt = Attempt(
        about.attempt,
        is_invalid=check.verdict(findings) == "invalid",
        is_disturbed=judged and disturbance.is_disturbed(machine),
        disturbance_cores=disturbance.disturbance(machine),
    )
    findings += disturbance.disturbance_findings(machine) if judged else ()
    load = tuple(machine_load.points(raw.machine, machine_load.SLIDING_S))
    return replace(
        _empty_row(source),
        findings=tuple(findings),
        log_tail=tuple(about.log_tail),
        figures=figures,
        samples=raw.samples,
        resident=raw.resident,
        power=raw.power,
        elsewhere=other_tools.printed_by_all(raw.requests),
        attempts=(AttemptSpan(attempt, about.started.t_s, about.ended.t_s, load),),
        quantiles=latencies.quantiles,
        client=about.client,
        machine=machine if raw.machine else None,
        throttled=gpus.throttled,
        gpu_errors=gpus.gpu_errors,
        steps=batching.of_requests(raw.requests, streams) if streams and streams > 1 else None,
    )


def _unrun_row(source: CellSource) -> CellRow:
    failure = source.launch.failure if source.launch else None
    if not isinstance(failure, Failure):
        return _without_figures(source, _not_run("the study ended before this cell"))
    reason = failure.message.removesuffix("; the end of its log:")
    return replace(_without_figures(source, _not_run(reason)), log_tail=tuple(failure.log_tail))


def _not_run(reason: str) -> Finding:
    return Finding("complete", "invalid", f"not run: {reason}")


def _without_figures(source: CellSource, finding: Finding) -> CellRow:
    return replace(_empty_row(source), findings=(finding,))


def _empty_row(source: CellSource) -> CellRow:
    planned, cell = source.planned, source.cell
    return CellRow(
        launch=planned.id,
        trial=planned.trial,
        engine=planned.engine,
        variant=planned.variant,
        label=planned.label,
        workload=cell.workload,
        concurrency=cell.concurrency,
        rate=cell.rate,
        findings=(),
        log_tail=(),
        figures={},
    )


def _figures(
    source: CellSource, raw: RawCell, about: Cell, latencies: Figures, gpus: GpuFigures
) -> tuple[Shares, dict[str, float | None]]:
    """The shares of the ceiling, and all figures of a cell."""
    study, requests = source.study, raw.requests
    first, last = raw.ends
    figures = {**latencies, **_peaks(raw, gpus)}
    figures |= memory.figures(raw.pages, raw.samples, requests)
    figures |= ceiling_shares.account(study, source.launch, figures)
    rate, tokens = figures["output_tokens_per_s"], figures["output_tokens"]
    price = cost.recorded_price(study)
    indices = {row.index for row in raw.own_gpus}
    # Its GPUs, as far as the samples say; all of the machine's where there are none.
    gpu_count = len(indices) or len(study.machine.gpus)
    cached = prefix_cache.at_most(requests, source.cached_permitted)
    shares = ceiling_shares.shares(
        study, source.ceiling, source.launch, requests, source.cell.concurrency, figures, cached
    )
    energy_j = physics.energy_used_j(about.started, about.ended, indices)
    return shares, figures | {
        # Whether the engine says how many prompt tokens came from a cache.
        "cache_checked": raw.tally.says_cached > 0
        or metrics_page.difference(first, last, "prefix_hit_tokens_total") is not None,
        "usd_per_million_output_tokens": (
            cost.usd_per_million_output_tokens(price.usd(gpu_count), rate)
            if price and rate
            else None
        ),
        "kv_tokens_in_flight_peak": kv_in_flight.tokens_in_flight_peak(requests),
        "client_judged": about.client is not None and study.study.judge_client,
        "energy_j": energy_j,
        "energy_j_per_output_token": energy_j / tokens if energy_j and tokens else None,
        "preemptions": metrics_page.difference(first, last, "preemptions_total"),
        **speculation.figures(first, last),
        "counters_checked": metrics_page.difference(first, last, "output_tokens_total") is not None,
        "ceiling_share": shares.throughput,
        "ceiling_share_decode": shares.decode,
        "ceiling_share_prefill": shares.prefill,
        "ceiling_share_request": shares.request,
        "ceiling_is_measured": shares.is_measured,
    } | (_of_shared_prompts(raw) if source.cached_permitted else {})


def _of_shared_prompts(raw: RawCell) -> dict[str, float | None]:
    """Figures of a cell whose prompts begin alike: what its requests hold together is less than
    the sum of what each holds, and how much less is not known."""
    return {
        "cached_share": prefix_cache.share(raw.requests, *raw.ends),
        "kv_tokens_in_flight_peak": None,
        "kv_waste": None,
        "kv_follow_error": None,
    }


def _peaks(raw: RawCell, gpus: GpuFigures) -> dict[str, float | None]:
    """Peaks over the cell of what was watched; None is "not measured"."""

    def peak(values: Iterable[float | None]) -> float | None:
        return max((value for value in values if value is not None), default=None)

    of_processes = peak(sample.pss_bytes for sample in raw.processes)
    of_container = peak(row.memory_bytes for row in raw.container)
    return {
        "memory_peak_bytes": of_container if of_processes is None else of_processes,
        "container_memory_peak_bytes": of_container,
        "kv_used_ratio_peak": peak(page.get("kv_used_ratio") for page in raw.pages),
        "gpu_memory_peak_bytes": gpus.gpu_memory_peak_bytes,
        "power_w_mean": gpus.power_w_mean,
        "gpu_utilisation_mean": gpus.gpu_utilisation_mean,
    }


def _findings(
    source: CellSource, raw: RawCell, about: Cell, figures: Figures, shares: Shares
) -> list[Finding]:
    findings: list[Finding] = []
    if about.engine_death:
        findings.append(Finding("complete", "invalid", about.engine_death))
    findings += in_effect.findings(source.launch)
    findings += request_checks.warmup_findings(raw.warmup)
    findings += request_checks.tally_findings(raw.tally, source.cell.requests)
    findings += counters.counter_findings(raw.requests, *raw.ends, source.cached_permitted)
    if figures["client_judged"]:
        findings += client_error.findings(about.client, figures)
    findings += physics.clock_findings(about.started, about.ended)
    findings += physics.load_findings(figures["in_flight_mean"], source.cell.concurrency)
    findings += physics.physics_findings(shares)
    held, capacity = figures["kv_tokens_in_flight_peak"], figures["kv_capacity_tokens"]
    findings += physics.kv_findings(held, capacity, figures["preemptions"])
    findings += physics.energy_findings(about.started, about.ended)
    findings += counters.cut_off_findings(source.launch is not None, len(raw.pages))
    findings += silence.findings(raw.requests, raw.scrape_errors)
    for comparison in source.comparisons:
        if comparison.label == source.planned.label and comparison.is_same_dtype:
            findings += answers.answer_findings(comparison)
    return findings

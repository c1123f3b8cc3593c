"""Running one cell on a started engine: warm up, measure, record; again if others disturbed it."""

import time
from dataclasses import dataclass, replace

from enginebench.check import disturbance
from enginebench.check.disturbance import Attempt, RerunBudget
from enginebench.hardware import machine, nvml
from enginebench.launch.server import Server
from enginebench.load import client_stats, http1, request_record, spec, workers
from enginebench.load.client_stats import ClientFigures
from enginebench.load.request_record import Phase, RequestRecord
from enginebench.metrics import machine_load, metrics_page
from enginebench.plan import plan
from enginebench.plan.plan import Cell, Launch
from enginebench.record import schema
from enginebench.record.files import Writer
from enginebench.run import quiet
from enginebench.run.cell_requests import Work
from enginebench.run.display import GAUGES, Display
from enginebench.run.prepare import Prepared
from enginebench.run.recorded import as_recorded
from enginebench.watch.machine_load import MachineSampler
from enginebench.watch.sampler import Watcher

SETTLE_S = 0.3  # engines publish their counters a moment after the last token


@dataclass(frozen=True, slots=True)
class RunningLaunch:
    """A started engine, what is to be run on it, and where that goes."""

    prepared: Prepared
    item: Launch
    server: Server
    writer: Writer
    show: Display

    @property
    def engine_pids(self) -> tuple[int, ...] | None:
        """The engine's first process; None where this machine cannot see it."""
        return None if self.server.pid is None else (self.server.pid,)


def run_agreement(launch: RunningLaunch, cell: Cell) -> None:
    """Have the fixed prompts answered and record the answers; nothing of it is timed."""
    item, show, writer = launch.item, launch.show, launch.writer
    show.stage(f"{item.variant.label}: answering {cell.requests} prompts to compare answers")
    writer.event("agree", launch=item.id)
    records, _ = _drive(
        launch, cell, launch.prepared.work[cell.id], "measured", spec.LoadProgress()
    )
    writer.write_lines(f"raw/{item.id}/agreement.jsonl.gz", records, compress=True)
    show.start_done(plan.cell_estimate_s(item, cell))


def run_until_quiet(launch: RunningLaunch, cell: Cell, budget: RerunBudget) -> RerunBudget:
    """Run a cell; where other processes disturbed it, wait for quiet and run it again.

    Every attempt is recorded. An engine that ends meanwhile is recorded too, not raised.

    Returns:
        the budget, less what the reruns took.
    """
    label = f"{launch.item.variant.label} {cell.id}, trial {launch.item.trial}"
    attempts = [_attempt(launch, cell, label, 1)]
    expected_s = plan.cell_estimate_s(launch.item, cell) + quiet.LIMIT_S
    while launch.server.death() is None and disturbance.wants_rerun(attempts, expected_s, budget):
        started_s = time.perf_counter()
        taken_cores = attempts[-1].disturbance_cores or 0.0
        launch.show.warn(
            f"{label}: other processes took {taken_cores:.2f} cores from it; it is run again, "
            f"attempt {len(attempts) + 1} of {disturbance.MOST_RERUNS + 1}"
        )
        launch.show.stage(f"{label}: waiting for the machine to be quiet")
        quiet.wait(MachineSampler(launch.engine_pids).sample)
        attempts.append(_attempt(launch, cell, label, len(attempts) + 1))
        spent_s = time.perf_counter() - started_s
        budget = replace(budget, spent_s=budget.spent_s + spent_s, left_s=budget.left_s - spent_s)
    launch.show.start_done(plan.cell_estimate_s(launch.item, cell))
    return budget


def _attempt(launch: RunningLaunch, cell: Cell, label: str, number: int) -> Attempt:
    """Warm up, measure and record a cell once."""
    prepared, server, writer, show = launch.prepared, launch.server, launch.writer, launch.show
    where = f"raw/{launch.item.id}/{cell.id}{disturbance.attempt_suffix(number)}"
    names = {"launch": launch.item.id, "cell": cell.id, "attempt": number}
    work = prepared.work[cell.id] if number == 1 else prepared.more_work(cell, number)
    progress = spec.LoadProgress()
    show.stage(f"{label}: warming up")
    writer.event("warm", **names)
    records, _ = _drive(launch, cell, work, "warmup", spec.LoadProgress())
    show.cell(label, cell.requests, progress)
    writer.event("load", **names)
    gpus = nvml.gpus() if prepared.device == "cuda" else ()
    watcher = _watcher(launch, gpus)
    started = machine.meters(gpus)
    with watcher:
        measured, stats = _drive(launch, cell, work, "measured", progress)
        time.sleep(SETTLE_S)
    ended = machine.meters(gpus)
    writer.event("record", **names)
    death = server.death()
    watched = watcher.watched
    writer.write_lines(f"{where}/requests.jsonl", records + measured)
    writer.write_lines(f"{where}/scrapes.jsonl.gz", watched.scrapes, compress=True)
    writer.write_lines(f"{where}/processes.jsonl", watched.processes)
    writer.write_lines(f"{where}/machine.jsonl", watched.machine)
    if gpus:
        writer.write_lines(f"{where}/gpus.jsonl.gz", watched.gpus, compress=True)
    facts = schema.Cell(
        attempt=number,
        started=as_recorded(schema.Meters, started),
        ended=as_recorded(schema.Meters, ended),
        client=as_recorded(schema.ClientStats, stats),
        watching={
            name: as_recorded(schema.PulseCost, cost) for name, cost in watcher.cost().items()
        },
        engine_death=death,
        log_tail=server.log_tail() if death else [],
    )
    writer.write_json(f"{where}/cell.json", facts)
    short = request_record.short_figures(measured)
    if number == 1:
        show.cell_done(label, _in_short(short, death))
    else:
        show.cell_repeated(label, _in_short(short, death))
    if death:
        show.warn(f"{label}: {death}; the cell is invalid; its last log lines are in {where}")
    seen = machine_load.figures(watched.machine)
    return Attempt(
        number,
        is_invalid=death is not None or short.failed > 0,
        is_disturbed=prepared.study.judge_machine and disturbance.is_disturbed(seen),
        disturbance_cores=disturbance.disturbance(seen),
    )


def _watcher(launch: RunningLaunch, gpus: tuple[nvml.Gpu, ...]) -> Watcher:
    study, dialect = launch.prepared.study, launch.server.engine.dialect
    shown = {name: dialect.metrics.get(name, ()) for name in GAUGES}
    return Watcher(
        launch.server.url + dialect.metrics_path,
        launch.server.pid,
        study.scrape_interval_s,
        study.sample_interval_s,
        gpus,
        lambda scrape: launch.show.engine(metrics_page.gauges(scrape.status, scrape.text, shown)),
    )


def _drive(
    launch: RunningLaunch, cell: Cell, work: Work, phase: Phase, progress: spec.LoadProgress
) -> tuple[list[RequestRecord], ClientFigures]:
    """Send a cell's requests; what came of each, and the client's own statistics.

    A warm-up is a closed loop of one request a stream, whatever the cell is.
    """
    prepared, server = launch.prepared, launch.server
    is_warmup = phase == "warmup"
    requests = work.warmup if is_warmup else work.measured
    dialect = server.engine.dialect
    ids = [f"{cell.id}-{phase}-{index}" for index in range(len(requests))]
    bodies = [
        http1.post(server.address, dialect.generate_path, dialect.body(request), request_id)
        for request, request_id in zip(requests, ids, strict=True)
    ]
    load = spec.LoadSpec(
        server.address,
        bodies,
        cell.warmups if is_warmup else cell.concurrency,
        due_s=None if is_warmup else work.due_s,
        ramp_s=0.0 if is_warmup else cell.workload.ramp_s,
        timeout_s=prepared.study.request_timeout_s,
        most_answer_bytes=spec.answer_limit(
            cell.workload.prompt_tokens, max(request.output_tokens for request in requests)
        ),
    )
    is_timed = not is_warmup and not cell.wants_ids
    processes = prepared.client_processes(launch.item, cell) if is_timed else 1
    with workers.run(load, processes, progress, server.death) as result:
        stats = client_stats.figures(result)
        records = [
            request_record.read(answer, dialect, request, phase=phase, request_id=request_id)
            for answer, request, request_id in zip(result.exchanges, requests, ids, strict=True)
        ]
    good = [record for record in records if record.error is None]  # the others count for nothing
    texts = [record.text for record in good]
    counted = prepared.tokenizer.encode_batch(texts, add_special_tokens=False)
    for record, encoding in zip(good, counted, strict=True):
        record.text_tokens = len(encoding.ids)
    return records, stats


def _in_short(short: request_record.ShortFigures, death: str | None) -> str:
    rate, ttft_s = short.output_tokens_per_s, short.ttft_s_p50
    if death or rate is None or ttft_s is None:
        return f"{short.failed} of {short.requests} requests failed"
    return f"{rate:.1f} output tokens/s, TTFT p50 {ttft_s * 1000:.0f} ms" + (
        f", {short.failed} requests failed" if short.failed else ""
    )

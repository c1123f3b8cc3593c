"""Running a prepared study: the one place where all parts are wired, in the order of the flow."""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests

from enginebench.base.errors import EngineError
from enginebench.engines.dialect import capacity_in_log
from enginebench.engines.directory import Engine
from enginebench.hardware import machine, nvml
from enginebench.hardware.roofline import Ceiling
from enginebench.launch import container, device_free, environment, process
from enginebench.launch.server import Server, choose_port
from enginebench.load import client_stats, http1, request_record, spec, workers
from enginebench.load.request_record import Phase, RequestRecord
from enginebench.metrics import metrics_page
from enginebench.metrics.latency import cell_figures
from enginebench.plan import plan
from enginebench.plan.plan import Cell, Launch
from enginebench.record.files import Writer
from enginebench.run.display import GAUGES, Display
from enginebench.run.interrupts import signals_held
from enginebench.run.prepare import Prepared, Work
from enginebench.run.ready import wait_ready
from enginebench.run.resume import There
from enginebench.watch.sampler import Watcher, local_session

SETTLE_S = 0.3  # engines publish their counters a moment after the last token


@dataclass(frozen=True, slots=True)
class Outcome:
    failed_starts: tuple[str, ...]  # one line each
    left: int = 0  # engine starts that there was no time for


def run(
    prepared: Prepared,
    writer: Writer,
    show: Display,
    there: There,
    until_s: float = math.inf,
) -> Outcome:
    """Run every launch of the plan; an engine that fails does not stop the others.

    If Docker has gone, no engine can be started any more: the rest is not run then.

    Args:
        there: what the record has already. What failed before is tried again last, so that time
            that is limited is not spent on it alone.
        until_s: when to end at the latest, on the clock of the requests. A launch that is not
            expected to end by then is left, and all after it; one is run in any case.
    """
    if there.whole:
        names = ("clock", "calibration", "ceiling", "gpu_reached")
        writer.event("resumed", **{name: prepared.facts[name] for name in names})
    else:
        writer.write_json("study.json", prepared.facts)
    failed: list[str] = []
    missing = [item for item in prepared.plan.launches if item.id not in there.whole]
    missing.sort(key=lambda item: item.id in there.tried)
    for item in prepared.plan.launches:
        if item.id in there.whole:
            show.skip(len(item.cells), plan.launch_estimate_s(item))
    for index, item in enumerate(missing):
        expected_s = plan.launch_estimate_s(item) * show.pace()
        if index and time.perf_counter() + expected_s > until_s:
            return Outcome(tuple(failed), len(missing) - index)
        try:
            _run_launch(prepared, item, writer, show)
        except EngineError as error:
            show.warn(error.message, error.details)
            show.skip(len(item.cells), plan.launch_estimate_s(item))
            failed.append(error.message)
            if prepared.docker is not None and not prepared.docker.answers():
                show.warn("Docker no longer answers: the study ends here")
                break
    ceiling = prepared.ceiling()
    end = {
        "finished_at": datetime.now(UTC).isoformat(),
        "ceiling": asdict(ceiling) if isinstance(ceiling, Ceiling) else None,
    }
    writer.write_json("finished.json", end)
    writer.event("finished")
    return Outcome(tuple(failed))


def _run_launch(prepared: Prepared, item: Launch, writer: Writer, show: Display) -> None:
    """One engine: up, ready, its cells, down. Whatever happens, it is down afterwards."""
    study, engine = prepared.study, prepared.engines[item.variant.engine]
    shared = {name: v for name, v in study.settings.items() if name in engine.variables}
    settings = shared | dict(item.variant.settings)
    directory = writer.launch_directory(item.id)
    facts: dict[str, Any] = {
        "engine": engine.name,
        "variant": item.variant.variant,
        "trial": item.trial,
        "settings": settings,
        "dtype": engine.dtype_under(settings),
        "command": [],  # until it is started
        "env": {},
        "metrics": {ours: list(names) for ours, names in engine.dialect.metrics.items()},
        "kv_blocks_kept_back": engine.dialect.kv_blocks_kept_back,
    }
    show.stage(f"{item.variant.label}, trial {item.trial}: starting the engine")
    writer.event("up", launch=item.id)
    server: Server | None = None
    try:
        device_free.wait(prepared.device, engine.name)
        with signals_held():
            server = _start(prepared, engine, settings, item.id, directory)
        facts |= server.facts
        first = prepared.work[item.cells[0].id].warmup[0]
        facts["ready_s"] = wait_ready(server, first, study.ready_timeout_s)
        facts["version"] = _version(server)
        logged = engine.dialect.capacity_in_log
        facts["kv_capacity_tokens"] = capacity_in_log(logged, server.log_text())
        writer.event("ready", launch=item.id)
        show.start_done(item.variant.hint.start_s)
        if item.agreement is not None:
            _run_agreement(prepared, item, item.agreement, server, writer, show)
        for cell in item.cells:
            _run_cell(prepared, item, cell, server, writer, show)
        facts["failure"] = None
    except EngineError as error:
        facts["failure"] = {"message": error.message, "log_tail": list(error.details)}
        raise
    finally:
        with signals_held() as hurried:
            if server is not None:
                facts |= server.stop(hurried)
                if server.meters:
                    writer.write_lines(f"raw/{item.id}/container.jsonl", server.meters)
            writer.event("down", launch=item.id)
            writer.write_json(f"raw/{item.id}/launch.json", facts)
        if facts.get("left_behind"):
            show.warn(
                f"{engine.name}: Docker could not remove all of its container; "
                "make down does it by hand",
                facts["left_behind"],
            )


def _start(
    prepared: Prepared,
    engine: Engine,
    settings: Mapping[str, Any],
    launch_id: str,
    directory: Path,
) -> Server:
    """Start the engine in the way that the study was prepared for."""
    port = choose_port(prepared.study.port)
    own = {
        "MODEL": str(prepared.model_paths[engine.name]),
        "CPUS": machine.cpu_list(machine.cpus()),
    }
    values = {**settings, **own}
    if prepared.docker is None:
        command = process.resolve(engine, values, prepared.device, prepared.cache, port)
        server = process.start(engine, command, directory)
        home = environment.directory(engine, prepared.device, prepared.cache)
        return replace(server, facts={**server.facts, "python": home.name})
    image = prepared.images[engine.name]
    made = container.project(engine, values, prepared.device, image, port, launch_id)
    return container.start(engine, made, prepared.docker, directory)


def _run_agreement(
    prepared: Prepared,
    item: Launch,
    cell: Cell,
    server: Server,
    writer: Writer,
    show: Display,
) -> None:
    """Have the fixed prompts answered and keep the answers; nothing of it is timed."""
    show.stage(f"{item.variant.label}: answering {cell.requests} prompts to compare answers")
    writer.event("agree", launch=item.id)
    work = prepared.work[cell.id]
    records, _ = _drive(prepared, cell, server, work, "measured", spec.Live())
    rows = (record.to_json() for record in records)
    writer.write_lines(f"raw/{item.id}/agreement.jsonl.gz", rows, compress=True)
    show.start_done(plan.cell_estimate_s(item, cell))


def _version(server: Server) -> Any:
    """What the engine says of itself; None if it has no such page."""
    try:
        url = server.url + server.engine.dialect.version_path
        answer = local_session().get(url, timeout=10)
        return answer.json() if answer.ok else None
    except (requests.RequestException, ValueError):
        return None


def _run_cell(
    prepared: Prepared,
    item: Launch,
    cell: Cell,
    server: Server,
    writer: Writer,
    show: Display,
) -> None:
    """Warm up, measure, record one cell. An engine found dead is recorded, not raised."""
    label = f"{item.variant.label} {cell.id}, trial {item.trial}"
    where = f"raw/{item.id}/{cell.id}"
    work, engine = prepared.work[cell.id], server.engine
    names = {"launch": item.id, "cell": cell.id}
    live = spec.Live()
    show.stage(f"{label}: warming up")
    writer.event("warm", **names)
    records, _ = _drive(prepared, cell, server, work, "warmup", spec.Live())
    show.cell(label, cell.requests, live)
    writer.event("load", **names)
    gpus = nvml.gpus() if prepared.device == "cuda" else ()
    shown = {name: engine.dialect.metrics.get(name, ()) for name in GAUGES}
    watcher = Watcher(
        server.url + engine.dialect.metrics_path,
        server.pid,
        prepared.study.scrape_interval_s,
        prepared.study.sample_interval_s,
        gpus,
        lambda scrape: show.engine(metrics_page.gauges(scrape, shown)),
    )
    started = machine.meters(gpus)
    with watcher:
        measured, own = _drive(prepared, cell, server, work, "measured", live, item)
        time.sleep(SETTLE_S)
    ended = machine.meters(gpus)
    writer.event("record", **names)
    death = server.death()
    writer.write_lines(f"{where}/requests.jsonl", (r.to_json() for r in records + measured))
    writer.write_lines(f"{where}/scrapes.jsonl.gz", watcher.watched.scrapes, compress=True)
    writer.write_lines(f"{where}/processes.jsonl", watcher.watched.processes)
    if gpus:
        writer.write_lines(f"{where}/gpus.jsonl.gz", watcher.watched.gpus, compress=True)
    tail = server.log_tail() if death else []
    facts: dict[str, Any] = {"started": started, "ended": ended, "client": own}
    facts |= {"watching": watcher.cost(), "engine_death": death, "log_tail": tail}
    writer.write_json(f"{where}/cell.json", facts)
    show.cell_done(label, _in_short(measured, death), plan.cell_estimate_s(item, cell))
    if death:
        show.warn(f"{label}: {death}; the cell is invalid; its last log lines are in {where}")


def _drive(
    prepared: Prepared,
    cell: Cell,
    server: Server,
    work: Work,
    phase: Phase,
    live: spec.Live,
    item: Launch | None = None,
) -> tuple[list[RequestRecord], client_stats.Figures]:
    """Send a cell's requests; what came of each, and what the client says of itself.

    A warm-up is a closed loop of one request a stream, whatever the cell is.
    """
    is_warmup = phase == "warmup"
    asks = work.warmup if is_warmup else work.measured
    dialect = server.engine.dialect
    ids = [f"{cell.id}-{phase}-{index}" for index in range(len(asks))]
    bodies = [
        http1.post(server.address, dialect.generate_path, dialect.body(ask), request_id)
        for ask, request_id in zip(asks, ids, strict=True)
    ]
    sent = spec.Load(
        server.address,
        bodies,
        cell.warmups if is_warmup else cell.concurrency,
        due_s=None if is_warmup else work.due_s,
        ramp_s=0.0 if is_warmup else cell.workload.ramp_s,
        timeout_s=prepared.study.request_timeout_s,
    )
    processes = prepared.client_processes(item, cell) if item is not None else 1
    with workers.run(sent, processes, live, server.death) as taken:
        own = client_stats.figures(taken)
        records = [
            request_record.read(answer, dialect, ask, phase=phase, request_id=request_id)
            for answer, ask, request_id in zip(taken.exchanges, asks, ids, strict=True)
        ]
    texts = [record.text for record in records]
    counted = prepared.tokenizer.encode_batch(texts, add_special_tokens=False)
    for record, encoding in zip(records, counted, strict=True):
        record.text_tokens = len(encoding.ids)
    return records, own


def _in_short(measured: list[RequestRecord], death: str | None) -> str:
    figures = cell_figures([record.to_json() for record in measured])
    rate, ttft = figures["output_tokens_per_s"], figures["ttft_s_p50"]
    if death or rate is None or ttft is None:
        return f"{figures['requests_failed']} of {figures['requests']} requests failed"
    failed = figures["requests_failed"]
    return f"{rate:.1f} output tokens/s, TTFT p50 {ttft * 1000:.0f} ms" + (
        f", {failed} requests failed" if failed else ""
    )

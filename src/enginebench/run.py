"""Running a study: the one place where all parts are wired together, in the order of the flow."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
from tokenizers import Tokenizer

from enginebench import (
    ceilings,
    environment,
    exchange,
    launch,
    load,
    machine,
    model,
    plan,
    process,
    prompts,
)
from enginebench.dialect import Ask
from enginebench.display import Display
from enginebench.errors import EngineError, UserError
from enginebench.exchange import Phase, RequestRecord
from enginebench.launch import Engine
from enginebench.measure import cell_figures
from enginebench.plan import Cell, Launch, Plan
from enginebench.record import SCHEMA, Writer
from enginebench.roofline import Ceiling
from enginebench.study import Study
from enginebench.watch import Watcher, local_session

TELLING_PREFIXES = ("OMP_", "MKL_", "KMP_", "GOMP_", "TORCH", "CUDA_", "HF_", "VLLM_", "LD_PRELOAD")
SETTLE_S = 0.3  # engines publish their counters a moment after the last token


@dataclass(frozen=True, slots=True)
class Work:
    """The requests of one cell: the same for every engine and every trial."""

    warmup: tuple[Ask, ...]
    measured: tuple[Ask, ...]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that is settled before the first engine starts."""

    study: Study
    plan: Plan
    engines: Mapping[str, Engine]
    model: model.Model
    tokenizer: Tokenizer
    work: Mapping[str, Work]  # by cell id
    device: str
    cache: Path
    ceiling: Callable[[], Ceiling | None]  # finds (on a CPU: measures) the machine's ceiling
    facts: Mapping[str, Any]  # what study.json says


@dataclass(frozen=True, slots=True)
class Outcome:
    directory: Path
    failed_starts: tuple[str, ...]  # one line each


def load_engines(study: Study, root: Path, where: str) -> dict[str, Engine]:
    """The study's engines, and whether their settings are ones they understand.

    Args:
        where: the study's file, for messages.
    """
    engines = {}
    for index, variant in enumerate(study.engines):
        place = f"{where}: engines[{index}]"
        engine = launch.load_engine(root, variant.engine, f"{place}.engine: ")
        launch.check_settings(variant.settings, engine.settings, place)
        engines[variant.engine] = engine
    known = set().union(*(engine.settings for engine in engines.values()))
    launch.check_settings(study.settings, known, where)
    return engines


def prepare(
    study: Study,
    engines: Mapping[str, Engine],
    root: Path,
    cache: Path,
    rerun: str,
    say: Callable[[str], None],
) -> Prepared:
    """Get ready everything that needs no engine running: environments, model, prompts, plan.

    Args:
        rerun: the command that runs this study again, for the report.
        say: told what takes long.

    Raises:
        UserError: whatever the study asks for that is not there or cannot be.
    """
    device = machine.device() if study.device == "auto" else study.device
    source = Path(study.prompts.path)
    source = source if source.is_absolute() else root / source
    texts = prompts.read_sources(source, study.prompts.format)
    found = model.resolve(study.model, texts, cache / "models")
    tokenizer = prompts.load_tokenizer(found.path)
    made = plan.make(study)
    work = {}
    for cell in {cell.id: cell for item in made.launches for cell in item.cells}.values():
        _check_context(cell, found)
        work[cell.id] = _make_work(study, cell, tokenizer, texts)
    for engine in engines.values():
        if engine.native is not None:
            environment.build(engine, device, cache, say)
    pythons = [environment.python(e, device, cache) for e in engines.values() if e.native]
    gpus = machine.gpus() if device == "cuda" else []

    def find_ceiling() -> Ceiling | None:
        return ceilings.here(gpus, pythons, len(machine.cpus()))

    say("looking up what this machine can do at most ...")
    ceiling = find_ceiling()
    facts = {
        "schema": SCHEMA,
        "study": study.model_dump(mode="json"),
        "started_at": datetime.now(UTC).isoformat(),
        "clock": _clocks(),
        "rerun": rerun,
        "runner": "process",
        "device": device,
        "machine": machine.facts(),
        "ceiling": None if ceiling is None else asdict(ceiling),
        "git": machine.git_state(root),
        "prompts": {
            "path": study.prompts.path,
            "sha256": prompts.file_sha256(source),
            "count": len(texts),
        },
        "model": {
            "name": found.name,
            "sha256": found.sha256,
            "hashed": found.hashed,
            "has_random_weights": found.has_random_weights,
            "config": found.config,
        },
        "plan": [_launch_facts(item) for item in made.launches],
    }
    return Prepared(
        study, made, engines, found, tokenizer, work, device, cache, find_ceiling, facts
    )


def _check_context(cell: Cell, found: model.Model) -> None:
    wanted = cell.workload.prompt_tokens + cell.workload.longest_output
    if found.context is not None and wanted > found.context:
        raise UserError(
            f"workload {cell.workload.name}: expected prompt and output to fit the model's context "
            f"of {found.context} tokens, found {cell.workload.prompt_tokens} + "
            f"{cell.workload.longest_output} = {wanted}; ask for less"
        )


def _make_work(study: Study, cell: Cell, tokenizer: Tokenizer, texts: list[str]) -> Work:
    workload = cell.workload
    seed = f"{study.seed}/{cell.id}"
    # One set for both: no measured prompt is ever seen in the warm-up.
    count = cell.concurrency + cell.requests
    made = prompts.make_set(tokenizer, texts, workload.prompt_tokens, count, seed)
    lengths = plan.output_lengths(workload, cell.requests, seed)
    lengths = [workload.warmup_output_tokens] * cell.concurrency + list(lengths)
    asks = [
        Ask(prompt.ids, prompt.text, length, study.seed, prompt.sha256)
        for prompt, length in zip(made, lengths, strict=True)
    ]
    return Work(tuple(asks[: cell.concurrency]), tuple(asks[cell.concurrency :]))


def _launch_facts(item: Launch) -> dict[str, Any]:
    return {
        "id": item.id,
        "trial": item.trial,
        "engine": item.variant.engine,
        "variant": item.variant.variant,
        "label": item.variant.label,
        "cells": [
            {
                "id": cell.id,
                "workload": cell.workload.name,
                "concurrency": cell.concurrency,
                "requests": cell.requests,
            }
            for cell in item.cells
        ],
    }


def run(prepared: Prepared, writer: Writer, show: Display) -> Outcome:
    """Run every launch of the plan; an engine that fails does not stop the others."""
    writer.write_json("study.json", prepared.facts)
    failed = []
    for item in prepared.plan.launches:
        try:
            _run_launch(prepared, item, writer, show)
        except EngineError as error:
            show.warn(error.message, error.details)
            show.skip(len(item.cells), plan.launch_estimate_s(item))
            failed.append(error.message)
    ceiling = prepared.ceiling()
    end = {
        "finished_at": datetime.now(UTC).isoformat(),
        "ceiling": None if ceiling is None else asdict(ceiling),
    }
    writer.write_json("finished.json", end)
    writer.event("finished")
    return Outcome(writer.directory, tuple(failed))


def _run_launch(prepared: Prepared, item: Launch, writer: Writer, show: Display) -> None:
    """One engine: up, ready, its cells, down. Whatever happens, it is down afterwards."""
    study, engine = prepared.study, prepared.engines[item.variant.engine]
    port = process.choose_port(study.port)
    shared = {name: v for name, v in study.settings.items() if name in engine.variables}
    own = {"MODEL": str(prepared.model.path), "CPUS": machine.cpu_list(machine.cpus())}
    settings = shared | dict(item.variant.settings)
    command = process.resolve(engine, settings | own, prepared.device, prepared.cache, port)
    directory = writer.launch_directory(item.id)
    facts: dict[str, Any] = {
        "engine": engine.name,
        "variant": item.variant.variant,
        "trial": item.trial,
        "settings": settings,
        "command": list(command.argv),
        "env": dict(command.env),
        "dtype": _flag(command.argv, "--dtype"),
        "metrics": {ours: list(names) for ours, names in engine.dialect.metrics.items()},
        "inherited_env": _inherited(command),
        "python": str(environment.directory(engine, prepared.device, prepared.cache).name),
    }
    show.stage(f"{item.variant.label}, trial {item.trial}: starting the engine")
    writer.event("up", launch=item.id)
    server: process.Server | None = None
    try:
        with process.signals_held():
            server = process.start(engine, command, directory)
        first = prepared.work[item.cells[0].id].warmup[0]
        facts["ready_s"] = process.wait_ready(server, first, study.ready_timeout_s)
        facts["version"] = _version(server)
        writer.event("ready", launch=item.id)
        show.start_done(item.variant.hint.start_s)
        for cell in item.cells:
            _run_cell(prepared, item, cell, server, writer, show)
        facts["failure"] = None
    except EngineError as error:
        facts["failure"] = {"message": error.message, "log_tail": list(error.details)}
        raise
    finally:
        if server is not None:
            with process.signals_held():
                process.stop(server)
        writer.event("down", launch=item.id)
        writer.write_json(f"raw/{item.id}/launch.json", facts)


def _inherited(command: process.Command) -> dict[str, str]:
    """Variables of the caller that are known to move an engine's numbers."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith(TELLING_PREFIXES) and name not in command.env
    }


def _flag(argv: Sequence[str], name: str) -> str | None:
    """The value of a command line flag, ``--name=value`` or ``--name value``."""
    words = [part for word in argv for part in word.split("=", 1)]
    return words[words.index(name) + 1] if name in words[:-1] else None


def _version(server: process.Server) -> Any:
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
    server: process.Server,
    writer: Writer,
    show: Display,
) -> None:
    """Warm up, measure, record one cell. An engine found dead is recorded, not raised."""
    label = f"{item.variant.label} {cell.id}, trial {item.trial}"
    where = f"raw/{item.id}/{cell.id}"
    work, engine = prepared.work[cell.id], server.engine
    names = {"launch": item.id, "cell": cell.id}
    live = load.Live()
    show.stage(f"{label}: warming up")
    writer.event("warm", **names)
    records = _drive(prepared, cell, server, work, "warmup", load.Live())
    show.cell(label, cell.requests, live)
    writer.event("load", **names)
    watcher = Watcher(
        server.url + engine.dialect.metrics_path,
        server.process.pid,
        prepared.study.scrape_interval_s,
    )
    started = _clocks()
    with watcher:
        measured = _drive(prepared, cell, server, work, "measured", live)
        time.sleep(SETTLE_S)
    ended = _clocks()
    writer.event("record", **names)
    death = server.death()
    writer.write_lines(f"{where}/requests.jsonl", (r.to_json() for r in records + measured))
    writer.write_lines(f"{where}/scrapes.jsonl.gz", watcher.watched.scrapes, compress=True)
    writer.write_lines(f"{where}/processes.jsonl", watcher.watched.processes)
    tail = server.log_tail() if death else []
    facts = {"started": started, "ended": ended, "engine_death": death, "log_tail": tail}
    writer.write_json(f"{where}/cell.json", facts)
    show.cell_done(label, _in_short(measured, death), plan.cell_estimate_s(item, cell))
    if death:
        show.warn(f"{label}: {death}; the cell is invalid; its last log lines are in {where}")


def _clocks() -> dict[str, float]:
    return {"t_s": time.perf_counter(), "wall_s": time.time()}


def _drive(
    prepared: Prepared,
    cell: Cell,
    server: process.Server,
    work: Work,
    phase: Phase,
    live: load.Live,
) -> list[RequestRecord]:
    asks = work.warmup if phase == "warmup" else work.measured
    dialect = server.engine.dialect
    ids = [f"{cell.id}-{phase}-{index}" for index in range(len(asks))]
    bodies = [
        load.post(server.address, dialect.generate_path, dialect.body(ask), request_id)
        for ask, request_id in zip(asks, ids, strict=True)
    ]
    exchanges = load.run_closed_loop(
        server.address,
        bodies,
        cell.concurrency,
        prepared.study.request_timeout_s,
        live,
        server.death,
    )
    records = [
        exchange.read(answer, dialect, ask, phase=phase, request_id=request_id)
        for answer, ask, request_id in zip(exchanges, asks, ids, strict=True)
    ]
    texts = [record.text for record in records]
    counted = prepared.tokenizer.encode_batch(texts, add_special_tokens=False)
    for record, encoding in zip(records, counted, strict=True):
        record.text_tokens = len(encoding.ids)
    return records


def _in_short(measured: list[RequestRecord], death: str | None) -> str:
    figures = cell_figures([record.to_json() for record in measured])
    rate, ttft = figures["output_tokens_per_s"], figures["ttft_s_p50"]
    if death or rate is None or ttft is None:
        return f"{figures['requests_failed']} of {figures['requests']} requests failed"
    failed = figures["requests_failed"]
    return f"{rate:.1f} output tokens/s, TTFT p50 {ttft * 1000:.0f} ms" + (
        f", {failed} requests failed" if failed else ""
    )

"""Running a prepared study: the one place where all parts are wired, in the order of the flow."""

import math
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from msgspec import structs

from enginebench.base.errors import EngineError, UserError
from enginebench.check import in_effect
from enginebench.check.disturbance import RerunBudget
from enginebench.engines import http_page, start_up
from enginebench.engines.dialect import capacity_in_log
from enginebench.engines.interpolation import Setting
from enginebench.hardware import machine
from enginebench.launch import container, device_free, environment, process
from enginebench.launch.server import LOG_TAIL_LINES, Server, choose_port
from enginebench.plan import plan
from enginebench.plan.models import Model
from enginebench.plan.plan import Launch
from enginebench.record import schema, schema_study
from enginebench.record.files import Writer
from enginebench.run import cell_run, scoring
from enginebench.run.cell_run import RunningLaunch
from enginebench.run.display import Display
from enginebench.run.interrupts import DeferredInterrupts
from enginebench.run.prepare import Prepared
from enginebench.run.ready import wait_ready
from enginebench.run.recorded import as_recorded
from enginebench.run.resolved import resolved
from enginebench.run.resume import ResumeState
from enginebench.run.study_facts import recorded_ceiling

VERSION_TIMEOUT_S = 10.0
VERSION_LIMIT_BYTES = 1 << 16
VERSION_DEPTH = 16


@dataclass(frozen=True, slots=True)
class Outcome:
    failed_starts: tuple[str, ...]  # one line each
    left: int = 0  # engine starts that there was no time for


def run(
    prepared: Prepared,
    writer: Writer,
    show: Display,
    state: ResumeState,
    deadline_s: float = math.inf,
) -> Outcome:
    """Run every launch of the plan; an engine that fails does not stop the others.

    If Docker has gone, no engine can be started any more: the rest is not run then.

    Args:
        state: what the record has already. What failed before is tried again last, so that
            limited time is not spent on it alone.
        deadline_s: on the clock of ``time.perf_counter``. A launch that is not expected to end by
            then is left, and all after it; one is run in any case.
    """
    if state.complete:
        names = ("clock", "noise", "calibration", "ceiling", "gpu_reached")
        writer.event("resumed", **{name: getattr(prepared.facts, name) for name in names})
    else:
        writer.write_json("study.json", prepared.facts)
    failed: list[str] = []
    missing = [item for item in prepared.plan.launches if item.id not in state.complete]
    missing.sort(key=lambda item: item.id in state.attempted)
    for item in prepared.plan.launches:
        if item.id in state.complete:
            show.skip(len(item.cells), plan.launch_estimate_s(item))
    budget = RerunBudget(
        planned_s=prepared.plan.estimate_s, spent_s=0.0, left_s=math.inf, planned_left_s=0.0
    )
    for index, item in enumerate(missing):
        now_s = time.perf_counter()
        if index and now_s + plan.launch_estimate_s(item) * show.pace() > deadline_s:
            return Outcome(tuple(failed), len(missing) - index)
        left_s = sum(plan.launch_estimate_s(other) for other in missing[index:]) * show.pace()
        budget = replace(budget, left_s=deadline_s - now_s, planned_left_s=left_s)
        try:
            budget = _run_launch(prepared, item, writer, show, budget)
        except EngineError as error:
            show.warn(error.message, error.details)
            show.skip(len(item.cells), plan.launch_estimate_s(item))
            failed.append(error.message)
            if prepared.docker is not None and not prepared.docker.answers():
                show.warn("Docker no longer answers: the study ends here")
                break
    ceiling = prepared.ceiling()
    end = schema_study.Finished(
        finished_at=datetime.now(UTC).isoformat(),
        ceiling=recorded_ceiling(ceiling),
    )
    writer.event("finished")
    writer.write_finished(end)
    return Outcome(tuple(failed))


def _run_launch(
    prepared: Prepared, item: Launch, writer: Writer, show: Display, budget: RerunBudget
) -> RerunBudget:
    """One engine: up, ready, its cells, down. Whatever happens, it is down afterwards.

    Returns:
        the budget, less what reruns of disturbed cells took.
    """
    engine, label = prepared.engines[item.variant.engine], item.variant.label
    facts = _planned(prepared, item)
    directory = writer.launch_directory(item.id)
    show.stage(f"{label}, trial {item.trial}: starting the engine")
    writer.event("up", launch=item.id)
    server: Server | None = None
    interrupts = DeferredInterrupts()
    try:
        device_free.wait(prepared.device, engine.name)
        with interrupts.defer():
            server = _start(prepared, item, facts.settings, directory)
        facts = _started(facts, server)
        facts = _ready(facts, prepared, item, server)
        for finding in in_effect.findings(facts):
            show.warn(f"{label}: {finding.text}; its cells are invalid")
        writer.event("ready", launch=item.id)
        show.start_done(item.variant.hint.start_s)
        budget = _run_cells(RunningLaunch(prepared, item, server, writer, show), budget)
        facts = structs.replace(facts, failure=None)
    except EngineError as error:
        facts = structs.replace(facts, failure=_failure(error))
        raise
    except (UserError, MemoryError):  # the record cannot be written: the study ends
        raise
    except Exception as error:  # a fault of ours ends this start, not the study
        fault = _fault(engine.name, error)
        facts = structs.replace(facts, failure=_failure(fault))
        raise fault from error
    finally:
        with interrupts.defer():
            if server is not None:
                facts = _stopped(facts, server, interrupts.is_urgent)
                if server.meters:
                    writer.write_lines(f"raw/{item.id}/container.jsonl", server.meters)
            writer.event("down", launch=item.id)
            writer.write_launch(item.id, facts)
        if facts.left_behind:
            show.warn(
                f"{engine.name}: Docker could not remove all of its container; "
                "make down does it by hand",
                facts.left_behind,
            )
    return budget


def _planned(prepared: Prepared, item: Launch) -> schema.Launch:
    """What is known of a launch before it is started."""
    engine = prepared.engines[item.variant.engine]
    of_study = prepared.study.settings.items()
    settings = {name: value for name, value in of_study if name in engine.variables}
    applied = prepared.applied[item.variant.label]
    settings |= {**item.variant.settings, **applied.settings}
    return schema.Launch(
        engine=engine.name,
        variant=item.variant.variant,
        trial=item.trial,
        settings=settings,
        dtype=engine.dtype_under(settings),
        command=[],
        env={},
        metrics={ours: list(names) for ours, names in engine.dialect.metrics.items()},
        kv_blocks_kept_back=engine.dialect.kv_blocks_kept_back,
        declared=list(applied.parts),
        model=_recorded(applied.model),
        draft=_recorded(applied.draft),
    )


def _recorded(model: Model | None) -> schema.Model | None:
    return None if model is None else as_recorded(schema.Model, model)


def _started(facts: schema.Launch, server: Server) -> schema.Launch:
    """The same with how the engine was started."""
    start = server.facts
    container = start.container
    return structs.replace(
        facts,
        command=start.command,
        env=start.env,
        inherited_env=start.inherited_env,
        python=start.python,
        container=None if container is None else as_recorded(schema.Container, container),
    )


def _ready(facts: schema.Launch, prepared: Prepared, item: Launch, server: Server) -> schema.Launch:
    """Wait until the engine generates; the same with what is known then."""
    first = prepared.work[item.cells[0].id].warmup[0]
    ready_s = wait_ready(server, first, prepared.study.ready_timeout_s)
    log = server.log_text()
    return structs.replace(
        facts,
        ready_s=ready_s,
        version=_version(server),
        start_up=as_recorded(schema.StartUp, start_up.read(server.engine.start_up, log)),
        kv_capacity_tokens=capacity_in_log(server.engine.dialect.capacity_in_log, log),
        resolved=resolved(server, prepared.applied[item.variant.label].parts),
    )


def _run_cells(launch: RunningLaunch, budget: RerunBudget) -> RerunBudget:
    """Run all cells of a started engine; returns the budget, less what reruns took."""
    if launch.item.agreement is not None:
        cell_run.run_agreement(launch, launch.item.agreement)
    for cell in launch.item.cells:
        budget = cell_run.run_until_quiet(launch, cell, budget)
    if launch.item.agreement is not None:  # last, so that no cell is measured after it
        scoring.run_scoring(launch, launch.item.agreement)
    return budget


def _stopped(facts: schema.Launch, server: Server, is_urgent: Callable[[], bool]) -> schema.Launch:
    """Stop the engine; the same with how it ended."""
    end = server.stop(is_urgent)
    ended = None if end.ended is None else as_recorded(schema.Ended, end.ended)
    return structs.replace(facts, ended=ended, left_behind=list(end.left_behind))


def _failure(error: EngineError) -> schema.Failure:
    return schema.Failure(message=error.message, log_tail=list(error.details))


def _fault(name: str, error: Exception) -> EngineError:
    """A fault of the harness itself, as the failure of one start."""
    lines = traceback.format_exception(error)
    return EngineError(
        f"{name}: enginebench itself failed ({type(error).__name__}: {str(error)[:200]}); please "
        "report it with the lines below",
        "".join(lines).splitlines()[-LOG_TAIL_LINES:],
    )


def _start(
    prepared: Prepared, item: Launch, settings: Mapping[str, Setting], directory: Path
) -> Server:
    """Start the engine in the way that the study was prepared for."""
    engine, label = prepared.engines[item.variant.engine], item.variant.label
    port = choose_port(prepared.study.port)
    placement = {
        "MODEL": str(prepared.applied[label].model_path),
        "CPUS": machine.cpu_list(machine.cpus()),
    }
    values = {**settings, **placement}
    if prepared.docker is None:
        command = process.resolve(engine, values, prepared.device, prepared.cache, port)
        server = process.start(engine, command, directory)
        home = environment.directory(engine, prepared.device, prepared.cache)
        return replace(server, facts=replace(server.facts, python=home.name))
    image = prepared.images[engine.name]
    launched = container.project(engine, values, prepared.device, image, port, item.id)
    return container.start(engine, launched, prepared.docker, directory)


def _version(server: Server) -> Any:
    """What the engine states about itself; None if it has no such page, or one of no use."""
    url = server.url + server.engine.dialect.version_path
    page = http_page.fetch(url, VERSION_TIMEOUT_S, VERSION_LIMIT_BYTES)
    if not page.is_good or page.body is None:
        return None
    try:
        # Not the standard library: it takes NaN and half a character, which no record can hold.
        version = orjson.loads(page.body)
        return version if _depth(version) <= VERSION_DEPTH else None
    except ValueError:
        return None


def _depth(value: Any) -> int:
    """Levels of nesting of plain data, which orjson limits."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, items), default=0)

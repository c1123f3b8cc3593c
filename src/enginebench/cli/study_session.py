"""Running a study from the command line: its file, its record, its report and the exit code."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import typer
from rich.console import Console

from enginebench.base.errors import UserError
from enginebench.check import findings
from enginebench.cli import exit_codes, terminal
from enginebench.cli.options import RunOptions, by_engine
from enginebench.cli.progress import reading
from enginebench.cli.study_choice import DEVICES, print_plan, study_file
from enginebench.engines.directory import Engine, load_engine
from enginebench.launch import docker_daemon, leftovers
from enginebench.plan.study_file import Study, Variant, load
from enginebench.record.files import Writer
from enginebench.record.locating import last
from enginebench.report import build
from enginebench.run import earlier_spread, noise_probe, profile, resume
from enginebench.run.display import Display, Emit, ignore_events, json_lines
from enginebench.run.left_out import part
from enginebench.run.prepare import Prepared, load_engines, prepare
from enginebench.run.resume import ResumeState
from enginebench.run.study_run import Outcome, run
from enginebench.summarize.study_summary import Summary, size

RESUME_COMMAND = "the same command with --resume (with make: RESUME=1)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One study to run, and where its text and its events go."""

    study: Study
    engines: Mapping[str, Engine]
    rerun: str  # the command that runs it again, for the report
    options: RunOptions
    deadline_s: float  # on the clock of ``time.perf_counter``
    console: Console
    log: terminal.Log
    emit: Emit


def run_study(name: str, options: RunOptions) -> None:
    deadline_s = _deadline_s(options)
    file = study_file(name, options, _log(options))
    study = load(file)
    engines = load_engines(study, options.root.resolve(), str(file))
    _run(_session(study, engines, f"make study STUDY={file}", options, deadline_s))


def run_engine(name: str, study_name: str, options: RunOptions) -> None:
    """Run one engine's part of a study."""
    deadline_s = _deadline_s(options)
    engine = load_engine(options.root.resolve(), name)  # a wrong name is refused before all else
    file = study_file(study_name, options, _log(options))
    study = load(file)
    load_engines(study, options.root.resolve(), str(file))  # all of them, as they share settings
    rerun = f"make bench-{name} STUDY={file}"
    _run(_session(subset_for(study, name), {name: engine}, rerun, options, deadline_s))


def subset_for(study: Study, engine: str) -> Study:
    """The part of a study that concerns one engine; its defaults if the study has no variant."""
    variants = [v for v in study.engines if v.engine == engine] or [Variant(engine=engine)]
    labels = [variant.label for variant in variants]
    changes = {
        "name": f"{study.name}-{engine}",
        "reference": study.reference if study.reference in labels else "",
        "decompositions": [d for d in study.decompositions if set(d.labels) <= set(labels)],
    }
    return part(study, variants).model_copy(update=changes)


def _deadline_s(options: RunOptions) -> float:
    return time.perf_counter() + 60 * options.limit_min


def _log(options: RunOptions) -> terminal.Log:
    """With events on standard output, people read standard error."""
    return terminal.log_to_stderr if options.wants_json else terminal.log


def _session(
    study: Study, engines: Mapping[str, Engine], rerun: str, options: RunOptions, deadline_s: float
) -> Session:
    return Session(
        study=study,
        engines=engines,
        rerun=rerun,
        options=options,
        deadline_s=deadline_s,
        console=terminal.new_console(stderr=options.wants_json),
        log=_log(options),
        emit=json_lines(sys.stdout) if options.wants_json else ignore_events,
    )


def _run(session: Session) -> None:
    """Prepare, run and report a study; raises ``typer.Exit`` unless the exit code is 0."""
    with _ends_reported(session, "no engine was started"):
        prepared = _prepare(session)
        print_plan(prepared.study, prepared.plan, _left_out(prepared), session.log)
        _print_noise(session, prepared)
        writer, state = _open_record(session, prepared)
    kept = (
        "the engine was stopped and the record is kept; report it with: "
        f"make report DIR={writer.directory}; resume it with: {RESUME_COMMAND}"
    )
    with _ends_reported(session, kept):
        outcome = _run_launches(session, prepared, writer, state)
        with reading(session.console, size(writer.directory)) as on_bytes:
            summary = build.build(writer.directory, on_bytes)
    _report_end(session, writer.directory, outcome, summary)
    _exit(session, len(prepared.plan.launches), outcome, summary)


@contextmanager
def _ends_reported(session: Session, kept: str) -> Iterator[None]:
    """Report an interrupt, or a mistake that ends the study, as an event and in words.

    Args:
        kept: what an interrupt leaves behind, and what to do next.
    """
    try:
        yield
    except KeyboardInterrupt:
        terminal.log_to_stderr(f"interrupted: {kept}")
        session.emit("interrupted", text=kept)
        raise typer.Exit(exit_codes.INTERRUPTED) from None
    except UserError as error:
        session.emit("error", text=error.message, details=list(error.details))
        raise


def _prepare(session: Session) -> Prepared:
    study, options = session.study, session.options
    images = by_engine("--image", "ENGINE=IMAGE", options.image, session.engines)
    leftovers.end(session.log)
    wanted = DEVICES[options.profile] or ("" if study.device == "auto" else study.device)
    chosen = profile.choose(wanted, options.runner)
    session.log(chosen.why)
    return prepare(
        study,
        session.engines,
        root=options.root.resolve(),
        cache=options.cache.resolve(),
        rerun=session.rerun,
        device=chosen.device,
        docker=docker_daemon.require() if chosen.runner == "container" else None,
        chosen_images=images,
        log=session.log,
    )


def _left_out(prepared: Prepared) -> dict[str, str]:
    return {left.label: left.reason for left in prepared.facts.left_out}


def _print_noise(session: Session, prepared: Prepared) -> None:
    """How steady this machine is, and how many trials a 10 % difference would need on it."""
    if prepared.noise is None:
        return
    before = earlier_spread.between_starts(session.options.results, prepared.facts.machine)
    study = prepared.study
    for line in noise_probe.noise_lines(prepared.noise, before, len(study.engines), study.trials):
        session.log(line)


def _open_record(session: Session, prepared: Prepared) -> tuple[Writer, ResumeState]:
    """The record to write, and what it has already."""
    results, name = session.options.results, prepared.study.name
    directory = last(results, name, terminal.skipped) if session.options.resumes else None
    if directory is None:
        return Writer.create(results, name), ResumeState()
    resume.require_same(directory, prepared.facts)
    writer = Writer(directory)
    state = resume.keep_complete(directory, prepared.plan)
    planned = len(prepared.plan.launches)
    session.log(f"resuming {directory}: {len(state.complete)} of {planned} engine starts complete")
    return writer, state


def _run_launches(
    session: Session, prepared: Prepared, writer: Writer, state: ResumeState
) -> Outcome:
    plan = prepared.plan
    session.emit("planned", directory=str(writer.directory), estimate_s=plan.estimate_s)
    if (writer.directory / "finished.json").exists():
        session.log("every engine start is complete: only the report is rebuilt")
        return Outcome(())
    with Display(session.console, plan.estimate_s, plan.cells, session.emit) as display:
        return run(prepared, writer, display, state, session.deadline_s)


def _report_end(session: Session, directory: Path, outcome: Outcome, summary: Summary) -> None:
    build.print_table(summary, session.console)
    page = directory / "derived" / "report.html"
    session.log(f"report: {page} (and report.md beside it)")
    by_verdict: dict[str, list[str]] = {name: [] for name in get_args(findings.Verdict)}
    for cell in summary.cells:
        by_verdict[cell.verdict].append(f"{cell.launch}/{cell.id}")
    session.emit(
        "finished",
        report=str(page),
        failed_starts=list(outcome.failed_starts),
        starts_left=outcome.left,
        **by_verdict,
    )


def _exit(session: Session, planned: int, outcome: Outcome, summary: Summary) -> None:
    """The exit code: time is up, then engines that did not start, then cells not valid.

    Raises:
        typer.Exit: unless it is 0.
        UserError: engines did not start.
    """
    failed = f"{len(outcome.failed_starts)} engine starts failed; the report has their logs"
    if outcome.left:
        session.log(
            f"time is up: {outcome.left} of {planned} engine starts remain"
            f"{f' ({failed})' if outcome.failed_starts else ''}; continue with: {RESUME_COMMAND}"
        )
        raise typer.Exit(exit_codes.TIME_IS_UP)
    if outcome.failed_starts:
        raise UserError(failed)
    if summary.invalid or (session.options.strict and summary.suspect):
        raise typer.Exit(exit_codes.INVALID)

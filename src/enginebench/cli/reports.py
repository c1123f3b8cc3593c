"""The verbs that read a record: they need no engine, no Docker and no GPU."""

import os
import sys
from pathlib import Path

import typer

from enginebench.cli import exit_codes, terminal
from enginebench.cli.options import RESULTS, RecordArgument, ResultsOption, StrictOption


def report(
    directory: RecordArgument = None,
    results: ResultsOption = RESULTS,
    strict: StrictOption = False,
) -> None:
    """Rebuild every derived file of a study from its raw files."""
    from enginebench.cli.progress import reading
    from enginebench.record.locating import latest
    from enginebench.report import build
    from enginebench.summarize.study_summary import size

    console = terminal.new_console()
    target = directory or latest(results, terminal.skipped)
    with reading(console, size(target)) as on_bytes:
        summary = build.build(target, on_bytes)
    build.print_table(summary, console)
    terminal.log(f"report: {target / 'derived' / 'report.html'} (and report.md beside it)")
    if strict and (summary.invalid or summary.suspect):
        raise typer.Exit(exit_codes.INVALID)


def wandb(directory: RecordArgument = None, results: ResultsOption = RESULTS) -> None:
    """Log a study to Weights & Biases.

    With WANDB_API_KEY, the runs and their Report are uploaded; without, the runs are written to
    the study's directory. WANDB_MODE, WANDB_PROJECT and WANDB_ENTITY count too.
    """
    from enginebench.cli.progress import reading
    from enginebench.record.locating import latest
    from enginebench.report import wandb_report, wandb_runs
    from enginebench.summarize.study_summary import size, summarize

    target = directory or latest(results, terminal.skipped)
    mode = wandb_runs.mode(os.environ)
    if mode == "disabled":
        terminal.log("W&B is disabled (WANDB_MODE=disabled): nothing was written")
        return
    wandb_runs.library()  # a missing package is reported before anything is read
    with reading(terminal.new_console(), size(target)) as on_bytes:
        summary = summarize(target, on_bytes)
    count = wandb_runs.log(summary, target, mode, terminal.log)
    if mode == "online":
        terminal.log(f"{count} runs were uploaded; report: {wandb_report.save(summary, target)}")
        return
    command = Path(sys.executable).parent / "wandb"  # nothing puts it on anyone's PATH
    terminal.log(
        f"{count} runs were written to {target / 'wandb'}, none was uploaded. Upload them with: "
        f"{_from_here(command)} sync {target / 'wandb'}/offline-run-* ; or upload them and their "
        f"Report with: WANDB_API_KEY=… make wandb DIR={target}"
    )


def _from_here(path: Path) -> Path:
    """The path as a person types it: relative where it lies below the working directory."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path

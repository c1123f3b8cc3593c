"""The verbs that run a study or plan one."""

from typing import Annotated

import typer

from enginebench.cli.options import (
    ROOT,
    RootOption,
    RunnerOption,
    RunOptions,
    StudyArgument,
    with_run_options,
)


@with_run_options
def study(name: StudyArgument = "", *, options: RunOptions) -> None:
    """Run a whole study, from prompts to report."""
    from enginebench.cli import study_session

    study_session.run_study(name, options)


@with_run_options
def bench(
    engine: Annotated[str, typer.Argument(help="Name of an engine directory")],
    name: Annotated[str, typer.Option("--study", help="Run the engine's part of this study")] = "",
    *,
    options: RunOptions,
) -> None:
    """Run one engine: its variants in a study, or its defaults."""
    from enginebench.cli import study_session

    study_session.run_engine(engine, name, options)


def plan(name: StudyArgument = "", root: RootOption = ROOT, runner: RunnerOption = "") -> None:
    """Print what a study would run, and for how long."""
    from enginebench.cli.study_choice import print_plan, study_file
    from enginebench.cli.terminal import log
    from enginebench.plan import plan
    from enginebench.plan import study_file as studies
    from enginebench.run import prepare

    file = study_file(name, RunOptions(root=root, runner=runner), log)
    study, left_out = prepare.planned(studies.load(file), root.resolve(), str(file), runner)
    print_plan(study, plan.make(study), left_out, log)

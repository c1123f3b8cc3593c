"""The options that verbs share, each spelled once.

Nothing heavy may be imported here: ``enginebench --help`` imports this module.
"""

import functools
import inspect
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from enginebench.base.errors import UserError

StudyArgument = Annotated[
    str,
    typer.Argument(help="A study: a file, or the name of one in studies/ (default: by profile)"),
]
RecordArgument = Annotated[
    Path | None, typer.Argument(help="A study's directory in results/ (default: the latest)")
]
ResultsOption = Annotated[Path, typer.Option("--results", help="Where results are kept")]
CacheOption = Annotated[
    Path, typer.Option("--cache", help="Where environments and generated models are kept")
]
RootOption = Annotated[Path, typer.Option("--root", help="Directory that holds the engines")]
RunnerOption = Annotated[
    Literal["", "container", "process"],
    typer.Option("--runner", envvar="ENGINEBENCH_RUNNER", help="Default: containers if possible"),
]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="Exit with code 1 for suspect cells too")
]

RESULTS = Path("results")
CACHE = Path(".cache")
ROOT = Path()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a study is run; an empty value means "as the machine allows"."""

    results: ResultsOption = RESULTS
    cache: CacheOption = CACHE
    root: RootOption = ROOT
    runner: RunnerOption = ""
    profile: Annotated[
        Literal["", "gpu", "cpu"],
        typer.Option("--profile", help="Default: by what the machine has"),
    ] = ""
    image: Annotated[
        list[str] | None,
        typer.Option("--image", help="ENGINE=IMAGE: run this image; may be repeated"),
    ] = None
    strict: StrictOption = False
    wants_json: Annotated[
        bool,
        typer.Option("--json", help="Write events to stdout as JSON lines, and text to stderr"),
    ] = False
    resumes: Annotated[
        bool,
        typer.Option("--resume", help="Resume the study's last record: run what it lacks"),
    ] = False
    limit_min: Annotated[
        float,
        typer.Option(
            "--limit",
            min=0,
            show_default=False,
            help="Minutes: start no engine that would end later (default: no limit)",
        ),
    ] = math.inf


def with_run_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb one command line option for each field of ``RunOptions``.

    Args:
        verb: has a parameter ``options: RunOptions``; Typer sees the fields in its place.
    """
    fields = inspect.signature(RunOptions).parameters
    parameters = dict(inspect.signature(verb).parameters)
    del parameters["options"]

    @functools.wraps(verb)
    def command(**values: Any) -> None:
        options = RunOptions(**{name: values.pop(name) for name in fields})
        verb(**values, options=options)

    signature = inspect.Signature(
        [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in (*parameters.values(), *fields.values())
        ]
    )
    hints = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    vars(command).update(__signature__=signature)
    command.__annotations__ = hints
    return command


def by_engine(
    option: str, form: str, given: Sequence[str] | None, engines: Collection[str]
) -> dict[str, str]:
    """The values of an option of a form such as ``ENGINE=IMAGE``, by engine.

    Raises:
        UserError: a text has another form, or names an engine that the study does not run.
    """
    values = {}
    for text in given or ():
        engine, _, value = text.partition("=")
        if engine not in engines or not value:
            raise UserError(
                f"{option}: expected {form} with an engine of the study "
                f"({', '.join(engines)}), found {text!r}"
            )
        values[engine] = value
    return values

"""The command line: the same verbs as the Makefile."""

import math
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal, get_args

import typer
from rich.console import Console
from rich.markup import escape

from enginebench import __version__
from enginebench.base.errors import UserError
from enginebench.base.text import clock
from enginebench.check import findings
from enginebench.cli.progress import reading
from enginebench.engines import directory as launch
from enginebench.hardware import capacity, machine, published_results, roofline
from enginebench.kit import pack
from enginebench.launch import docker_daemon, environment, leftovers
from enginebench.plan import plan, study_file
from enginebench.plan.study_file import Study
from enginebench.record.files import Writer, last, latest
from enginebench.report import build, wandb_report, wandb_runs
from enginebench.run import doctor, profile, resume
from enginebench.run.display import Display, Tell, json_lines, silent
from enginebench.run.prepare import Prepared, load_engines, prepare
from enginebench.run.study_run import Outcome, run
from enginebench.summarize.study_summary import Summary, size, summarize

EXIT_INVALID_CELLS = 1
EXIT_USER_ERROR = 2
EXIT_TIME_IS_UP = 3
EXIT_INTERRUPTED = 130

app = typer.Typer(
    help="A comparison study of LLM inference engines that can be trusted and rerun.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
errors = Console(stderr=True, highlight=False)

StudyArgument = Annotated[
    str,
    typer.Argument(help="A study: a file, or the name of one in studies/ (default: by profile)"),
]
ResultsOption = Annotated[Path, typer.Option("--results", help="Where results are kept")]
CacheOption = Annotated[Path, typer.Option("--cache", help="Environments and models made here")]
RootOption = Annotated[Path, typer.Option("--root", help="Directory that holds the engines")]

StrictOption = Annotated[
    bool, typer.Option("--strict", help="A suspect cell also makes the exit code 1")
]

RunnerOption = Annotated[
    Literal["", "container", "process"],
    typer.Option("--runner", envvar="ENGINEBENCH_RUNNER", help="Default: containers if possible"),
]
ProfileOption = Annotated[
    Literal["", "gpu", "cpu"], typer.Option("--profile", help="Default: by what the machine has")
]
ImageOption = Annotated[
    list[str] | None,
    typer.Option("--image", help="ENGINE=IMAGE: take this image; may be given again"),
]
JsonOption = Annotated[
    bool,
    typer.Option("--json", help="Events as JSON lines on stdout; words for people go to stderr"),
]
ResumeOption = Annotated[
    bool,
    typer.Option("--resume", help="Go on with the study's last record: run what it lacks"),
]
LimitOption = Annotated[
    float,
    typer.Option("--limit", min=0, help="Minutes: start no engine that will not end in time"),
]

RESULTS = Path("results")
CACHE = Path(".cache")
KIT = Path("kit")
AGAIN = "the same command with --resume (RESUME=1 of make)"
_DEVICES = {"": "", "gpu": "cuda", "cpu": "cpu"}


@dataclass(frozen=True, slots=True)
class Way:
    """How the person wants a study run; empty is "as the machine allows"."""

    runner: str = ""
    profile: str = ""
    images: tuple[str, ...] = ()
    strict: bool = False
    tell: Tell = silent
    resumes: bool = False
    until_s: float = math.inf


def _way(
    runner: str,
    profile: str,
    image: list[str] | None,
    strict: bool,
    wants_json: bool,
    resumes: bool,
    limit_min: float,
) -> Way:
    """The options that all ways to run a study have; with JSON on stdout, people read stderr."""
    console.stderr = wants_json
    tell = json_lines(sys.stdout) if wants_json else silent
    until_s = time.perf_counter() + 60 * limit_min
    return Way(runner, profile, tuple(image or ()), strict, tell, resumes, until_s)


@app.command("study")
def study_command(
    name: StudyArgument = "",
    results: ResultsOption = RESULTS,
    cache: CacheOption = CACHE,
    root: RootOption = Path(),
    runner: RunnerOption = "",
    profile: ProfileOption = "",
    image: ImageOption = None,
    strict: StrictOption = False,
    wants_json: JsonOption = False,
    resumes: ResumeOption = False,
    limit: LimitOption = math.inf,
) -> None:
    """Run a whole study, from prompts to report."""
    way = _way(runner, profile, image, strict, wants_json, resumes, limit)
    file = _study_file(root, name, way)
    chosen = study_file.load(file)
    engines = load_engines(chosen, root.resolve(), str(file))
    _run_study(chosen, engines, f"make study STUDY={file}", root, results, cache, way)


@app.command()
def bench(
    engine: Annotated[str, typer.Argument(help="Name of an engine directory")],
    name: Annotated[str, typer.Option("--study", help="Take the engine's part of this study")] = "",
    results: ResultsOption = RESULTS,
    cache: CacheOption = CACHE,
    root: RootOption = Path(),
    runner: RunnerOption = "",
    profile: ProfileOption = "",
    image: ImageOption = None,
    strict: StrictOption = False,
    wants_json: JsonOption = False,
    resumes: ResumeOption = False,
    limit: LimitOption = math.inf,
) -> None:
    """Run one engine: its variants in a study, or its defaults where the study has none."""
    way = _way(runner, profile, image, strict, wants_json, resumes, limit)
    bench_engine(engine, name, results, cache, root, way)


def bench_engine(engine: str, name: str, results: Path, cache: Path, root: Path, way: Way) -> None:
    launch.load_engine(root, engine)  # a wrong name is answered before anything else
    file = _study_file(root, name, way)
    whole = study_file.load(file)
    engines = load_engines(whole, root.resolve(), str(file))  # all, as they share settings
    engines.setdefault(engine, launch.load_engine(root.resolve(), engine))
    part = {engine: engines[engine]}
    again = f"make bench-{engine} STUDY={file}"
    _run_study(only(whole, engine), part, again, root, results, cache, way)


def only(whole: Study, engine: str) -> Study:
    """The part of a study that concerns one engine."""
    variants = [v for v in whole.engines if v.engine == engine] or [
        study_file.Variant(engine=engine)
    ]
    kept = whole.reference if whole.reference in [v.label for v in variants] else ""
    run = {name for variant in variants for name in variant.workloads}
    is_all = any(not variant.workloads for variant in variants)
    part = {
        "name": f"{whole.name}-{engine}",
        "engines": variants,
        "reference": kept,
        "workloads": [w for w in whole.workloads if is_all or w.name in run],
    }
    return whole.model_copy(update=part)


@app.command("plan")
def plan_command(name: StudyArgument = "", root: RootOption = Path()) -> None:
    """Print what a study would run, and for how long, without starting anything."""
    chosen = study_file.load(_study_file(root, name, Way()))
    _print_plan(chosen, plan.make(chosen))


@app.command("report")
def report_command(
    directory: Annotated[
        Path | None, typer.Argument(help="A study's results (default: the latest)")
    ] = None,
    results: ResultsOption = RESULTS,
    strict: StrictOption = False,
) -> None:
    """Rebuild every derived file of a study from its raw files; needs no engine."""
    target = directory or latest(results)
    with reading(console, size(target)) as told:
        summary = build.build(target, told)
    build.print_table(summary, console)
    console.print(f"report: {target / 'derived' / 'report.html'} (and report.md beside it)")
    if strict:
        _exit_by_verdict(summary, strict)


@app.command("wandb")
def wandb_command(
    directory: Annotated[
        Path | None, typer.Argument(help="A study's results (default: the latest)")
    ] = None,
    results: ResultsOption = RESULTS,
) -> None:
    """Log a study to Weights & Biases: offline without a key, and with one uploaded, with a Report.

    The environment says how: WANDB_API_KEY, WANDB_MODE, WANDB_PROJECT, WANDB_ENTITY.
    """
    target = directory or latest(results)
    how = wandb_runs.mode(os.environ)
    if how == "disabled":
        console.print("W&B is disabled (WANDB_MODE=disabled): nothing was written")
        return
    wandb_runs.library()  # if it is not there, that is said before anything is read
    with reading(console, size(target)) as told:
        summary = summarize(target, told)
    count = wandb_runs.log(summary, target, how, lambda text: console.print(text, markup=False))
    if how == "offline":
        console.print(
            f"{count} runs were written to {target / 'wandb'}, none was uploaded. To upload them: "
            f"wandb sync {target / 'wandb'}/offline-run-* ; or, with their Report: "
            f"WANDB_API_KEY=… make wandb DIR={target}",
            markup=False,
            soft_wrap=True,
        )
        return
    url = wandb_report.save(summary, target)
    console.print(f"{count} runs were uploaded; report: {url}", markup=False, soft_wrap=True)


@app.command("check")
def check_command(
    file: Annotated[Path, typer.Argument(help="CSV: model, gpu, batch, in, out, latency or ...")],
    precision: Annotated[str, typer.Option(help="Where a row states none")] = "float16",
    counts: Annotated[
        Literal["output", "total"], typer.Option(help="What a throughput counts, without latency")
    ] = "output",
) -> None:
    """Say which rows of a published table the hardware makes impossible, and by how much."""
    if roofline.dtype_name(precision) is None:
        known = ", ".join(roofline.DTYPE_BYTES)
        raise UserError(f"--precision: expected one of {known}, found {precision!r}")
    checked = published_results.check_file(file, precision, counts)
    for row in checked:
        if row.verdict == "impossible":
            name = f"{row.row['model']}, batch {row.row['batch']}"
            console.print(
                f"line {row.line}: impossible: {name}: {row.reason}", markup=False, soft_wrap=True
            )
    tally = {
        name: [r for r in checked if r.verdict == name]
        for name in get_args(published_results.Verdict)
    }
    console.print(", ".join(f"{len(rows)} {name}" for name, rows in tally.items()), markup=False)
    reasons = Counter(row.reason for row in tally["not checked"])
    for reason, count in reasons.most_common(10):
        console.print(f"  not checked: {count} rows: {reason}", markup=False, soft_wrap=True)
    if tally["impossible"]:
        raise typer.Exit(EXIT_INVALID_CELLS)


@app.command("kv")
def kv_command(
    model: Annotated[str, typer.Argument(help="config.json or its directory, a name, a hub id")],
    gpu: Annotated[str, typer.Option(help="Its memory is taken from the data sheet")] = "",
    dtype: Annotated[str, typer.Option(help="Of the weights")] = "float16",
    kv_dtype: Annotated[str, typer.Option(help="Of keys and values (default: as weights)")] = "",
    context: Annotated[int, typer.Option(min=1, help="Tokens a request, in and out")] = 4096,
    memory_gib: Annotated[float, typer.Option(min=0, help="Instead of --gpu")] = 0.0,
    share: Annotated[float, typer.Option(min=0.01, max=1, help="Of it that an engine takes")] = 0.9,
    gpus: Annotated[int, typer.Option(min=1, help="Sharing one model")] = 1,
) -> None:
    """Say what a token of KV cache takes, and how many tokens and requests fit on a GPU."""
    names = [roofline.dtype_name(name) for name in (dtype, kv_dtype or dtype)]
    if names[0] is None or names[1] is None:
        known = ", ".join(roofline.DTYPE_BYTES)
        raise UserError(f"--dtype: expected one of {known}, found {dtype!r} {kv_dtype!r}")
    name, config = capacity.load_config(model)
    shape = capacity.known_shape(name, config)
    if memory_gib:
        memory_bytes, source = memory_gib * 2**30, "as stated"
    elif gpu:
        memory_bytes, source = capacity.device_memory(gpu)
    else:
        raise UserError("expected --gpu or --memory-gib, found neither; for example: --gpu l4")
    try:
        fit = capacity.fit(shape, names[0], names[1], memory_bytes * share * gpus, context)
    except roofline.UnknownShape as error:
        raise UserError(f"{name}: {error}; ask for a shorter --context") from None
    for line in capacity.lines(name, shape, fit, names[1], context, source):
        console.print(line, markup=False, soft_wrap=True)
    if not fit.requests:
        raise typer.Exit(EXIT_INVALID_CELLS)


@app.command("kit")
def kit_command(
    name: Annotated[str, typer.Argument(help="A study: a file, or the name of one in studies/")],
    out: Annotated[Path, typer.Option(help="Where the kit goes; empty or not there yet")] = KIT,
    device: Annotated[
        Literal["", "cpu", "cuda"], typer.Option(help="Of that machine (default: the study's)")
    ] = "",
    python: Annotated[str, typer.Option(help="Of that machine, as in 3.12 (default: ours)")] = "",
    part_mib: Annotated[int, typer.Option(min=1, help="Size of a part at most")] = 512,
    packages: Annotated[
        list[str] | None,
        typer.Option(
            help="ENGINE=FILE: pack these packages and none else; the rest is on the machine"
        ),
    ] = None,
    root: RootOption = Path(),
) -> None:
    """Pack all that a machine without a network needs to run one study with a single command."""
    file = _study_file(root, name, Way())
    chosen = study_file.load(file)
    found = load_engines(chosen, root.resolve(), str(file))
    lists = {
        engine: Path(path)
        for engine, path in _by_engine("--packages", "ENGINE=FILE", packages, found).items()
    }
    version = python or pack.OUR_PYTHON
    if not re.fullmatch(r"3\.\d+", version):
        raise UserError(f"--python: expected a version such as 3.12, found {python!r}")
    wanted = device or chosen.device
    if wanted not in ("cpu", "cuda") or chosen.device not in ("auto", wanted):
        raise UserError(
            f"--device: expected cpu or cuda, as {file} has it (device: {chosen.device}), "
            f"found {device or 'neither'}"
        )
    target = pack.Target(wanted, version)
    made = pack.pack(chosen, file, found, root.resolve(), out, target, part_mib << 20, lists, _say)
    size = sum(part["bytes"] for part in made["parts"])
    _say(f"kit: {out}, {len(made['parts'])} parts, {size / 2**20:.0f} MiB")
    _say(f"copy that directory to the machine, then there: python{version} {out.name}/run.py")


@app.command()
def setup(
    names: Annotated[list[str] | None, typer.Argument(help="Engines (default: all)")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda (default: what is there)")] = "",
    cache: CacheOption = CACHE,
    root: RootOption = Path(),
) -> None:
    """Install the engines' own Python environments; what is there already is kept."""
    device = device or machine.device()
    for name in names or launch.find_engines(root):
        engine = launch.load_engine(root.resolve(), name)
        if engine.native is None:
            console.print(f"{name}: runs only in a container; nothing to install")
        else:
            environment.build(engine, device, cache.resolve(), console.print)


@app.command()
def engines(root: RootOption = Path()) -> None:
    """List the engines found, and the settings each understands."""
    for name in launch.find_engines(root):
        engine = launch.load_engine(root, name)
        known = sorted(engine.settings)
        console.print(f"[bold]{name}[/]  settings: {', '.join(known) or 'none'}")


@app.command("doctor")
def doctor_command(root: RootOption = Path(), cache: CacheOption = CACHE) -> None:
    """Say what this machine has of what a study needs, and what to do about each lack."""
    machine_way = profile.choose()
    file = _default_study(root, machine_way)
    for finding in doctor.examine(study_file.load(file).model, cache.resolve()):
        mark = "[green]ok  [/]" if finding.is_good else "[yellow]lack[/]"
        console.print(f"{mark}  {finding.what}: {escape(finding.found)}", soft_wrap=True)
        if finding.advice:
            console.print(f"        {escape(finding.advice)}", soft_wrap=True)
    console.print(f"so `make study` runs {file}: {escape(machine_way.why)}", soft_wrap=True)


@app.command("down")
def down_command() -> None:
    """Remove every container and network of ours, those started by hand too; end stray engines."""
    leftovers.end(_say)
    removed = leftovers.remove_containers(lambda name: True)
    console.print(f"removed: {', '.join(removed) or 'nothing'}", markup=False, soft_wrap=True)


def _study_file(root: Path, name: str, way: Way) -> Path:
    """A study by its path or name; with no name, the one for this machine, saying why."""
    if not name:
        chosen = profile.choose(_DEVICES[way.profile], way.runner)
        file = _default_study(root, chosen)
        console.print(f"profile {file.stem}: study {file}", soft_wrap=True)
        return file
    path = Path(name)
    return path if path.suffix in (".yaml", ".yml") else root / "studies" / f"{name}.yaml"


def _default_study(root: Path, chosen: profile.Profile) -> Path:
    file = root / "studies" / f"{chosen.study}.yaml"
    return file if file.exists() else root / "studies" / "cpu.yaml"


def _print_plan(chosen: Study, made: plan.Plan) -> None:
    console.print(
        f"{chosen.name}: {len(made.launches)} engine starts, {made.cells} cells, "
        f"{made.requests} requests; about {clock(made.estimate_s)}"
    )
    for item in made.launches:
        levels = ", ".join(cell.id for cell in item.cells)
        seconds = clock(plan.launch_estimate_s(item))
        console.print(f"  trial {item.trial}  {item.variant.label:24} {levels}  (about {seconds})")


def _run_study(
    chosen: Study,
    engines: dict[str, launch.Engine],
    rerun: str,
    root: Path,
    results: Path,
    cache: Path,
    way: Way,
) -> None:
    kept = "nothing was started yet"
    try:
        images = _by_engine("--image", "ENGINE=IMAGE", way.images, engines)
        leftovers.end(_say)
        wanted = _DEVICES[way.profile] or ("" if chosen.device == "auto" else chosen.device)
        found = profile.choose(wanted, way.runner)
        _say(found.why)
        docker = docker_daemon.require() if found.runner == "container" else None
        prepared = prepare(
            chosen,
            engines,
            root.resolve(),
            cache.resolve(),
            rerun,
            _say,
            found.device,
            docker,
            images,
        )
        _print_plan(chosen, prepared.plan)
        writer, found_there = _open_record(results, prepared, way)
        kept = (
            "the engine was stopped; what was recorded is kept: "
            f"make report DIR={writer.directory}, or go on: {AGAIN}"
        )
        made = prepared.plan
        way.tell("planned", directory=str(writer.directory), estimate_s=made.estimate_s)
        with Display(console, made.estimate_s, made.cells, way.tell) as show:
            if (writer.directory / "finished.json").exists():
                _say("every engine start is there already: only the report is made anew")
                outcome = Outcome(())
            else:
                outcome = run(prepared, writer, show, found_there, way.until_s)
        with reading(console, size(writer.directory)) as told:
            summary = build.build(writer.directory, told)
    except KeyboardInterrupt:
        errors.print(f"interrupted: {kept}", soft_wrap=True)
        way.tell("interrupted", text=kept)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except UserError as error:
        way.tell("error", text=error.message, details=list(error.details))
        raise
    build.print_table(summary, console)
    page = writer.directory / "derived" / "report.html"
    console.print(f"report: {page} (report.md beside it)")
    by_verdict: dict[str, list[str]] = {name: [] for name in get_args(findings.Verdict)}
    for cell in summary.cells:
        by_verdict[cell.verdict].append(f"{cell.launch}/{cell.id}")
    way.tell(
        "finished",
        report=str(page),
        failed_starts=list(outcome.failed_starts),
        starts_left=outcome.left,
        **by_verdict,
    )
    failed = f"{len(outcome.failed_starts)} engine starts failed; the report has the logs"
    if outcome.left:
        console.print(
            f"time is up: {outcome.left} of {len(made.launches)} engine starts are left"
            f"{f' ({failed})' if outcome.failed_starts else ''}; go on: {AGAIN}",
            soft_wrap=True,
        )
        raise typer.Exit(EXIT_TIME_IS_UP)
    if outcome.failed_starts:
        raise UserError(failed)
    _exit_by_verdict(summary, way.strict)


def _open_record(results: Path, prepared: Prepared, way: Way) -> tuple[Writer, resume.There]:
    """Where to write, and the engine starts that are there already."""
    name = prepared.study.name
    directory = last(results, name) if way.resumes else None
    if directory is None:
        return Writer.create(results, name), resume.There()
    resume.require_same(directory, prepared.facts)
    writer = Writer(directory)
    there = resume.keep_whole(directory, prepared.plan)
    _say(f"going on with {directory}: {len(there.whole)} engine starts are there")
    return writer, there


def _by_engine(
    option: str, form: str, given: Sequence[str] | None, engines: Mapping[str, Any]
) -> dict[str, str]:
    """Texts of a form such as ``ENGINE=IMAGE``, by engine."""
    made = {}
    for text in given or ():
        engine, _, value = text.partition("=")
        if engine not in engines or not value:
            raise UserError(
                f"{option}: expected {form} with an engine of the study "
                f"({', '.join(engines)}), found {text!r}"
            )
        made[engine] = value
    return made


def _say(text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)


def _exit_by_verdict(summary: Summary, strict: bool) -> None:
    if summary.invalid or (strict and summary.suspect):
        raise typer.Exit(EXIT_INVALID_CELLS)


def bench_script(file: Path, kind: str = "") -> None:
    """All that an engine's ``metrics.py`` does: ``enginebench bench`` for its own directory.

    Args:
        kind: which kind of study is taken where none is named; the machine decides the rest.
    """
    directory = file.resolve().parent

    def command(
        name: Annotated[str, typer.Option("--study", help="Take its part of this study")] = "",
        results: ResultsOption = RESULTS,
        cache: CacheOption = CACHE,
        runner: RunnerOption = "",
        profile: ProfileOption = "",
        image: ImageOption = None,
        strict: StrictOption = False,
        wants_json: JsonOption = False,
        resumes: ResumeOption = False,
        limit: LimitOption = math.inf,
    ) -> None:
        # There is none for GPUs yet: what it shows of counts and curves is the same.
        chosen = name or (kind and f"{kind}-cpu")
        way = _way(runner, profile, image, strict, wants_json, resumes, limit)
        bench_engine(directory.name, chosen, results, cache, directory.parent, way)

    run_cli(lambda: typer.run(command))


def kv_script(file: Path) -> None:
    """All that an engine's ``kv_cache.py`` does: its part of the study of where memory goes."""
    bench_script(file, "kv")


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGINT)  # the same orderly way out as Ctrl-C, event loops included


def run_cli(command: object) -> None:
    """Call a command; a user's mistake becomes one line and exit code 2."""
    # A shell starts background jobs with SIGINT ignored; here it must always mean "stop orderly".
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        assert callable(command)
        command()
    except UserError as error:
        errors.print(f"enginebench: {error.message}", markup=False, soft_wrap=True)
        for line in error.details:
            errors.print(f"    {line}", markup=False, soft_wrap=True)
        sys.exit(EXIT_USER_ERROR)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def main() -> None:
    run_cli(app)


@app.command()
def version() -> None:
    """Print the version."""
    console.print(__version__)

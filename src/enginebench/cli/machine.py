"""The verbs about this machine: what it has, what is installed on it, what runs on it."""

from typing import Annotated

import typer

from enginebench.cli.options import CACHE, ROOT, CacheOption, RootOption
from enginebench.cli.terminal import log


def setup(
    names: Annotated[list[str] | None, typer.Argument(help="Engines (default: all)")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda (default: this machine's)")] = "",
    cache: CacheOption = CACHE,
    root: RootOption = ROOT,
) -> None:
    """Install the engines' own Python environments."""
    from enginebench.engines import directory
    from enginebench.hardware import machine
    from enginebench.launch import environment

    device = device or machine.device()
    for name in names or directory.find_engines(root):
        engine = directory.load_engine(root.resolve(), name)
        if engine.native is None:
            log(f"{name}: runs only in a container; nothing to install")
        else:
            environment.build(engine, device, cache.resolve(), log)


def engines(root: RootOption = ROOT) -> None:
    """List the engines, their settings and their variants."""
    from enginebench.engines import directory

    for name in directory.find_engines(root):
        engine = directory.load_engine(root, name)
        log(f"{name}  settings: {', '.join(sorted(engine.settings)) or 'none'}")
        for variant, declared in engine.declared.items():
            log(f"  {name}@{variant}  {declared.optimization}: {declared.turns}")


def doctor(root: RootOption = ROOT, cache: CacheOption = CACHE) -> None:
    """Say what this machine lacks for a study.

    Each lack comes with what to do about it.
    """
    from rich.markup import escape

    from enginebench.cli import study_choice, terminal
    from enginebench.plan import study_file
    from enginebench.run import profile
    from enginebench.run.doctor import examine

    console = terminal.new_console()
    chosen = profile.choose()
    file = study_choice.default_file(root, chosen)
    for finding in examine(study_file.load(file).model, cache.resolve()):
        mark = "[green]ok  [/]" if finding.is_good else "[yellow]lack[/]"
        console.print(f"{mark}  {finding.what}: {escape(finding.state)}", soft_wrap=True)
        if finding.advice:
            log(f"        {finding.advice}")
    log(f"so `make study` runs {file}: {chosen.why}")


def down() -> None:
    """Remove containers and end engines that studies left.

    Containers and networks that were started by hand with compose are removed too.
    """
    from enginebench.launch import leftovers

    leftovers.end(log)
    in_use: list[str] = []

    def is_wanted(name: str) -> bool:
        if leftovers.may_be_in_use(name):
            in_use.append(name)
        return not leftovers.may_be_in_use(name)

    removed = leftovers.remove_containers(is_wanted)
    log(f"removed: {', '.join(removed) or 'nothing'}")
    if in_use:
        log(
            f"left alone, as a study may still use them: {', '.join(in_use)}; if none does "
            "(after a reboot, say): docker rm -f NAME"
        )

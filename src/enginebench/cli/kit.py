"""The verb that packs a kit for a machine without a network."""

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from enginebench.base.errors import UserError
from enginebench.cli.options import ROOT, RootOption, RunOptions, by_engine
from enginebench.cli.terminal import log

KIT = Path("kit")


def kit(
    name: Annotated[str, typer.Argument(help="A study: a file, or the name of one in studies/")],
    out: Annotated[Path, typer.Option(help="Directory of the kit; empty or not there yet")] = KIT,
    device: Annotated[
        Literal["", "cpu", "cuda"], typer.Option(help="Of that machine (default: the study's)")
    ] = "",
    python: Annotated[str, typer.Option(help="Of that machine, as in 3.12 (default: ours)")] = "",
    part_mib: Annotated[int, typer.Option(min=1, help="Size of a part at most")] = 512,
    packages: Annotated[
        list[str] | None,
        typer.Option(
            help="ENGINE=FILE: pack these packages and no others; that machine has the rest"
        ),
    ] = None,
    root: RootOption = ROOT,
) -> None:
    """Pack a study for a machine without a network.

    The kit holds all that the study needs, and runs with a single command.
    """
    from enginebench.cli import study_choice
    from enginebench.kit import pack
    from enginebench.kit.packages import OUR_PYTHON, Target
    from enginebench.plan import study_file
    from enginebench.run.prepare import load_engines

    file = study_choice.study_file(name, RunOptions(root=root), log)
    study = study_file.load(file)
    engines = load_engines(study, root.resolve(), str(file))
    lists = by_engine("--packages", "ENGINE=FILE", packages, engines)
    version = python or OUR_PYTHON
    if not re.fullmatch(r"3\.\d+", version):
        raise UserError(f"--python: expected a version such as 3.12, found {python!r}")
    wanted = device or study.device
    if wanted not in ("cpu", "cuda") or study.device not in ("auto", wanted):
        raise UserError(
            f"--device: expected cpu or cuda, as {file} has it (device: {study.device}), "
            f"found {device or 'neither'}"
        )
    manifest = pack.pack(
        study,
        file,
        engines,
        root=root.resolve(),
        out=out,
        target=Target(wanted, version),
        part_bytes=part_mib << 20,
        package_lists={engine: Path(path) for engine, path in lists.items()},
        log=log,
    )
    size_mib = sum(part.bytes for part in manifest.parts) / 2**20
    log(f"kit: {out}, {len(manifest.parts)} parts, {size_mib:.0f} MiB")
    log(f"copy that directory to the machine, then run there: python{version} {out.name}/run.py")

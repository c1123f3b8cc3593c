"""Packing a kit: all that a machine without a network needs to run one study, in parts.

The kit is one tar file, cut into parts, beside a manifest with their checksums and ``run.py``
(``host.py``), which joins, verifies, installs and runs it there. In it are the study, its engines'
directories, prompts, a model that cannot be generated there, and every package as a wheel.
"""

import json
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

import yaml

from enginebench.base import yaml_file
from enginebench.base.errors import UserError
from enginebench.engines.directory import Engine
from enginebench.hardware import machine
from enginebench.hardware.machine import GitState
from enginebench.kit import packages
from enginebench.kit.packages import Target
from enginebench.kit.parts import Part, write_parts
from enginebench.launch import environment, process
from enginebench.plan import models
from enginebench.plan.study_file import Study

FORMAT = 1
HARNESS = "enginebench"  # what the list of its own packages is called
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "constraints.txt", "src")  # of its wheel
WORK = ".packing-"  # begins the name of a directory that exists while a kit is packed

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Packing:
    """What all steps of packing share."""

    root: Path  # the project that is packed
    tree: Path  # what becomes the kit's contents
    target: Target
    log: Log

    @property
    def wheels(self) -> Path:
        return self.tree / "wheels"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The contents of ``kit.json``."""

    format: int
    study: str
    file: str  # of the study, in the kit
    device: str
    python: str
    machine: str  # processor architecture
    git: GitState
    parts: list[Part]


def pack(
    study: Study,
    file: Path,
    engines: Mapping[str, Engine],
    *,
    root: Path,
    out: Path,
    target: Target,
    part_bytes: int,
    package_lists: Mapping[str, Path],
    log: Log,
) -> Manifest:
    """Write the kit into ``out`` and return its manifest.

    Args:
        file: the study's file.
        root: the directory that holds the engines and this package's sources.
        out: a directory that does not exist yet, or is empty. Its disk needs the kit's size twice.
        part_bytes: the size of a part at most.
        package_lists: by engine, a file of packages to pack instead of its recipe; its environment
            there sees the packages that the machine's Python has.
        log: gets a line before each step that takes long.

    Raises:
        UserError: something cannot be packed; nothing is then in ``out``.
    """
    lists = {name: packages.read_list(path) for name, path in package_lists.items()}
    # One without a process is left out there, with the reason, if the study allows that.
    packed = {n: one for n, one in engines.items() if one.native or not study.skip_unmet}
    for engine in packed.values():
        process.recipe(engine)
        if engine.name not in lists:
            environment.recipe(engine, target.device)
    git = machine.git_state(root)
    model_path = _find_model(study.model, log)
    with _beside(out) as work:
        kit = work / "kit"
        packing = _Packing(root=root, tree=work / "tree", target=target, log=log)
        kit.mkdir()
        packing.wheels.mkdir(parents=True)
        _copy_study(packing, study, file, model_path)
        (packing.tree / machine.PACKED_FROM).write_text(json.dumps(asdict(git)) + "\n")
        for engine in engines.values():
            if engine.name in packed:
                _pack_engine(packing, engine, lists.get(engine.name))
            else:
                _copy(engine.directory, packing.tree / engine.name)
        _pack_harness(packing)
        log("writing the parts ...")
        parts = write_parts(packing.tree, kit, part_bytes)
        manifest = _manifest(study, file, target, git, parts)
        script = resources.files("enginebench.kit").joinpath("host.py").read_text(encoding="utf-8")
        (kit / "run.py").write_text(script, encoding="utf-8")
        (kit / "kit.json").write_text(json.dumps(asdict(manifest), indent=1) + "\n")
        out.mkdir(exist_ok=True)
        for path in sorted(kit.iterdir()):
            path.rename(out / path.name)
    return manifest


def _manifest(
    study: Study, file: Path, target: Target, git: GitState, parts: list[Part]
) -> Manifest:
    return Manifest(
        format=FORMAT,
        study=study.name,
        file=f"studies/{file.name}",
        device=target.device,
        python=target.python,
        machine=platform.machine(),
        git=git,
        parts=parts,
    )


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A directory on the disk of ``out``, gone afterwards."""
    try:
        if out.exists() and any(out.iterdir()):
            raise UserError(f"{out}: expected an empty directory for the kit, found files in it")
        place = out if out.exists() else out.resolve().parent
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=WORK, dir=place.resolve()) as work:
            yield Path(work)
    except OSError as error:
        raise UserError(
            f"{out}: cannot pack the kit there ({str(error)[:300]}); free some space, make it "
            "writable or give another directory with --out"
        ) from None


def _find_model(name: str, log: Log) -> Path | None:
    """The model's directory; None if it can be generated on the other machine."""
    if models.design(name) is not None:
        return None
    log(f"looking up the model {name} ...")
    return models.resolve(name, [], Path()).path


def _copy_study(packing: _Packing, study: Study, file: Path, model_path: Path | None) -> None:
    """The study, its prompts and traces, and its model."""
    root, tree = packing.root, packing.tree
    text = file.read_text(encoding="utf-8")
    if model_path is not None:
        name = f"models/{study.model.strip('/').replace('/', '--')}"
        packing.log(f"copying the model from {model_path} ...")
        shutil.copytree(model_path, tree / name)  # links of the hub's cache become files
        data = yaml_file.parse(text, str(file), "settings")
        text = yaml.safe_dump(data | {"model": name}, sort_keys=False)
    (tree / "studies").mkdir()
    (tree / "studies" / file.name).write_text(text, encoding="utf-8")
    for needed in {study.prompts.path, *(w.trace for w in study.workloads if w.trace)}:
        if Path(needed).is_absolute() or ".." in Path(needed).parts:
            raise UserError(
                f"{file}: expected prompts and traces by their path below {root}, as the kit holds "
                f"no other files, found {needed}; move it there"
            )
        if not (root / needed).exists():
            raise UserError(
                f"{file}: expected {root / needed}, found no such file; correct it there"
            )
        _copy(root / needed, tree / needed)
    if (root / "compose").exists():
        _copy(root / "compose", tree / "compose")


def _copy(path: Path, target: Path) -> None:
    """A file or directory of the project; links become what they lead to."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        left_out = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info", f"{WORK}*")
        shutil.copytree(path, target, ignore=left_out)
    else:
        shutil.copy(path, target)


def _pack_engine(packing: _Packing, engine: Engine, listed: Sequence[str] | None) -> None:
    """Its directory, its wheels, and in its launch file a recipe that installs those alone.

    Args:
        listed: the packages to pack; None: those of its recipe.
    """
    device = packing.target.device
    packing.log(f"{engine.name}: collecting its packages ...")
    requirements = listed
    if requirements is None:
        recipe = environment.recipe(engine, device)
        requirements = packages.resolve(packing.target, recipe, engine.directory)
    packages.download(packing.target, engine.name, requirements, packing.wheels, packing.root)
    _copy(engine.directory, packing.tree / engine.name)
    file = packing.tree / engine.name / "launch.yaml"
    data = yaml_file.parse(file.read_text(encoding="utf-8"), str(file), "everywhere")
    call = ["--no-index", "--no-deps", "--find-links", "../wheels"]
    call += ["-r", f"../wheels/{engine.name}.txt"]
    native = data["x-native"]["environment"]
    native[device] = [call]
    native["uses_system_packages"] = listed is not None or native.get("uses_system_packages", False)
    head = "# As packed by `enginebench kit`: the packages come from ../wheels.\n"
    file.write_text(head + yaml.safe_dump(data, sort_keys=False, width=1000), encoding="utf-8")


def _pack_harness(packing: _Packing) -> None:
    packing.log("collecting the harness's own packages ...")
    with tempfile.TemporaryDirectory(prefix=WORK, dir=packing.tree.parent) as name:
        sources = Path(name)  # a copy: a build leaves files beside what it builds
        for source in SOURCES:
            _copy(packing.root / source, sources / source)
        packages.pip(["wheel", "--no-deps", "-w", str(packing.wheels), "."], sources)
        resolved = packages.resolve(packing.target, [[".", "-c", "constraints.txt"]], sources)
    harness = [line for line in resolved if line.startswith(f"{HARNESS}==")]
    others = [line for line in resolved if line not in harness]
    packages.download(packing.target, HARNESS, others, packing.wheels, packing.root)
    # Its own wheel was built above.
    list_file = packing.wheels / f"{HARNESS}.txt"
    packages.write_pinned(list_file, [*others, *harness], packing.wheels)

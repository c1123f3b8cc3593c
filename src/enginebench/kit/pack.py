"""Packing a kit: all that a machine without a network needs to run one study, in parts.

The kit is one tar file, cut into parts, beside a manifest with their checksums and ``run.py``
(``kit_host``), which joins, verifies, installs and runs it there. In it are the study, its engines'
directories, prompts, a model that cannot be made there, and every package as a wheel. What pip
resolves is resolved here: there, an exact list is installed from the wheels alone.
"""

import hashlib
import io
import json
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from enginebench.base.errors import UserError
from enginebench.engines.directory import Engine
from enginebench.hardware import machine
from enginebench.launch import environment, process
from enginebench.plan import models
from enginebench.plan.study_file import Study

FORMAT = 1
OUR_PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
HARNESS = "enginebench"  # what the list of its own packages is called
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "constraints.txt", "src")  # of its wheel
LOG_TAIL_LINES = 12
WORK = ".packing-"  # begins the name of a directory that is there while a kit is packed
# Newer machines also run what was built for older ones; pip takes only what is named.
_GLIBC_MINORS = (17, 24, 26, 27, 28, 31, 34, 35)
PLATFORMS = (
    "linux_x86_64",
    "manylinux1_x86_64",
    "manylinux2014_x86_64",
    *(f"manylinux_2_{minor}_x86_64" for minor in _GLIBC_MINORS),
)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Target:
    """The machine that the kit is for; x86-64, as the one that packs it."""

    device: str  # "cpu" or "cuda"
    python: str  # as in 3.12

    @property
    def is_ours(self) -> bool:
        return self.python == OUR_PYTHON

    @property
    def pip_flags(self) -> tuple[str, ...]:
        """For ``pip download`` and ``pip install --dry-run``."""
        flags: tuple[str, ...] = ("--only-binary=:all:",)
        if not self.is_ours:
            flags += ("--python-version", self.python, "--implementation", "cp")
            flags += tuple(word for name in PLATFORMS for word in ("--platform", name))
        return flags


@dataclass(frozen=True, slots=True)
class _Packing:
    """What all steps of packing share."""

    root: Path  # the house that is packed
    tree: Path  # what will be the kit's contents
    target: Target
    say: Say

    @property
    def wheels(self) -> Path:
        return self.tree / "wheels"


def pack(
    chosen: Study,
    file: Path,
    engines: Mapping[str, Engine],
    root: Path,
    out: Path,
    target: Target,
    part_bytes: int,
    own_packages: Mapping[str, Path],
    say: Say,
) -> dict[str, Any]:
    """Write the kit into ``out`` and return its manifest.

    Args:
        file: the study's file.
        root: the directory that holds the engines and this package's sources.
        out: a directory that is not there yet, or empty. Its disk needs room for the kit twice.
        part_bytes: the size of a part at most.
        own_packages: by engine, a list of packages to pack instead of its recipe; its environment
            there sees the packages that the machine's Python has.

    Raises:
        UserError: something cannot be packed; nothing is then in ``out``.
    """
    lists = {name: _read_list(path) for name, path in own_packages.items()}
    for engine in engines.values():
        process.recipe(engine)
        if engine.name not in lists:
            environment.recipe(engine, target.device)
    state = machine.git_state(root)
    model_path = _find_model(chosen.model, say)
    with _beside(out) as work:
        kit = work / "kit"
        packing = _Packing(root, work / "tree", target, say)
        kit.mkdir()
        packing.wheels.mkdir(parents=True)
        _copy_study(packing, chosen, file, model_path)
        (packing.tree / machine.PACKED_FROM).write_text(json.dumps(state) + "\n")
        for engine in engines.values():
            _pack_engine(packing, engine, lists.get(engine.name))
        _pack_harness(packing)
        say("writing the parts ...")
        manifest = {
            "format": FORMAT,
            "study": chosen.name,
            "file": f"studies/{file.name}",
            "device": target.device,
            "python": target.python,
            "machine": platform.machine(),
            "git": state,
            "parts": write_parts(packing.tree, kit, part_bytes),
        }
        script = resources.files("enginebench.kit").joinpath("host.py").read_text()
        (kit / "run.py").write_text(script)
        (kit / "kit.json").write_text(json.dumps(manifest, indent=1) + "\n")
        out.mkdir(exist_ok=True)
        for path in sorted(kit.iterdir()):
            path.rename(out / path.name)
    return manifest


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
            f"{out}: cannot pack the kit there ({str(error)[:300]}); make room, make it writable "
            "or give another directory with --out"
        ) from None


def _read_list(path: Path) -> list[str]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, ValueError) as error:
        raise UserError(
            f"--packages: expected a file of name==version lines, found {path} "
            f"({getattr(error, 'strerror', None) or error}); correct its name"
        ) from None
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _find_model(name: str, say: Say) -> Path | None:
    """The model's directory; None if it can be made on the other machine."""
    if models.design(name) is not None:
        return None
    say(f"looking up the model {name} ...")
    return models.resolve(name, [], Path()).path


def _copy_study(packing: _Packing, chosen: Study, file: Path, model_path: Path | None) -> None:
    """The study, its prompts and traces, and its model."""
    root, tree = packing.root, packing.tree
    text = file.read_text()
    if model_path is not None:
        name = f"models/{chosen.model.strip('/').replace('/', '--')}"
        packing.say(f"copying the model from {model_path} ...")
        shutil.copytree(model_path, tree / name)  # links of the hub's cache become files
        text = yaml.safe_dump(yaml.safe_load(text) | {"model": name}, sort_keys=False)
    (tree / "studies").mkdir()
    (tree / "studies" / file.name).write_text(text)
    for needed in {chosen.prompts.path, *(w.trace for w in chosen.workloads if w.trace)}:
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
    """A file or directory of the house; links become what they lead to."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        left_out = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info", f"{WORK}*")
        shutil.copytree(path, target, ignore=left_out)
    else:
        shutil.copy(path, target)


def _pack_engine(packing: _Packing, engine: Engine, own: Sequence[str] | None) -> None:
    """Its directory, its wheels, and in its launch file a recipe that takes those alone."""
    device = packing.target.device
    packing.say(f"{engine.name}: collecting its packages ...")
    found = (
        _resolve(packing.target, environment.recipe(engine, device), engine.directory)
        if own is None
        else own
    )
    _download(packing, engine.name, found)
    _copy(engine.directory, packing.tree / engine.name)
    file = packing.tree / engine.name / "launch.yaml"
    data = yaml.safe_load(file.read_text())
    recipe = ["--no-index", "--no-deps", "--find-links", "../wheels"]
    recipe += ["-r", f"../wheels/{engine.name}.txt"]
    theirs = data["x-native"]["environment"]
    theirs[device] = [recipe]
    theirs["uses_system_packages"] = own is not None or theirs.get("uses_system_packages", False)
    head = "# As packed by `enginebench kit`: the packages come from ../wheels.\n"
    file.write_text(head + yaml.safe_dump(data, sort_keys=False, width=1000))


def _pack_harness(packing: _Packing) -> None:
    packing.say("collecting the harness's own packages ...")
    with tempfile.TemporaryDirectory(prefix=WORK, dir=packing.tree.parent) as name:
        sources = Path(name)  # a copy: a build leaves files beside what it builds
        for source in SOURCES:
            _copy(packing.root / source, sources / source)
        _pip(["wheel", "--no-deps", "-w", str(packing.wheels), "."], sources)
        found = _resolve(packing.target, [[".", "-c", "constraints.txt"]], sources)
    mine = [line for line in found if line.startswith(f"{HARNESS}==")]
    _download(packing, HARNESS, [line for line in found if line not in mine])
    with (packing.wheels / f"{HARNESS}.txt").open("a") as file:
        file.writelines(f"{line}\n" for line in mine)


def _resolve(target: Target, calls: Sequence[Sequence[str]], directory: Path) -> list[str]:
    """What these pip calls, one after the other, would install: ``name==version`` lines."""
    found: dict[str, str] = {}
    for arguments in calls:
        extra: list[str] = []
        while True:
            fixed = [f"{name}=={version}" for name, version in found.items()]
            installed = _dry_run(target, [*arguments, *extra], fixed, directory)
            more = [] if target.is_ours or "--no-deps" in arguments else unmet(installed, target)
            if not set(more) - set(extra):
                break
            extra += more
        found |= {
            canonicalize_name(item["metadata"]["name"]): item["metadata"]["version"]
            for item in installed
        }
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def _dry_run(
    target: Target, arguments: Sequence[str], fixed: Sequence[str], directory: Path
) -> list[dict[str, Any]]:
    """The rows ``install`` of pip's report (pip.pypa.io, "Installation Report")."""
    with tempfile.TemporaryDirectory() as work:
        report, constraints = Path(work, "report.json"), Path(work, "constraints.txt")
        constraints.write_text("".join(f"{line}\n" for line in fixed))
        flags = ["--dry-run", "--ignore-installed", "--target", work, "--report", str(report)]
        flags += ["-c", str(constraints), *target.pip_flags]
        _pip(["install", *flags, *arguments], directory)
        installed: list[dict[str, Any]] = json.loads(report.read_text())["install"]
    return installed


def unmet(installed: Sequence[Mapping[str, Any]], target: Target) -> list[str]:
    """What these packages need on the target and pip left out.

    pip evaluates markers such as ``python_version < "3.12"`` for the Python that runs it, whatever
    ``--python-version`` says.

    Args:
        installed: as in pip's report, with ``metadata`` and perhaps ``requested_extras``.
    """
    there: dict[str, str] = {
        **{name: str(value) for name, value in default_environment().items()},
        "python_version": target.python,
        "python_full_version": f"{target.python}.0",
    }
    names = {canonicalize_name(item["metadata"]["name"]) for item in installed}
    found = []
    for item in installed:
        extras = ["", *item.get("requested_extras", [])]
        for text in item["metadata"].get("requires_dist", []):
            needed = Requirement(text)
            applies = needed.marker is None or any(
                needed.marker.evaluate(there | {"extra": extra}) for extra in extras
            )
            if applies and canonicalize_name(needed.name) not in names:
                needed.marker = None
                found.append(str(needed))
    return sorted(set(found))


def _download(packing: _Packing, name: str, requirements: Sequence[str]) -> None:
    """The wheels of these packages, and their list as ``wheels/<name>.txt``."""
    file = packing.wheels / f"{name}.txt"
    file.write_text("".join(f"{line}\n" for line in requirements))
    flags = ["--no-deps", "-d", str(packing.wheels), *packing.target.pip_flags]
    _pip(["download", *flags, "-r", str(file)], packing.root)


def _pip(arguments: Sequence[str], directory: Path) -> None:
    call = [sys.executable, "-m", "pip", arguments[0], "-q", "--no-input", *arguments[1:]]
    done = subprocess.run(call, cwd=directory, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise UserError(
            f"pip {arguments[0]} failed in {directory}: expected wheels of every package for the "
            "kit's target; see pip's last lines",
            lines[-LOG_TAIL_LINES:],
        )


def write_parts(tree: Path, out: Path, part_bytes: int) -> list[dict[str, Any]]:
    """The tree as one tar file in parts; the manifest's rows of them."""
    writer = _Parts(out, part_bytes)
    with tarfile.open(fileobj=writer, mode="w|", format=tarfile.PAX_FORMAT) as file:
        for path in sorted(tree.rglob("*")):
            file.add(path, str(path.relative_to(tree)), recursive=False, filter=_plain_member)
    return writer.end()


def _plain_member(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Nothing of who packed it, and when."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member


class _Parts(io.RawIOBase):
    """A file in parts of one size, each with its checksum."""

    def __init__(self, directory: Path, part_bytes: int) -> None:
        self._directory = directory
        self._most = part_bytes
        self._rows: list[dict[str, Any]] = []
        self._file: io.BufferedWriter | None = None
        self._digest = hashlib.sha256()
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        total = len(left)
        while left:
            if self._file is None:
                self._file = (self._directory / f"part-{len(self._rows):03d}").open("wb")
            piece = left[: self._most - self._size]
            self._file.write(piece)
            self._digest.update(piece)
            self._size += len(piece)
            left = left[len(piece) :]
            if self._size == self._most:
                self._close_part()
        return total

    def end(self) -> list[dict[str, Any]]:
        self._close_part()
        return self._rows

    def _close_part(self) -> None:
        if self._file is None:
            return
        self._file.close()
        name = Path(self._file.name).name
        row = {"name": name, "bytes": self._size, "sha256": self._digest.hexdigest()}
        self._rows.append(row)
        self._file, self._digest, self._size = None, hashlib.sha256(), 0

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
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from enginebench import environment, machine, model, process
from enginebench.errors import UserError
from enginebench.launch import Engine
from enginebench.study import Study

FORMAT = 1
HARNESS = "enginebench"  # what the list of its own packages is called
LOG_TAIL_LINES = 12
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
    def pip_flags(self) -> tuple[str, ...]:
        """For ``pip download`` and ``pip install --dry-run``."""
        flags: tuple[str, ...] = ("--only-binary=:all:",)
        if self.python != f"{sys.version_info[0]}.{sys.version_info[1]}":
            flags += ("--python-version", self.python, "--implementation", "cp")
            flags += tuple(word for name in PLATFORMS for word in ("--platform", name))
        return flags


@dataclass(frozen=True, slots=True)
class _Packing:
    """What all steps of packing share."""

    root: Path  # the house that is packed
    tree: Path  # what will be the kit's contents
    target: Target
    own_packages: Mapping[str, Path]  # by engine: a list to take instead of its recipe
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
        out: a directory that is not there yet, or empty.
        part_bytes: the size of a part at most.
        own_packages: by engine, a list of packages to pack instead of its recipe; its environment
            there sees the packages that the machine's Python has.

    Raises:
        UserError: something cannot be packed; ``out`` is then as before.
    """
    for engine in engines.values():
        process.recipe(engine)
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out}: expected an empty directory for the kit, found files in it")
    out.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".packing-", dir=out) as work:
            packing = _Packing(root, Path(work), target, own_packages, say)
            _copy_study(packing, chosen, file)
            for engine in engines.values():
                _pack_engine(packing, engine)
            _pack_harness(packing)
            say("writing the parts ...")
            parts = write_parts(packing.tree, out, part_bytes)
        (out / "run.py").write_text(
            resources.files("enginebench").joinpath("kit_host.py").read_text()
        )
        manifest = {
            "format": FORMAT,
            "study": chosen.name,
            "file": f"studies/{file.name}",
            "device": target.device,
            "python": target.python,
            "machine": platform.machine(),
            "git": machine.git_state(root),
            "parts": parts,
        }
        (out / "kit.json").write_text(json.dumps(manifest, indent=1) + "\n")
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise
    return manifest


def _copy_study(packing: _Packing, chosen: Study, file: Path) -> None:
    """The study, its prompts and traces, and its model if it is not made or fetched by name."""
    root, tree = packing.root, packing.tree
    text = file.read_text()
    if model.design(chosen.model) is None:
        path = Path(chosen.model).expanduser()
        name = f"models/{path.name}"
        if not path.exists():
            packing.say(f"fetching the model {chosen.model} ...")
            name = f"models/{chosen.model.replace('/', '--')}"
            path = model.resolve(chosen.model, [], tree).path
        packing.say(f"copying the model from {path} ...")
        shutil.copytree(path, tree / name)  # links of the hub's cache become files
        text = re.sub(r"(?m)^model:.*$", f"model: {name}", text)
    (tree / "studies").mkdir()
    (tree / "studies" / file.name).write_text(text)
    for needed in {chosen.prompts.path, *(w.trace for w in chosen.workloads if w.trace)}:
        _copy(root / needed, tree, root)
    _copy(root / "compose", tree, root)
    state = machine.git_state(root)
    (tree / machine.PACKED_FROM).write_text(json.dumps(state) + "\n")


def _copy(path: Path, tree: Path, root: Path) -> None:
    """A file or directory of the house, to the same place in the kit."""
    if not path.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{path}: expected it below {root}, as the kit holds no other files")
    target = tree / path.resolve().relative_to(root.resolve())
    if path.is_dir():
        shutil.copytree(path, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    elif path.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    else:
        raise UserError(f"{path}: expected a file to pack, found none; correct the study")


def _pack_engine(packing: _Packing, engine: Engine) -> None:
    """Its directory, its wheels, and in its launch file a recipe that takes those alone."""
    device = packing.target.device
    own = packing.own_packages.get(engine.name)
    packing.say(f"{engine.name}: collecting its packages ...")
    if own is None:
        found = _resolve(packing, environment.recipe(engine, device), engine.directory)
    else:
        lines = own.read_text().splitlines()
        found = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    _download(packing, engine.name, found)
    _copy(engine.directory, packing.tree, packing.root)
    file = packing.tree / engine.name / "launch.yaml"
    data = yaml.safe_load(file.read_text())
    recipe = ["--no-index", "--no-deps", "--find-links", "../wheels"]
    recipe += ["-r", f"../wheels/{engine.name}.txt"]
    own_environment = data["x-native"]["environment"]
    own_environment[device] = [recipe]
    own_environment["uses_system_packages"] = own is not None
    head = "# As packed by `enginebench kit`: the packages come from ../wheels.\n"
    file.write_text(head + yaml.safe_dump(data, sort_keys=False, width=1000))


def _pack_harness(packing: _Packing) -> None:
    packing.say("collecting the harness's own packages ...")
    root = packing.root
    found = _resolve(packing, [[".", "-c", "constraints.txt"]], root)
    _pip(["wheel", "--no-deps", "-w", str(packing.wheels), "."], root)
    mine = [line for line in found if line.startswith(f"{HARNESS}==")]
    _download(packing, HARNESS, [line for line in found if line not in mine])
    with (packing.wheels / f"{HARNESS}.txt").open("a") as file:
        file.writelines(f"{line}\n" for line in mine)


def _resolve(packing: _Packing, calls: Sequence[Sequence[str]], directory: Path) -> list[str]:
    """What these pip calls, one after the other, would install: ``name==version`` lines."""
    found: dict[str, str] = {}
    for arguments in calls:
        with tempfile.TemporaryDirectory() as work:
            report, fixed = Path(work, "report.json"), Path(work, "constraints.txt")
            fixed.write_text("".join(f"{name}=={found[name]}\n" for name in found))
            flags = ["--dry-run", "--ignore-installed", "--target", work, "--report", str(report)]
            call = ["install", *flags, "-c", str(fixed), *packing.target.pip_flags, *arguments]
            _pip(call, directory)
            installed = json.loads(report.read_text())["install"]
        metadata = [item["metadata"] for item in installed]
        found |= {_plain(item["name"]): item["version"] for item in metadata}
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def _plain(name: str) -> str:
    """A package's name in its normal form (packaging.python.org, "Names and normalization")."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _download(packing: _Packing, name: str, requirements: Sequence[str]) -> None:
    """The wheels of these packages, and their list as ``wheels/<name>.txt``."""
    packing.wheels.mkdir(exist_ok=True)
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

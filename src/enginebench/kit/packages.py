"""A kit's packages: which ones a machine without a network needs, and their wheels.

pip resolves them here; there, an exact list is installed from the wheels alone.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from enginebench.base import text_file
from enginebench.base.errors import UserError
from enginebench.launch.server import LOG_TAIL_LINES

OUR_PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
MOST_LIST_BYTES = 1 << 20
# Newer machines also run what was built for older ones; pip takes only what is named.
_GLIBC_MINORS = (17, 24, 26, 27, 28, 31, 34, 35)
PLATFORMS = (
    "linux_x86_64",
    "manylinux1_x86_64",
    "manylinux2014_x86_64",
    *(f"manylinux_2_{minor}_x86_64" for minor in _GLIBC_MINORS),
)


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


def read_list(path: Path) -> list[str]:
    """The ``name==version`` lines of a person's list, without comments.

    Raises:
        UserError: there is no such file, or it is not text.
    """
    try:
        lines = text_file.read_text(path, MOST_LIST_BYTES).splitlines()
    except text_file.UnreadableFile as error:
        raise UserError(
            f"--packages: expected a file of name==version lines, found {path} ({error.reason}); "
            "correct its name"
        ) from None
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def resolve(target: Target, calls: Sequence[Sequence[str]], directory: Path) -> list[str]:
    """What these pip calls, one after the other, would install: ``name==version`` lines.

    Args:
        calls: the arguments of each ``pip install``.
        directory: where they are called; relative paths in them begin there.

    Raises:
        UserError: pip fails.
    """
    versions: dict[str, str] = {}
    for arguments in calls:
        extra: list[str] = []
        while True:
            fixed = [f"{name}=={version}" for name, version in versions.items()]
            installed = _dry_run(target, [*arguments, *extra], fixed, directory)
            more = [] if target.is_ours or "--no-deps" in arguments else unmet(installed, target)
            if not set(more) - set(extra):
                break
            extra += more
        versions |= {
            canonicalize_name(item["metadata"]["name"]): item["metadata"]["version"]
            for item in installed
        }
    return [f"{name}=={version}" for name, version in sorted(versions.items())]


def _dry_run(
    target: Target, arguments: Sequence[str], fixed: Sequence[str], directory: Path
) -> list[dict[str, Any]]:
    """The rows ``install`` of pip's report (pip.pypa.io, "Installation Report")."""
    with tempfile.TemporaryDirectory() as work:
        report, constraints = Path(work, "report.json"), Path(work, "constraints.txt")
        constraints.write_text("".join(f"{line}\n" for line in fixed))
        flags = ["--dry-run", "--ignore-installed", "--target", work, "--report", str(report)]
        flags += ["-c", str(constraints), *target.pip_flags]
        pip(["install", *flags, *arguments], directory)
        installed: list[dict[str, Any]] = json.loads(report.read_text())["install"]
    return installed


def unmet(installed: Sequence[Mapping[str, Any]], target: Target) -> list[str]:
    """What these packages need on the target and pip left out.

    pip evaluates markers such as ``python_version < "3.12"`` for the Python that runs it, whatever
    ``--python-version`` says.

    Args:
        installed: as in pip's report, with ``metadata`` and perhaps ``requested_extras``.
    """
    marker_values: dict[str, str] = {
        **{name: str(value) for name, value in default_environment().items()},
        "python_version": target.python,
        "python_full_version": f"{target.python}.0",
    }
    names = {canonicalize_name(item["metadata"]["name"]) for item in installed}
    missing = set()
    for item in installed:
        extras = ["", *item.get("requested_extras", [])]
        for text in item["metadata"].get("requires_dist", []):
            needed = Requirement(text)
            applies = needed.marker is None or any(
                needed.marker.evaluate(marker_values | {"extra": extra}) for extra in extras
            )
            if applies and canonicalize_name(needed.name) not in names:
                needed.marker = None
                missing.add(str(needed))
    return sorted(missing)


def download(
    target: Target, name: str, requirements: Sequence[str], wheels: Path, directory: Path
) -> None:
    """Put the wheels of these packages into ``wheels``, with their pinned list as ``<name>.txt``.

    Raises:
        UserError: pip fails.
    """
    file = wheels / f"{name}.txt"
    file.write_text("".join(f"{line}\n" for line in requirements))
    flags = ["--no-deps", "-d", str(wheels), *target.pip_flags]
    pip(["download", *flags, "-r", str(file)], directory)
    write_pinned(file, requirements, wheels)


def write_pinned(file: Path, requirements: Sequence[str], wheels: Path) -> None:
    """Write a list for pip with the hash of each package's wheel, which pip then requires.

    Raises:
        UserError: a package has no wheel there.
    """
    file.write_text("".join(f"{_pinned(line, wheels)}\n" for line in requirements))


def _pinned(line: str, wheels: Path) -> str:
    try:
        needed = Requirement(line)
    except InvalidRequirement:
        raise UserError(
            f"packages: expected lines such as name==version, found {line[:80]!r}; correct the list"
        ) from None
    found = []
    for wheel in sorted(wheels.glob("*.whl")):
        name, version, _, _ = parse_wheel_filename(wheel.name)
        is_it = name == canonicalize_name(needed.name)
        if is_it and needed.specifier.contains(version, prereleases=True):
            with wheel.open("rb") as file:
                found.append(hashlib.file_digest(file, "sha256").hexdigest())
    if not found:
        raise UserError(
            f"{wheels}: expected a wheel of {line}, found none; correct the list of packages"
        )
    return " ".join([line, *(f"--hash=sha256:{digest}" for digest in found)])


def pip(arguments: Sequence[str], directory: Path) -> None:
    """Call pip in a directory.

    Raises:
        UserError: it fails; with its last lines.
    """
    call = [sys.executable, "-m", "pip", arguments[0], "-q", "--no-input", *arguments[1:]]
    done = subprocess.run(call, cwd=directory, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise UserError(
            f"pip {arguments[0]} failed in {directory}: expected wheels of every package for the "
            "kit's target; see pip's last lines",
            lines[-LOG_TAIL_LINES:],
        )

"""One command of the harness under a fault: how it ended, what it said, and what it left behind."""

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from project import enginebench

from enginebench.base.text import one_line

SECRET = "hf_" + "x7Kq" * 6  # planted in the environment of every command
MOST_MIB = 1024
DEADLINE_S = 60.0
GRACE_S = 5.0  # for processes of a killed harness to end


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, and what the harness must make of it."""

    name: str
    named: str  # a regular expression that what it says must match
    code: int | None = None  # its exit code; None: that of the study, which others share


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    said: str  # on standard output and error
    mib: float  # the most memory of the command, and of any process that it waited for
    seconds: float
    hung: bool
    left: tuple[str, ...]  # processes, files in TMPDIR, halves of files, secrets


@dataclass(frozen=True, slots=True)
class Result:
    """A row of the table."""

    group: str
    fault: str
    found: str  # the words that name it; empty: none do
    code: int
    lost: int  # records that should be there and are not, or other cells that it has harmed
    ended: Ended
    said: str = ""  # where it should have been named

    @property
    def problems(self) -> list[str]:
        """Why the harness fails this fault; empty: it does not."""
        checks = {
            f"not named in: {self.said[-300:]}": not self.found,
            "traceback": "Traceback (most recent call last)" in self.ended.said,
            "escape on the terminal": "\x1b" in self.ended.said,
            "hung": self.ended.hung,
            f"{self.lost} lost": self.lost > 0,
            f"{self.ended.mib:.0f} MiB": self.ended.mib > MOST_MIB,
        }
        return [name for name, is_bad in checks.items() if is_bad] + list(self.ended.left)


@contextlib.contextmanager
def place() -> Iterator[Path]:
    """An empty directory for one command, with a ``tmp`` of its own for TMPDIR."""
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        root = Path(name).resolve()
        (root / "tmp").mkdir()
        yield root


def environment(root: Path, **more: str) -> dict[str, str]:
    """The caller's, with a secret in it; with Docker on the host, doubles are processes too."""
    own = {"TMPDIR": str(root / "tmp"), "HF_TOKEN": SECRET, "ENGINEBENCH_RUNNER": "process"}
    return {**os.environ, **own, **more}


def run(
    root: Path,
    arguments: Sequence[object],
    *,
    during: Callable[["subprocess.Popen[Any]"], None] = lambda process: None,
    deadline_s: float = DEADLINE_S,
    env: Mapping[str, str] | None = None,
    start: Callable[..., "subprocess.Popen[Any]"] | None = None,
    **options: Any,
) -> Ended:
    """Run ``enginebench`` in a directory until it has ended, or the deadline has passed.

    Args:
        during: is given the process once it has started.
        start: starts something else than the command line.
        options: of ``subprocess.Popen``.
    """
    started_s = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        common = {"cwd": root, "env": environment(root, **(env or {})), "start_new_session": True}
        common |= {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output, "text": False}
        if start is None:
            process = enginebench(*arguments, start=subprocess.Popen, **(common | options))
        else:
            process = start(**(common | options))
        during(process)
        code, mib, hung = _wait(process, started_s + deadline_s)
        seconds = time.perf_counter() - started_s
        output.seek(0)
        said = output.read().decode(errors="replace")
    return Ended(code, said, mib, seconds, hung, tuple(leftovers(root)))


def _wait(process: "subprocess.Popen[Any]", until_s: float) -> tuple[int, float, bool]:
    """Its exit code, its most memory in MiB, and whether it had to be killed."""
    hung = False
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, usage.ru_maxrss / 1024, hung
        if time.perf_counter() > until_s and not hung:
            hung = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        time.sleep(0.02)


def leftovers(root: Path) -> list[str]:
    """What a command has left below its directory and on the machine, in words."""
    until_s = time.perf_counter() + GRACE_S
    while (alive := processes(root)) and time.perf_counter() < until_s:
        time.sleep(0.1)
    found = [f"process {name}" for name in alive]
    found += [f"in TMPDIR: {path.name}" for path in sorted((root / "tmp").iterdir())]
    halves = [*root.glob("results/**/*.part"), *root.glob("results/**/*.part/")]
    found += [f"half of {path.name.removesuffix('.part')}" for path in halves]
    return found + [f"secret in {path.relative_to(root)}" for path in secrets(root)]


def processes(root: Path) -> list[str]:
    """The commands of processes that were started below a directory, or with its TMPDIR."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            where = str((entry / "cwd").readlink())
            about = b"\0".join([*words, where.encode(), (entry / "environ").read_bytes()])
            if words != [b""] and os.fsencode(root) in about:
                found.append(Path(os.fsdecode(words[0])).name)
    return found


def secrets(root: Path) -> list[Path]:
    """The regular files below a directory that hold the planted secret."""
    found = []
    for path in root.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file() and not path.is_symlink() and SECRET.encode() in path.read_bytes():
                found.append(path)
    return found


def named(pattern: str, text: str) -> str:
    """The words of a text that match a pattern, on one line; empty where none do."""
    match = re.search(pattern, text, re.S)
    return one_line(" ".join(match[0].split())) if match else ""


def result(
    group: str, fault: Fault, ended: Ended, lost: int = 0, said: str | None = None
) -> Result:
    """The row of a fault that had a command for itself.

    Args:
        said: where it must be named, if not in what the command printed.
    """
    where = ended.said if said is None else said
    if fault.code is not None and ended.code != fault.code:
        ended = replace(ended, left=(*ended.left, f"exit code {ended.code}, not {fault.code}"))
    found = named(fault.named, where)
    return Result(group, fault.name, found, ended.code, lost, ended, where)

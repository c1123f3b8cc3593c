"""Processes as ``/proc`` shows them. Standard library only.

A process is known by its number and its start in clock ticks since boot (proc(5), field 22): unlike
a time of day, the ticks do not move when a clock is set.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    name: str
    state: str  # "Z": it has ended, and nobody has asked how
    parent: int
    session: int
    start_ticks: int

    @property
    def has_ended(self) -> bool:
        return self.state in "ZX"


def read(pid: int | str, proc: Path = PROC) -> Process | None:
    """A process, by its number or "self"; None where it cannot be seen."""
    try:
        text = (proc / str(pid) / "stat").read_bytes().decode(errors="replace")
        # The name is in parentheses and may hold any character, parentheses too.
        number, _, rest = text.partition(" (")
        name, _, fields = rest.rpartition(") ")
        state, parent, _, session, *others = fields.split()
        return Process(int(number), name, state, int(parent), int(session), int(others[15]))
    except (OSError, ValueError, IndexError):
        return None


def everyone(proc: Path = PROC) -> Iterator[Process]:
    """Every process that can be seen."""
    with contextlib.suppress(OSError):
        for entry in proc.iterdir():
            if entry.name.isdecimal() and (found := read(entry.name, proc)) is not None:
                yield found


def variable(pid: int, name: str, proc: Path = PROC) -> str | None:
    """A variable of the environment that a process was started with; None: not set, or hidden."""
    try:
        content = (proc / str(pid) / "environ").read_bytes()
    except OSError:
        return None
    start = name.encode() + b"="
    values = [line.removeprefix(start) for line in content.split(b"\0") if line.startswith(start)]
    return os.fsdecode(values[0]) if values else None


def descendants(pid: int, proc: Path = PROC) -> list[Process]:
    """All that descend from a process, as far as parents are still alive."""
    children: dict[int, list[Process]] = {}
    for process in everyone(proc):
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    waiting = [pid]
    while waiting:
        here = children.pop(waiting.pop(), [])
        found += here
        waiting += [process.pid for process in here]
    return found

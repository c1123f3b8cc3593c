"""CPU time of this study's own process trees, from /proc. Standard library only.

The CPU time of a process includes the children that it has waited for (``cutime`` and ``cstime`` of
proc_pid_stat(5)), so a short-lived child counts even if no reading saw it. An engine in a container
is counted by its control group, which includes all processes that have ended.
"""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_NS, _US = 1e-9, 1e-6


@dataclass(frozen=True, slots=True)
class Stat:
    """The needed fields of ``/proc/<pid>/stat``."""

    parent: int
    session: int
    cpu_s: float  # including children that it has waited for
    started_ticks: int  # after boot; a later process with the same pid has another value


def read_stat(proc: Path, pid: int) -> Stat | None:
    """The fields; None if the process has ended or is hidden from this user."""
    try:
        text = (proc / str(pid) / "stat").read_text(errors="replace")
        # The name may contain blanks and brackets; the fields after its last bracket cannot.
        values = text.rpartition(")")[2].split()
        ticks = sum(int(value) for value in values[11:15])
        return Stat(int(values[1]), int(values[3]), ticks * TICK_S, int(values[19]))
    except (OSError, ValueError, IndexError):
        return None


class ProcessTrees:
    """The CPU time of some processes and of all that they have started.

    A process is ours if its parent is, or if its session was opened by a root: the parent of an
    engine's worker may have ended. Once ours, it stays ours.
    """

    def __init__(self, proc: Path, roots: Sequence[int]) -> None:
        self._proc = proc
        self._roots = frozenset(roots)
        self._known: set[int] = set()  # every process that was read, ours or not
        self._ours: dict[int, Stat] = {}
        self._orphans_s = 0.0  # of ended processes whose parent is not ours

    def refresh(self) -> None:
        """Find the processes that are new since the last call; reads only those."""
        with contextlib.suppress(OSError), os.scandir(self._proc) as entries:
            listed = {int(entry.name) for entry in entries if entry.name.isdecimal()}
            self._add_new(listed)

    def _add_new(self, listed: set[int]) -> None:
        self._known &= listed
        new: dict[int, Stat] = {}
        for pid in listed - self._known:
            if (stat := read_stat(self._proc, pid)) is not None:
                new[pid] = stat
        self._known |= new.keys()
        while ours := {pid: stat for pid, stat in new.items() if self._is_ours(pid, stat)}:
            self._ours |= ours
            new = {pid: stat for pid, stat in new.items() if pid not in ours}

    def _is_ours(self, pid: int, stat: Stat) -> bool:
        return pid in self._roots or stat.parent in self._ours or stat.session in self._roots

    def cpu_s(self) -> float:
        """CPU seconds so far, of running processes and of those that have ended."""
        ended = []
        for pid, before in self._ours.items():
            now = read_stat(self._proc, pid)
            if now is None or now.started_ticks != before.started_ticks:
                ended.append(pid)
            else:
                self._ours[pid] = now
        for pid in ended:
            self._known.discard(pid)
            before = self._ours.pop(pid)
            if before.parent not in self._ours and before.parent not in ended:
                self._orphans_s += before.cpu_s  # else its parent's time includes it
        return self._orphans_s + sum(stat.cpu_s for stat in self._ours.values())


def cgroup_file(proc: Path, cgroups: Path, pid: int, harness: int) -> Path | None:
    """The file with the CPU time of the container that a process is in.

    Args:
        proc, cgroups: ``/proc`` and ``/sys/fs/cgroup``.

    Returns:
        ``cpu.stat`` (cgroup v2) or ``cpuacct.usage`` (v1); None if the process is in the harness's
        own group, or the file is not readable.
    """
    groups, harness_groups = _groups(proc, pid), _groups(proc, harness)
    for controller, path in groups.items():
        if path == "/" or ".." in path or path == harness_groups.get(controller):
            continue
        if controller == "":
            file = cgroups / path.lstrip("/") / "cpu.stat"
        elif "cpuacct" in controller.split(","):
            file = cgroups / controller / path.lstrip("/") / "cpuacct.usage"
        else:
            continue
        if read_cgroup_s(file) is not None:
            return file
    return None


def _groups(proc: Path, pid: int) -> dict[str, str]:
    """Controllers -> path, from ``/proc/<pid>/cgroup``; v2 has an empty name."""
    try:
        lines = (proc / str(pid) / "cgroup").read_text().splitlines()
    except OSError:
        return {}
    parts = [line.split(":", 2) for line in lines]
    return {part[1]: part[2] for part in parts if len(part) == 3}


def read_cgroup_s(file: Path) -> float | None:
    """CPU seconds of a control group; None if it is gone."""
    with contextlib.suppress(OSError, ValueError):
        text = file.read_text()
        if file.name == "cpuacct.usage":
            return int(text) * _NS
        for line in text.splitlines():
            name, _, value = line.partition(" ")
            if name == "usage_usec":
                return int(value) * _US
    return None

"""Processes of engines whose harness was killed outright: found by a mark, and ended.

The kernel ends an engine's main process with its harness; the processes that this one has started
stay, hold memory and spin. Every engine is started with the mark of its harness in its environment,
which all its children inherit.
"""

from collections.abc import Callable

import psutil

MARK = "ENGINEBENCH_HARNESS"
WAIT_S = 10.0


def mark() -> str:
    """This process, so that no other one of the same number is taken for it."""
    return _mark(psutil.Process())


def _mark(process: psutil.Process) -> str:
    return f"{process.pid}:{process.create_time():.2f}"


def find() -> list[psutil.Process]:
    """Processes of engines whose harness is gone; those of other users cannot be seen."""
    found = []
    for process in psutil.process_iter():
        try:
            owner = process.environ().get(MARK)
            if owner and not _is_alive(owner):
                found.append(process)
        except psutil.Error:  # it ended, or is not ours
            continue
    return found


def _is_alive(owner: str) -> bool:
    try:
        return _mark(psutil.Process(int(owner.partition(":")[0]))) == owner
    except (psutil.Error, ValueError):
        return False


def end(say: Callable[[str], None]) -> None:
    """End what killed harnesses have left behind, and say so."""
    found = find()
    if not found:
        return
    names = []
    for process in found:
        try:
            names.append(f"{process.name()} ({process.pid})")
            process.kill()
        except psutil.Error:
            continue
    psutil.wait_procs(found, timeout=WAIT_S)
    if names:
        say(f"ended what a killed enginebench had left behind: {', '.join(names)}")

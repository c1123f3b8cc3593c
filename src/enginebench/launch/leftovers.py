"""Ends what a killed harness has left behind, which it finds by the harness's mark.

When a harness is killed, the kernel ends the main process of its engine. The processes that the
engine has started stay and hold memory, and so does a container. Every engine therefore has the
mark of its harness in its environment, which its children inherit; its container and network have
it in their names. Only what belongs to a harness that has certainly ended is touched.
"""

import contextlib
import itertools
import os
import re
import select
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from enginebench.base import proc
from enginebench.launch import docker_daemon, owner
from enginebench.launch.docker_daemon import DOCKER_ERRORS

VARIABLE = "ENGINEBENCH_STARTED_BY"  # in an engine's environment: mark of the harness, /, start
LABEL = "enginebench"  # compose/base.yaml gives it to every container
PROJECT = "com.docker.compose.project"  # compose gives it to whatever it makes
WAIT_S = 10.0
_NAME = re.compile(r"^enginebench-([0-9a-f]{16}-\d+-\d+)-")
_starts = itertools.count(1)


def name_prefix() -> str:
    """What the names of this harness's containers and networks begin with."""
    return f"enginebench-{owner.mark()}"


def launch_mark() -> str:
    """The mark of one start of an engine by this harness."""
    return f"{owner.mark()}/{next(_starts)}"


def find(root: Path = proc.PROC) -> list[proc.Process]:
    """Processes of engines whose harness is gone; those of other users cannot be seen."""
    return _marked(lambda mark: owner.is_gone(mark.partition("/")[0], root), root)


def of_launch(mark: str, root: Path = proc.PROC) -> list[proc.Process]:
    """Processes that bear the mark of one start."""
    return _marked(lambda found: found == mark, root)


def _marked(is_wanted: Callable[[str], bool], root: Path) -> list[proc.Process]:
    found = []
    for process in proc.everyone(root):
        mark = None if process.has_ended else proc.variable(process.pid, VARIABLE, root)
        if mark and is_wanted(mark):
            found.append(process)
    return found


def kill(processes: Iterable[proc.Process], wait_s: float = WAIT_S) -> list[proc.Process]:
    """Kill processes and wait until they have ended; those that could be sent the signal.

    A number that another process has by now is left alone.
    """
    killed, open_files = [], []
    try:
        for process in processes:
            with contextlib.suppress(OSError):
                fd = os.pidfd_open(process.pid)
                open_files.append(fd)
                now = proc.read(process.pid)
                if now is not None and now.start_ticks == process.start_ticks:
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
                    killed.append(process)
        until_s = time.perf_counter() + wait_s
        for fd in open_files:
            left_ms = max(0.0, until_s - time.perf_counter()) * 1000
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            poll.poll(left_ms)
    finally:
        for fd in open_files:
            os.close(fd)
    return killed


def end(log: Callable[[str], None]) -> None:
    """End what killed harnesses have left behind; ``log`` gets a line about each kind."""
    ended = [f"{process.name} ({process.pid})" for process in kill(find())]
    if ended:
        log(f"ended what a killed enginebench had left behind: {', '.join(ended)}")
    names = remove_containers(_is_orphan)
    if names:
        log(f"removed what a killed enginebench had left behind: {', '.join(names)}")
    owner.remove_stale_locks()


def _is_orphan(name: str) -> bool:
    """Whether the harness that started it has certainly ended."""
    match = _NAME.match(name)
    return match is not None and owner.is_gone(match[1])


def may_be_in_use(name: str) -> bool:
    """Whether a container or network belongs to a harness that may be alive."""
    return _NAME.match(name) is not None and not _is_orphan(name)


def remove_containers(wanted: Callable[[str], bool]) -> list[str]:
    """Remove containers of ours with their anonymous volumes, and networks, whose name is wanted.

    Containers that were started by hand have a name of compose's own choice; they carry our label.

    Returns:
        what was removed; nothing where there is no Docker.
    """
    docker = docker_daemon.connect()
    if isinstance(docker, str):
        return []
    removed = []
    with contextlib.suppress(*DOCKER_ERRORS):
        projects = set()
        for container in docker.client.containers.list(all=True, filters={"label": LABEL}):
            if wanted(str(container.name)):
                container.remove(force=True, v=True)
                removed.append(f"container {container.name}")
                projects.add(container.labels.get(PROJECT))
        for network in docker.client.networks.list(filters={"label": PROJECT}):
            name = str(network.name)
            is_by_name = _NAME.match(name) and wanted(name)
            if is_by_name or network.attrs["Labels"][PROJECT] in projects:
                network.remove()
                removed.append(f"network {name}")
    return removed

"""What a harness that was killed outright has left behind: found by its mark, and ended.

The kernel ends an engine's main process with its harness; the processes that this one has started
stay, hold memory and spin, and a container stays whole. Every engine is started with the mark of
its harness in its environment, which all its children inherit; its container and network have it
in their names.
"""

import contextlib
import hashlib
import platform
import re
from collections.abc import Callable

import psutil

from enginebench.launch import docker_daemon
from enginebench.launch.docker_daemon import DOCKER_ERRORS

MARK = "ENGINEBENCH_HARNESS"
LABEL = "enginebench"  # compose/base.yaml gives it to every container
PROJECT = "com.docker.compose.project"  # compose gives it to whatever it makes
WAIT_S = 10.0
_NAME = re.compile(r"^enginebench-(([0-9a-f]{6})-\d+-\d+)-")


def mark() -> str:
    """This process, so that no other one of the same number is taken for it, here or elsewhere."""
    return _mark(psutil.Process())


def _host() -> str:
    """This machine: others may use the same Docker daemon."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:6]


def name_prefix() -> str:
    """What the names of this harness's containers and networks begin with."""
    return f"enginebench-{mark()}"


def _mark(process: psutil.Process) -> str:
    return f"{_host()}-{process.pid}-{process.create_time() * 100:.0f}"


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
        return _mark(psutil.Process(int(owner.split("-")[1]))) == owner
    except (psutil.Error, ValueError, IndexError):
        return False


def end(say: Callable[[str], None]) -> None:
    """End what killed harnesses have left behind, and say so."""
    _end_processes(say)
    names = remove_containers(_is_orphan)
    if names:
        say(f"removed what a killed enginebench had left behind: {', '.join(names)}")


def _end_processes(say: Callable[[str], None]) -> None:
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


def _is_orphan(name: str) -> bool:
    """Made on this machine, by a harness that is gone."""
    found = _NAME.match(name)
    return found is not None and found[2] == _host() and not _is_alive(found[1])


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

"""What a study runs as where nobody says: chosen by what the machine has, with the reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from enginebench.hardware import machine
from enginebench.launch import compose, docker_daemon

Runner = Literal["container", "process"]
#: By device and runner. Two of the four engines run in containers only, so a GPU without Docker has
#: a study of the other two.
STUDIES: Mapping[tuple[str, Runner], str] = {
    ("cuda", "container"): "gpu",
    ("cuda", "process"): "gpu-llama-2-7b",
    ("cpu", "container"): "cpu",
    ("cpu", "process"): "cpu",
}
PLACES = {"container": "containers", "process": "processes of their own"}


@dataclass(frozen=True, slots=True)
class Profile:
    device: str  # "cuda" or "cpu"
    runner: Runner
    study: str  # the name of the study that is run where none is named
    why: str


def choose(device: str = "", runner: str = "") -> Profile:
    """The profile of this machine.

    Args:
        device: "cuda" or "cpu", if that is settled already.
        runner: "container" or "process", if that is.
    """
    gpus = machine.gpus()
    here = "cuda" if gpus else "cpu"
    parts = [f"found {gpus[0]['name']}" if gpus else "no GPU found"]
    if device not in ("", here):
        parts.append(f"{device} asked for")
    if runner:
        chosen: Runner = "container" if runner == "container" else "process"
        parts.append(f"engines run in {PLACES[chosen]}, as asked for")
    else:
        chosen, reason = _runner(device or here)
        parts += [reason, f"engines run in {PLACES[chosen]}"]
    return Profile(device or here, chosen, STUDIES[device or here, chosen], ", ".join(parts))


def _runner(device: str) -> tuple[Runner, str]:
    """Containers where they can be had, and what that was decided by."""
    docker = docker_daemon.connect()
    if isinstance(docker, str):
        return "process", f"no Docker ({docker})"
    if compose.find() is None:
        return "process", f"Docker {docker.version} without compose"
    if device == "cuda" and not docker.runs_gpus:
        return "process", f"Docker {docker.version} without the NVIDIA runtime"
    return "container", f"found Docker {docker.version}"

"""What a study runs as where nobody says: chosen by what the machine has, with the reason."""

from dataclasses import dataclass
from typing import Literal

from enginebench import compose, dockerd, machine

Runner = Literal["container", "process"]
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
    # Two of the four engines run in containers only.
    is_for_gpus = device == "cuda" or (not device and bool(gpus) and chosen == "container")
    study = "gpu" if is_for_gpus else "cpu"
    return Profile(device or here, chosen, study, ", ".join(parts))


def _runner(device: str) -> tuple[Runner, str]:
    """Containers where they can be had, and what that was decided by."""
    docker = dockerd.connect()
    if isinstance(docker, str):
        return "process", f"no Docker ({docker})"
    if compose.find() is None:
        return "process", f"Docker {docker.version} without compose"
    if device == "cuda" and not docker.runs_gpus:
        return "process", f"Docker {docker.version} without the NVIDIA runtime"
    return "container", f"found Docker {docker.version}"

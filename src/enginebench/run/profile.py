"""The default study and runner: chosen by what the machine has, with the reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from enginebench.hardware import machine
from enginebench.launch import compose, docker_daemon

Device = Literal["cpu", "cuda"]
Runner = Literal["container", "process"]
#: By device and runner. Some engines run in containers only, so a GPU without Docker has a study
#: of the others.
STUDIES: Mapping[tuple[str, Runner], str] = {
    ("cuda", "container"): "gpu",
    ("cuda", "process"): "gpu-llama-2-7b",
    ("cpu", "container"): "cpu",
    ("cpu", "process"): "cpu",
}
PLACES = {"container": "containers", "process": "processes of their own"}


@dataclass(frozen=True, slots=True)
class Profile:
    """What a study runs on this machine, and as what."""

    device: Device
    runner: Runner
    study: str  # the name of the study that is run where none is named
    why: str


def choose(device: Device | Literal[""] = "", runner: str = "") -> Profile:
    """The profile of this machine.

    Args:
        device: "cuda" or "cpu" if the person asks for one; empty: what the machine has.
        runner: "container" or "process" if the person asks for one; empty: containers if possible.
    """
    gpus = machine.gpus()
    present: Device = "cuda" if gpus else "cpu"
    parts = [f"found {gpus[0].name}" if gpus else "no GPU found"]
    if device not in ("", present):
        parts.append(f"{device} asked for")
    if runner:
        chosen: Runner = "container" if runner == "container" else "process"
        parts.append(f"engines run in {PLACES[chosen]}, as asked for")
    else:
        chosen, reason = _runner(device or present)
        parts += [reason, f"engines run in {PLACES[chosen]}"]
    study = STUDIES[device or present, chosen]
    return Profile(device or present, chosen, study, ", ".join(parts))


def _runner(device: str) -> tuple[Runner, str]:
    """Containers where they can run, and the reason."""
    docker = docker_daemon.connect()
    if isinstance(docker, str):
        return "process", f"no Docker ({docker})"
    if compose.find() is None:
        return "process", f"Docker {docker.version} without compose"
    if device == "cuda" and not docker.runs_gpus:
        return "process", f"Docker {docker.version} without the NVIDIA runtime"
    return "container", f"found Docker {docker.version}"

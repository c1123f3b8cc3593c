"""What a study runs as where nobody says: chosen by what the machine has, with the reason."""

from dataclasses import dataclass
from typing import Literal

from enginebench import compose, dockerd, machine

Runner = Literal["container", "process"]


@dataclass(frozen=True, slots=True)
class Profile:
    device: str  # "cuda" or "cpu"
    runner: Runner
    why: str

    @property
    def study(self) -> str:
        """The name of the study that this machine runs by default."""
        return "gpu" if self.device == "cuda" else "cpu"


def choose(device: str = "", runner: str = "") -> Profile:
    """The profile of this machine.

    Args:
        device: "cuda" or "cpu", if that is settled already.
        runner: "container" or "process", if that is.
    """
    gpus = machine.gpus()
    parts = [f"found {gpus[0]['name']}" if gpus else "no GPU found"]
    wanted = device or ("cuda" if gpus else "cpu")
    if device and device != ("cuda" if gpus else "cpu"):
        parts.append(f"{device} asked for")
    if runner:
        parts.append(f"engines run in {_in(runner)}, as asked for")
        return Profile(
            wanted, "container" if runner == "container" else "process", ", ".join(parts)
        )
    docker = dockerd.connect()
    chosen: Runner = "process"
    if isinstance(docker, str):
        parts.append(f"no Docker ({docker})")
    elif compose.find() is None:
        parts.append(f"Docker {docker.version} without compose")
    elif wanted == "cuda" and not docker.runs_gpus:
        parts.append(f"Docker {docker.version} without the NVIDIA runtime")
    else:
        parts.append(f"found Docker {docker.version}")
        chosen = "container"
    parts.append(f"engines run in {_in(chosen)}")
    return Profile(wanted, chosen, ", ".join(parts))


def _in(runner: str) -> str:
    return "containers" if runner == "container" else "processes of their own"

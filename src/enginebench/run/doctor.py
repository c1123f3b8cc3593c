"""What this machine has of what a study needs, and what to do about each lack."""

import os
import shutil
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from enginebench.hardware import machine, nvml
from enginebench.hardware.nvml import GpuFacts
from enginebench.launch import compose, docker_daemon
from enginebench.launch.docker_daemon import Docker
from enginebench.launch.server import HOST
from enginebench.plan import models

GIB = 1 << 30
#: What the images of a study's engines take unpacked, by device.
IMAGES_GIB = {"cuda": 100, "cpu": 15}
HUB_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a study needs, and whether this machine has it."""

    what: str
    state: str
    is_good: bool
    advice: str = ""  # one line; empty where nothing is lacking


def examine(model: str, cache: Path) -> list[Finding]:
    """Look at everything that a study needs.

    Args:
        model: that of the study that would run.
        cache: where its environments would be built.
    """
    docker = docker_daemon.connect()
    gpus = machine.gpus()
    findings = [_docker(docker), _compose(), _gpus(gpus)]
    if gpus:
        findings.append(_gpu_in_docker(docker))
    findings.append(_disk(docker, "cuda" if gpus else "cpu", cache))
    findings += [_token(), _model(model), _ports()]
    return findings


def _docker(docker: Docker | str) -> Finding:
    if isinstance(docker, str):
        advice = "install Docker 20.10 or newer, start it, and be allowed to use it (group docker)"
        return Finding("Docker", f"none ({docker})", False, advice)
    return Finding("Docker", f"{docker.version}, {docker.system}", True)


def _compose() -> Finding:
    plugin = compose.find()
    if plugin is None:
        advice = "install docker-compose-plugin (or docker-compose 1.29)"
        return Finding("compose", "none", False, advice)
    return Finding("compose", f"{plugin.version} ({' '.join(plugin.argv)})", True)


def _gpus(gpus: Sequence[GpuFacts]) -> Finding:
    if gpus:
        names = ", ".join(
            f"{gpu.name}" + (f" {size / GIB:.0f} GiB" if (size := gpu.memory_bytes) else "")
            for gpu in gpus
        )
        return Finding("GPU", f"{names}; driver {gpus[0].driver}", True)
    error = nvml.error()
    if error:
        return Finding("GPU", f"NVML fails: {error}", False, "repair the driver (nvidia-smi)")
    advice = "without one, studies run on the CPU; some engines need one"
    return Finding("GPU", "none (no NVML library)", False, advice)


def _gpu_in_docker(docker: Docker | str) -> Finding:
    what = "GPU in Docker"
    if isinstance(docker, str):
        return Finding(what, "no Docker", False, "engines would run as processes on this GPU")
    if docker.runs_gpus:
        return Finding(what, "the NVIDIA runtime is registered", True)
    advice = "install nvidia-container-toolkit, then: nvidia-ctk runtime configure; restart Docker"
    return Finding(what, "no NVIDIA runtime in `docker info`", False, advice)


def _disk(docker: Docker | str, device: str, cache: Path) -> Finding:
    """Free space where images go, or the engines' environments where there is no Docker."""
    place = cache
    if not isinstance(docker, str) and docker.root is not None and docker.root.exists():
        place = docker.root
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / GIB
    wanted = IMAGES_GIB[device]
    text = f"{free:.0f} GiB free at {place}"
    if free < wanted:
        advice = f"have {wanted} GiB free for images, or leave engines out"
        return Finding("disk", text, False, advice)
    return Finding("disk", text, True)


def _token() -> Finding:
    if os.environ.get("HF_TOKEN"):
        return Finding("HF_TOKEN", "set", True)
    advice = "only gated models need one: export HF_TOKEN=..., or put it into .env"
    return Finding("HF_TOKEN", "not set", False, advice)


def _model(name: str) -> Finding:
    what = f"model {name}"
    if (design := models.design(name)) is not None:
        return Finding(what, f"generated locally, {2 * design.shape.weights / 1e9:.1f} GB", True)
    if Path(name).expanduser().exists():
        return Finding(what, "a local directory", True)
    from huggingface_hub import HfApi

    try:
        HfApi().auth_check(name)
        HfApi().model_info(name, timeout=HUB_TIMEOUT_S)
    except Exception as error:  # the hub client's errors are of many kinds; each means no access
        reason = (str(error).strip().splitlines() or [""])[0][:120]
        advice = "ask for access on its page and set HF_TOKEN, or name a local directory"
        return Finding(what, f"no access ({type(error).__name__}: {reason})", False, advice)
    return Finding(what, "access granted", True)


def _ports() -> Finding:
    try:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
    except OSError as error:
        advice = "engines listen on the loopback: let this user bind ports there"
        return Finding("ports", f"none can be bound on {HOST} ({error.strerror})", False, advice)
    return Finding("ports", f"free ones on {HOST}; a study takes any unless it names one", True)

"""What machine this is: the facts without which a number means nothing."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil

from enginebench.hardware import nvml
from enginebench.hardware.nvml import GpuFacts, GpuMeter

#: Instructions without which bfloat16 arithmetic is emulated.
BFLOAT16_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")
UNKNOWN = "unknown"  # a field that /proc/cpuinfo does not have
PACKED_FROM = "packed-from.json"  # in a kit: the git state of what was packed
_PACKAGES = ("enginebench", "numpy", "pandas", "tokenizers", "matplotlib")


@dataclass(frozen=True, slots=True)
class Clocks:
    """The monotonic clock of all recorded times beside the wall clock, read together."""

    t_s: float
    wall_s: float  # seconds since 1970, UTC


@dataclass(frozen=True, slots=True)
class Meters:
    """Both clocks and the GPUs' meters, all read at one moment."""

    t_s: float
    wall_s: float
    gpus: list[GpuMeter]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a record keeps of the machine; ``record.schema_study.Machine`` explains the fields."""

    system: str
    cpu: str
    cpu_bfloat16: list[str]
    cpus: int
    memory_bytes: int
    gpus: list[GpuFacts]
    nvml_error: str | None
    python: str
    packages: dict[str, str | None]


@dataclass(frozen=True, slots=True)
class GitState:
    """The commit that ran, and whether the tree had changes; None where git cannot say."""

    commit: str | None
    dirty: bool | None


def clocks() -> Clocks:
    """Both clocks now."""
    return Clocks(time.perf_counter(), time.time())


def device() -> str:
    """ "cuda" if NVML finds a GPU, else "cpu"."""
    return "cuda" if nvml.gpus() else "cpu"


def gpus() -> list[GpuFacts]:
    """What every NVIDIA GPU is; empty where there is none."""
    return [nvml.facts(gpu) for gpu in nvml.gpus()]


def meters(watched: Iterable[nvml.Gpu]) -> Meters:
    """Both clocks, and the meters of these GPUs, all read now."""
    now = clocks()
    return Meters(now.t_s, now.wall_s, [nvml.meter(gpu) for gpu in watched])


def cpus() -> list[int]:
    """The processors this process may use: what every engine is given."""
    return sorted(os.sched_getaffinity(0))


def cpu_list(numbers: list[int]) -> str:
    """Processor numbers as taskset writes them: ``0-3,8``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def cpu_flags() -> frozenset[str]:
    """What the processors say that they can do, as Linux names it; empty: they do not say."""
    flags = _cpu("flags")
    return frozenset() if flags == UNKNOWN else frozenset(flags.split())


def facts() -> Machine:
    """Everything about this machine that the record keeps."""
    return Machine(
        system=platform.platform(),
        cpu=_cpu("model name"),
        cpu_bfloat16=[flag for flag in BFLOAT16_FLAGS if flag in cpu_flags()],
        cpus=len(cpus()),
        memory_bytes=psutil.virtual_memory().total,
        gpus=gpus(),
        nvml_error=nvml.error(),
        python=platform.python_version(),
        packages={name: _version(name) for name in _PACKAGES},
    )


def git_state(root: Path) -> GitState:
    """The state of a checkout, or of the one that a kit was packed from."""
    if (packed := root / PACKED_FROM).exists():
        try:
            stated = json.loads(packed.read_text())
            return GitState(stated.get("commit"), stated.get("dirty"))
        except (OSError, ValueError, RecursionError, AttributeError):  # somebody changed it
            return GitState(None, None)

    def git(*arguments: str) -> str | None:
        call = ["git", "-C", str(root), *arguments]
        try:
            done = subprocess.run(call, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    status = git("status", "--porcelain")
    return GitState(git("rev-parse", "HEAD"), None if status is None else bool(status))


def _cpu(field: str) -> str:
    """A field of the first processor in /proc/cpuinfo."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return UNKNOWN


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None

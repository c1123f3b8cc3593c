"""The ceilings of this machine: a GPU's from its data sheet, a CPU's measured.

What a GPU reaches is measured too, but bounds no figure.
"""

import json
import subprocess
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from pathlib import Path

from docker.types import DeviceRequest

from enginebench.hardware import data_sheets
from enginebench.hardware.nvml import GpuFacts
from enginebench.hardware.roofline import Ceiling
from enginebench.launch import leftovers
from enginebench.launch.docker_daemon import DOCKER_ERRORS, Docker

PROBE_TIMEOUT_S = 120
GIB = 1 << 30

Probe = Callable[[int, str], str]  # threads, device -> the output of hardware/probe.py


def in_environment(python: Path) -> Probe:
    """Run the probe with the interpreter of an engine's environment."""

    def probe(threads: int, device: str) -> str:
        call = [str(python), "-P", "-c", _probe_code(), str(threads), device]
        done = subprocess.run(call, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S)
        return done.stdout if done.returncode == 0 else ""

    return probe


def in_container(docker: Docker, image: str) -> Probe:
    """Run the probe in a container of an engine's image."""

    def probe(threads: int, device: str) -> str:
        gpus = [DeviceRequest(count=-1, capabilities=[["gpu"]])] if device == "cuda" else []
        container = docker.client.containers.create(
            image,
            [str(threads), device],
            entrypoint=["python3", "-c", _probe_code()],
            name=f"{leftovers.name_prefix()}-probe",
            labels={leftovers.LABEL: "probe"},
            network_mode="none",
            device_requests=gpus,
        )
        try:
            container.start()
            ended = container.wait(timeout=PROBE_TIMEOUT_S)
            printed: bytes = container.logs(stdout=True, stderr=False)
            return printed.decode() if ended["StatusCode"] == 0 else ""
        finally:
            container.remove(force=True, v=True)

    return probe


def _probe_code() -> str:
    file = resources.files("enginebench.hardware").joinpath("probe.py")
    return file.read_text(encoding="utf-8")


def measure(probe: Probe, threads: int, device: str) -> Ceiling | str:
    """Measure this machine (``device``: "cpu" or "cuda"); a text says why it cannot be measured."""
    try:
        figures = json.loads(probe(threads, device).splitlines()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError, *DOCKER_ERRORS):
        return "no engine's environment has a torch that could measure it"
    if why := figures.get("not_measured"):
        return str(why)
    # The faster of the two: a bound must not be below what the memory can do.
    bandwidth = max(figures["read_bytes_per_s"], figures["copy_bytes_per_s"])
    when = "measured before the first engine" + (" and after the last" if device == "cpu" else "")
    source = f"{when}, memory over {figures['block_bytes'] / GIB:.2f} GiB"
    if figures["cache_bytes"]:
        source += f" (last-level cache {figures['cache_bytes'] / GIB:.2f} GiB)"
    return Ceiling("CPU" if device == "cpu" else "GPU", bandwidth, figures["flops_per_s"], source)


def of_machine(gpus: Sequence[GpuFacts], probes: Iterable[Probe], threads: int) -> Ceiling | str:
    """The ceiling of this machine, or why it is unknown; then no figure is checked against it.

    Args:
        gpus: of this machine; none: the ceiling is the CPU's.
        threads: that the CPU is measured with.
    """
    if not gpus:
        return reached(probes, threads, "cpu")
    first = gpus[0]
    if first.mig:
        return "the GPU is partitioned (MIG), and a slice has no data sheet"
    sheet = data_sheets.data_sheet(first.name, data_sheets.table("devices.yaml"))
    return sheet or f"there is no data sheet for {first.name or 'a GPU without a name'}"


def reached(probes: Iterable[Probe], threads: int, device: str) -> Ceiling | str:
    """What the first probe that works measures on this machine, or why none works."""
    why = "no engine of the study can run the probe"
    for probe in probes:
        measured = measure(probe, threads, device)
        if isinstance(measured, Ceiling):
            return measured
        why = measured
    return why

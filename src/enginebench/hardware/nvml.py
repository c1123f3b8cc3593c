"""NVIDIA's management library (NVML): which GPUs there are, and what each is doing now.

The library is opened once and stays open. A machine without it, or without a GPU, is an ordinary
case: there is nothing to read. What a GPU does not support, or will not say, is None, never 0.
"""

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pynvml
from pynvml import NVMLError

#: Why a clock is not at its highest: bits of nvmlDeviceGetCurrentClocksEventReasons (nvml.h).
REASONS = {
    0x001: "gpu_idle",
    0x002: "application_clocks",
    0x004: "sw_power_cap",
    0x008: "hw_slowdown",
    0x010: "sync_boost",
    0x020: "sw_thermal_slowdown",
    0x040: "hw_thermal_slowdown",
    0x080: "hw_power_brake",
    0x100: "display_clocks",
    0x200: "board_limit",
    0x400: "reliability",
}

#: Answers that mean "this GPU, driver or user has no such meter"; any other is a failure.
_NO_METER = (
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_NO_PERMISSION,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
    pynvml.NVML_ERROR_NO_DATA,
)


@dataclass(frozen=True, slots=True)
class Gpu:
    index: int
    handle: Any
    is_mig: bool  # partitioned: the board's memory, load and power are not one engine's


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """What a GPU is; None: it does not say."""

    name: str | None
    memory_bytes: int | None
    driver: str | None
    mig: bool  # whether it is partitioned
    capability: float | None = None  # compute capability, major.minor


@dataclass(frozen=True, slots=True)
class GpuMeter:
    """A GPU's energy counter and its power limit."""

    index: int
    energy_j: float | None  # since the driver was loaded
    power_limit_w: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSample:
    """What a GPU is doing: a line of ``gpus.jsonl.gz``. ``error``: the first failed call."""

    t_s: float  # CLOCK_MONOTONIC
    index: int
    memory_used_bytes: int | None
    memory_reserved_bytes: int | None
    utilisation: float | None  # 0 to 1
    memory_utilisation: float | None  # 0 to 1
    power_w: float | None
    energy_j: float | None  # since the driver was loaded
    sm_clock_hz: float | None
    memory_clock_hz: float | None
    temperature_c: float | None
    throttle_reasons: list[str] | None
    processes: dict[str, int | None] | None  # bytes by process id (text, as JSON has it)
    error: str | None


@dataclass(frozen=True, slots=True)
class _Opened:
    gpus: tuple[Gpu, ...]
    error: str | None


class _Reader:
    """Asks one GPU; keeps the first answer that was a failure."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self.error: str | None = None

    def __call__(self, ask: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return ask(self._handle, *arguments)
        except NVMLError as error:
            if error.value not in _NO_METER and self.error is None:
                self.error = str(error)
            return None


def gpus() -> tuple[Gpu, ...]:
    """All GPUs of this machine, in NVML's order; empty where there is none."""
    return _open().gpus


def error() -> str | None:
    """Why GPUs that may be there cannot be seen; None where all is well, or there is no NVML."""
    return _open().error


@functools.cache
def _open() -> _Opened:
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except NVMLError as error:
        is_ordinary = error.value == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND
        return _Opened((), None if is_ordinary else str(error))
    opened = []
    problem = None
    for index in range(count):
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        except NVMLError as error:
            problem = f"GPU {index}: {error}"
            continue
        mode = _Reader(handle)(pynvml.nvmlDeviceGetMigMode)
        opened.append(Gpu(index, handle, bool(mode and mode[0] == pynvml.NVML_DEVICE_MIG_ENABLE)))
    return _Opened(tuple(opened), problem)


def facts(gpu: Gpu) -> GpuFacts:
    """What a GPU is."""
    read = _Reader(gpu.handle)
    memory = read(_memory)
    return GpuFacts(
        name=read(pynvml.nvmlDeviceGetName),
        memory_bytes=None if memory is None else memory.total,
        driver=_Reader(None)(lambda _: pynvml.nvmlSystemGetDriverVersion()),
        mig=gpu.is_mig,
        capability=_capability(read),
    )


def _capability(read: _Reader) -> float | None:
    numbers = read(pynvml.nvmlDeviceGetCudaComputeCapability)
    return None if numbers is None else numbers[0] + numbers[1] / 10


def meter(gpu: Gpu) -> GpuMeter:
    """A GPU's meters now.

    GPUs older than Volta have no energy counter; that of a partitioned one counts all its users.
    """
    read = _Reader(gpu.handle)
    return GpuMeter(
        index=gpu.index,
        energy_j=_energy_j(read, gpu),
        power_limit_w=_scaled(read(pynvml.nvmlDeviceGetEnforcedPowerLimit), 1e-3),
    )


def sample(watched: Sequence[Gpu]) -> list[GpuSample]:
    """One row a GPU, all with the time at which reading began."""
    t_s = time.perf_counter()
    return [_sample(gpu, t_s) for gpu in watched]


def _sample(gpu: Gpu, t_s: float) -> GpuSample:
    read = _Reader(gpu.handle)
    memory, rates, power_mw = None, None, None
    if not gpu.is_mig:
        memory = read(_memory)
        rates = read(pynvml.nvmlDeviceGetUtilizationRates)
        power_mw = read(pynvml.nvmlDeviceGetPowerUsage)
    return GpuSample(
        t_s=t_s,
        index=gpu.index,
        memory_used_bytes=None if memory is None else memory.used,
        memory_reserved_bytes=getattr(memory, "reserved", None),
        utilisation=None if rates is None else rates.gpu / 100,
        memory_utilisation=None if rates is None else rates.memory / 100,
        power_w=_scaled(power_mw, 1e-3),
        energy_j=_energy_j(read, gpu),
        sm_clock_hz=_clock_hz(read, pynvml.NVML_CLOCK_SM),
        memory_clock_hz=_clock_hz(read, pynvml.NVML_CLOCK_MEM),
        temperature_c=read(pynvml.nvmlDeviceGetTemperature, pynvml.NVML_TEMPERATURE_GPU),
        throttle_reasons=_reasons(read),
        processes=_processes(read),
        error=read.error,  # last: arguments are evaluated in order
    )


def _memory(handle: Any) -> Any:
    """Memory in bytes. Drivers before 510 count what they reserve as used memory."""
    try:
        return pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    except NVMLError as error:
        if error.value not in _NO_METER:
            raise
        return pynvml.nvmlDeviceGetMemoryInfo(handle)


def _energy_j(read: _Reader, gpu: Gpu) -> float | None:
    if gpu.is_mig:
        return None
    return _scaled(read(pynvml.nvmlDeviceGetTotalEnergyConsumption), 1e-3)


def _clock_hz(read: _Reader, kind: int) -> float | None:
    return _scaled(read(pynvml.nvmlDeviceGetClockInfo, kind), 1e6)


def _reasons(read: _Reader) -> list[str] | None:
    """Names of the bits that are set; a bit without a name is written as a number."""
    bits = read(_reason_bits)
    if bits is None:
        return None
    single = (1 << place for place in range(bits.bit_length()))
    return [REASONS.get(bit, hex(bit)) for bit in single if bits & bit]


def _reason_bits(handle: Any) -> int:
    try:
        return int(pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
    except NVMLError as error:
        if error.value != pynvml.NVML_ERROR_FUNCTION_NOT_FOUND:
            raise
        return int(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))  # before driver 535


def _processes(read: _Reader) -> dict[str, int | None] | None:
    """Bytes by process id (text, as JSON has it), of processes that compute."""
    listed = read(pynvml.nvmlDeviceGetComputeRunningProcesses)
    if listed is None:
        return None
    held: dict[str, int | None] = {}
    for process in listed:  # on a partitioned GPU one process may be listed more than once
        before, more = held.get(str(process.pid), 0), process.usedGpuMemory
        held[str(process.pid)] = None if before is None or more is None else before + more
    return held


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor

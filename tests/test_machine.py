import sys
from types import SimpleNamespace

import pytest

from enginebench import machine


class NVMLError(Exception):
    pass


def not_supported(handle):
    raise NVMLError


def library(**changes):
    """NVML as pynvml shows it, with two GPUs; energy in mJ, power in mW, as NVML counts."""
    functions = {
        "NVMLError": NVMLError,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: "580.1",
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetName": lambda handle: f"GPU {handle}",
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(total=(handle + 1) << 30),
        "nvmlDeviceGetTotalEnergyConsumption": lambda handle: 1_500_000 * (handle + 1),
        "nvmlDeviceGetEnforcedPowerLimit": lambda handle: 300_000,
    }
    return SimpleNamespace(**functions | changes)


def test_gpus_and_their_meters_are_read(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", library())
    assert machine.gpus()[1] == {"name": "GPU 1", "memory_bytes": 2 << 30, "driver": "580.1"}
    meters = machine.meters()
    assert meters["gpus"] == [
        {"energy_j": 1500.0, "power_limit_w": 300.0},
        {"energy_j": 3000.0, "power_limit_w": 300.0},
    ]
    assert {"t_s", "wall_s"} < meters.keys()


def test_a_gpu_without_an_energy_meter_has_none(monkeypatch):
    old = library(nvmlDeviceGetTotalEnergyConsumption=not_supported)
    monkeypatch.setitem(sys.modules, "pynvml", old)
    assert machine.meters()["gpus"][0] == {"energy_j": None, "power_limit_w": 300.0}


@pytest.mark.parametrize("module", [None, library(nvmlInit=lambda: not_supported(0))])
def test_without_a_gpu_there_is_nothing_to_read(monkeypatch, module):
    monkeypatch.setitem(sys.modules, "pynvml", module)
    assert machine.gpus() == [] and machine.device() == "cpu"
    assert machine.meters()["gpus"] == []


@pytest.mark.parametrize(
    ("numbers", "text"), [([0, 1, 2, 3, 8], "0-3,8"), ([5], "5"), ([1, 3, 4], "1,3-4")]
)
def test_processors_are_listed_as_taskset_does(numbers, text):
    assert machine.cpu_list(numbers) == text

"""Who holds the memory of a GPU, and waiting until it is free."""

import dataclasses

import pytest
from builders import GIB

from enginebench.base.errors import EngineError
from enginebench.hardware.nvml import GpuSample
from enginebench.launch.device_free import await_free, gpu_holders


def row(used, processes=None):
    unknown = dict.fromkeys(field.name for field in dataclasses.fields(GpuSample))
    seen = {"t_s": 0.0, "index": 1, "memory_used_bytes": used, "processes": processes}
    return GpuSample(**unknown | seen)


def test_the_holder_of_a_gpus_memory_is_named():
    assert gpu_holders(row(9 * GIB, {"999999999": 8 * GIB}), 80 * GIB) == [
        "process 999999999 on GPU 1 (8.0 GiB)"
    ]
    assert gpu_holders(row(9 * GIB), 80 * GIB) == [
        "a process that NVML does not name on GPU 1 (9.0 GiB)"
    ]


def test_what_a_driver_holds_by_itself_is_free_memory():
    assert gpu_holders(row(1 * GIB, {"999999999": GIB}), 80 * GIB) == []
    assert gpu_holders(row(None), None) == []  # not told: nothing to go by


def test_memory_that_gets_free_is_waited_for_and_memory_that_does_not_is_refused():
    answers = [["one"], ["one"], []]
    await_free(lambda: answers.pop(0), "vllm", 60)
    assert answers == []
    with pytest.raises(
        EngineError,
        match=r"vllm: expected free memory .*after 0 s that it is held by a; b; end that",
    ):
        await_free(lambda: ["a", "b"], "vllm", 0)

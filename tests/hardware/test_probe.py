"""How much memory the probe reads: past the last-level cache, or nothing is claimed."""

import json

import pytest

from enginebench.hardware import probe
from enginebench.hardware.nvml import GpuFacts
from enginebench.hardware.roofline import Ceiling
from enginebench.launch import measured_ceilings

MIB, GIB = 1 << 20, 1 << 30


def cache(cpus, cpu, index, level, size, shared, kind="Unified"):
    where = cpus / f"cpu{cpu}" / "cache" / f"index{index}"
    where.mkdir(parents=True)
    for name, value in (
        ("level", level),
        ("size", size),
        ("shared_cpu_list", shared),
        ("type", kind),
    ):
        (where / name).write_text(f"{value}\n")


def test_last_level_caches_of_all_sockets_are_added_and_shared_ones_count_once(tmp_path):
    for cpu in range(4):
        cache(tmp_path, cpu, 2, 2, "1024K", str(cpu))
        cache(tmp_path, cpu, 3, 3, "32768K", "0-1" if cpu < 2 else "2-3")
    assert probe.cache_bytes(tmp_path) == 64 * MIB  # two of 32


def test_without_a_third_level_the_second_is_the_last(tmp_path):
    cache(tmp_path, 0, 1, 1, "64K", "0", "Instruction")
    cache(tmp_path, 0, 2, 2, "2M", "0-1")
    assert probe.cache_bytes(tmp_path) == 2 * MIB


def test_a_kernel_that_says_nothing_of_caches_leaves_them_unknown(tmp_path):
    assert probe.cache_bytes(tmp_path) is None
    cache(tmp_path, 0, 3, 3, "what", "0")
    assert probe.cache_bytes(tmp_path) is None


@pytest.mark.parametrize(
    ("cache_bytes", "free", "expected"),
    [
        (32 * MIB, 16 * GIB, 256 * MIB),  # never less
        (480 * MIB, 16 * GIB, 1920 * MIB),  # four times
        (480 * MIB, 6 * GIB, 1536 * MIB),  # a quarter of what is free: still 3.2 times
        (1152 * MIB, 64 * GIB, 4096 * MIB),  # never more
        (None, 64 * GIB, 4096 * MIB),  # unknown: the largest
        (32 * MIB, None, 256 * MIB),
    ],
)
def test_the_block_is_larger_than_the_cache(cache_bytes, free, expected):
    assert probe.block_bytes(cache_bytes, free) == expected


@pytest.mark.parametrize(
    ("cache_bytes", "free"),
    [(480 * MIB, 2 * GIB), (4 * GIB, 64 * GIB), (None, 8 * GIB), (32 * MIB, 512 * MIB)],
)
def test_where_no_block_is_larger_than_the_cache_nothing_is_measured(cache_bytes, free):
    assert "is needed to read past a last-level cache" in probe.block_bytes(cache_bytes, free)


def test_the_limit_of_a_control_group_counts(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/box").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    8388608 kB\n")
    (tmp_path / "proc/self/cgroup").write_text("0::/box\n")
    assert probe.free_bytes(tmp_path) == 8 * GIB
    (tmp_path / "sys/fs/cgroup/box/memory.max").write_text(f"{2 * GIB}\n")
    (tmp_path / "sys/fs/cgroup/box/memory.current").write_text(f"{GIB // 2}\n")
    assert probe.free_bytes(tmp_path) == 3 * GIB // 2


PRINTED = {
    "read_bytes_per_s": 10e9,
    "copy_bytes_per_s": 12e9,
    "flops_per_s": {"float32": 1e11},
    "block_bytes": 2 * GIB,
    "cache_bytes": GIB // 2,
}


def test_the_record_says_how_much_was_read():
    found = measured_ceilings.measure(lambda threads, device: json.dumps(PRINTED), 2, "cpu")
    assert found.bandwidth_bytes_per_s == 12e9
    assert "memory over 2.00 GiB (last-level cache 0.50 GiB)" in found.source


def test_why_nothing_was_measured_is_said():
    small = json.dumps({"not_measured": "a block of 9 MiB is needed"})
    assert measured_ceilings.reached([lambda *_: small], 2, "cpu") == "a block of 9 MiB is needed"
    found = measured_ceilings.reached([lambda *_: "", lambda *_: json.dumps(PRINTED)], 2, "cpu")
    assert isinstance(found, Ceiling)


@pytest.mark.parametrize(
    ("gpu", "why"),
    [
        (GpuFacts(None, None, None, mig=False), "there is no data sheet for a GPU without a name"),
        (GpuFacts("", None, None, mig=False), "there is no data sheet for a GPU without a name"),
        (
            GpuFacts("NVIDIA RTX A1000", None, None, mig=False),
            "there is no data sheet for NVIDIA RTX A1000",
        ),
        (GpuFacts("NVIDIA A100-SXM4-80GB", None, None, mig=True), "partitioned"),
    ],
)
def test_a_gpu_without_a_ceiling_gets_none_and_the_reason(gpu, why):
    assert why in measured_ceilings.of_machine([gpu], [], 2)


def test_a_known_gpu_is_held_to_its_data_sheet():
    found = measured_ceilings.of_machine([GpuFacts("Tesla T4", None, None, mig=False)], [], 2)
    assert found.bandwidth_bytes_per_s == 320e9

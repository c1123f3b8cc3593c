"""Reading the machine from the texts of /proc and /sys: what is counted, and what is not there."""

import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from enginebench.base.machine_row import MachineRow
from enginebench.metrics import machine_load
from enginebench.watch import our_cpu
from enginebench.watch.machine_load import MachineSampler

HARNESS, ENGINE, WORKER, OTHER = 100, 200, 201, 900


def put(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def stat_text(cpus, forks=1):
    """/proc/stat: each CPU's ticks as user nice system idle iowait irq softirq steal."""
    total = [sum(column) for column in zip(*cpus.values(), strict=True)]
    rows = [("cpu ", total), *((f"cpu{number}", ticks) for number, ticks in cpus.items())]
    lines = [f"{name} {' '.join(map(str, ticks))} 0 0" for name, ticks in rows]
    return "\n".join([*lines, "intr 5 0 0", f"processes {forks}", ""])


def put_process(proc, pid, parent, ticks, session=1, name="python", started=7):
    """``ticks``: utime stime cutime cstime."""
    # Fields 4 to 22 of proc_pid_stat(5): ppid pgrp session tty tpgid flags, 4 faults, the times,
    # priority nice threads itrealvalue starttime.
    values = [parent, pid, session, 0, -1, 0, 0, 0, 0, 0, *ticks, 20, 0, 1, 0, started, 0]
    put(proc / str(pid) / "stat", f"{pid} ({name}) S {' '.join(map(str, values))}\n")


@pytest.fixture
def place(tmp_path):
    """A machine of two CPUs with a harness, an engine it has started, and somebody else."""
    proc = tmp_path / "proc"
    put(
        proc / "stat",
        stat_text({0: [100, 10, 20, 500, 7, 1, 2, 3], 1: [50, 0, 5, 600, 0, 0, 1, 0]}),
    )
    put_process(proc, 1, 0, (5, 5, 0, 0))
    put_process(proc, HARNESS, 1, (10, 2, 3, 1))
    put_process(proc, ENGINE, HARNESS, (30, 4, 0, 0), session=ENGINE)
    put_process(proc, OTHER, 1, (70, 0, 0, 0))
    return tmp_path


def sampler(place, engine_pids=(ENGINE,), cpus=(0, 1)):
    return MachineSampler(
        engine_pids, cpus, proc=place / "proc", sys=place / "sys", harness_pid=HARNESS
    )


def test_busy_is_user_nice_and_system_and_interrupts_and_steal_stand_apart(place):
    row = sampler(place).sample()
    tick_s = our_cpu.TICK_S
    assert row.busy_s == pytest.approx((130 + 55) * tick_s)  # 100+10+20, 50+0+5
    assert row.interrupts_s == pytest.approx(4 * tick_s)  # 1+2, 0+1
    assert (row.iowait_s, row.steal_s) == (pytest.approx(7 * tick_s), pytest.approx(3 * tick_s))
    assert row.cpus == (0, 1)
    assert row.cpu_busy_s == pytest.approx((130 * tick_s, 55 * tick_s))
    assert row.cpu_steal_s == pytest.approx((3 * tick_s, 0.0))


def test_only_the_cpus_of_the_study_are_listed_one_by_one(place):
    row = sampler(place, cpus=(1, 5)).sample()
    assert row.cpus == (1,)  # there is no CPU 5


def test_ours_are_the_harness_and_all_that_it_started_with_children_that_have_ended(place):
    # Harness 10+2+3+1, engine 30+4; not init's 10 nor the other's 70.
    assert sampler(place).sample().ours_s == pytest.approx(50 * our_cpu.TICK_S)


def test_a_process_that_starts_later_is_ours_if_its_parent_is(place):
    reader = sampler(place)
    reader.sample()
    put_process(place / "proc", WORKER, ENGINE, (8, 0, 0, 0), name="a) (b")
    put(place / "proc" / "stat", stat_text({0: [0] * 8}, forks=2))
    assert reader.sample().ours_s == pytest.approx(58 * our_cpu.TICK_S)


def test_a_worker_that_lost_its_parent_is_ours_by_the_engines_session(place):
    put_process(place / "proc", WORKER, 1, (8, 0, 0, 0), session=ENGINE)
    assert sampler(place).sample().ours_s == pytest.approx(58 * our_cpu.TICK_S)


def test_time_of_a_process_that_ends_is_neither_lost_nor_counted_twice(place):
    proc = place / "proc"
    put_process(proc, WORKER, 1, (8, 0, 0, 0), session=ENGINE)  # nobody of ours will wait for it
    reader = sampler(place)
    reader.sample()
    (proc / str(WORKER) / "stat").unlink()
    (proc / str(ENGINE) / "stat").unlink()  # the harness waits for it: 34 ticks go to its children
    put_process(proc, HARNESS, 1, (10, 2, 33, 5))
    assert reader.sample().ours_s == pytest.approx(58 * our_cpu.TICK_S)


def test_a_later_process_of_the_same_number_is_not_ours(place):
    reader = sampler(place)
    reader.sample()
    put_process(place / "proc", HARNESS, 1, (10, 2, 33, 5))
    put_process(place / "proc", ENGINE, 1, (5000, 0, 0, 0), started=99)
    assert reader.sample().ours_s == pytest.approx(50 * our_cpu.TICK_S)


@pytest.mark.parametrize(
    ("group", "file", "text"),
    [
        ("0::/docker/abc", "docker/abc/cpu.stat", "usage_usec 2500000\nuser_usec 1\n"),
        ("4:cpu,cpuacct:/docker/abc", "cpu,cpuacct/docker/abc/cpuacct.usage", "2500000000\n"),
    ],
)
def test_an_engine_in_a_container_is_counted_by_its_control_group(place, group, file, text):
    proc = place / "proc"
    put_process(proc, ENGINE, 1, (30, 4, 0, 0), session=ENGINE)
    put(proc / str(HARNESS) / "cgroup", f"{group.rpartition(':')[0]}:/user.slice\n")
    put(proc / str(ENGINE) / "cgroup", f"{group}\n")
    put(place / "sys" / "fs" / "cgroup" / file, text)
    assert sampler(place).sample().ours_s == pytest.approx(2.5 + 16 * our_cpu.TICK_S)


def test_an_engine_in_the_harness_own_group_is_counted_by_its_processes(place):
    for pid in (HARNESS, ENGINE):
        put(place / "proc" / str(pid) / "cgroup", "0::/user.slice\n")
    put(place / "sys" / "fs" / "cgroup" / "user.slice" / "cpu.stat", "usage_usec 99000000\n")
    assert sampler(place).sample().ours_s == pytest.approx(50 * our_cpu.TICK_S)


def test_of_an_engine_that_cannot_be_seen_nobody_knows_whose_time_is_whose(place):
    assert sampler(place, engine_pids=None).sample().ours_s is None


def test_pressure_is_in_seconds_and_none_without_it(place):
    assert sampler(place).sample().waited_cpu_some_s is None
    line = "avg10=0.00 avg60=0.00 avg300=0.00 total="
    put(place / "proc" / "pressure" / "cpu", f"some {line}4530478\nfull {line}0\n")
    put(place / "proc" / "pressure" / "memory", f"some {line}30\nfull {line}20\n")
    row = sampler(place).sample()
    assert row.waited_cpu_some_s == pytest.approx(4.530478)
    assert row.waited_memory_full_s == pytest.approx(20e-6)
    assert row.waited_io_some_s is None


def test_frequency_is_that_of_cpufreq_else_that_of_cpuinfo(place):
    put(place / "proc" / "cpuinfo", "processor\t: 0\ncpu MHz\t\t: 2500.5\ncpu MHz\t\t: 1500.5\n")
    row = sampler(place).sample()
    assert (row.frequency_min_hz, row.frequency_max_hz) == (1500.5e6, 2500.5e6)
    for cpu, khz in ((0, 800000), (1, 3200000)):
        base = place / "sys" / "devices" / "system" / "cpu" / f"cpu{cpu}" / "cpufreq"
        put(base / "scaling_cur_freq", f"{khz}\n")
    assert sampler(place).sample().frequency_mean_hz == 2.0e9


def test_temperature_is_of_the_hottest_cpu_sensor_and_of_no_other(place):
    assert sampler(place).sample().temperature_c is None
    for number, name, readings in ((0, "nvme", [90000]), (1, "coretemp", [51000, 62500])):
        put(place / "sys" / "class" / "hwmon" / f"hwmon{number}" / "name", f"{name}\n")
        for index, value in enumerate(readings):
            file = f"temp{index + 1}_input"
            put(place / "sys" / "class" / "hwmon" / f"hwmon{number}" / file, f"{value}\n")
    assert sampler(place).sample().temperature_c == 62.5


@pytest.mark.parametrize("text", [None, "", "cpu\ncpu0 x y\n", "cpu 1 2\nprocesses many\n"])
def test_a_machine_that_gives_nothing_readable_gives_nothing_and_no_error(tmp_path, text):
    if text is not None:
        put(tmp_path / "proc" / "stat", text)
    row = sampler(tmp_path).sample()
    assert (row.busy_s, row.cpus, row.waited_cpu_some_s) == (None, (), None)


def test_a_row_is_read_back_as_it_was_written(place):
    row = sampler(place).sample()
    assert msgspec.json.decode(msgspec.json.encode(row), type=MachineRow) == row


@pytest.mark.parametrize(
    "row",
    [
        "7",
        "{}",
        '{"t_s": "1"}',
        '{"t_s": NaN}',
        '{"t_s": 1, "busy_s": true}',
        '{"t_s": 1, "cpus": 3}',
        '{"t_s": 1, "cpus": [0, 1], "cpu_busy_s": [1.0], "cpu_steal_s": [0.0, 0.0]}',
    ],
)
def test_a_row_that_is_none_is_refused(row):
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(row, type=MachineRow)


def test_the_work_of_a_process_outside_our_tree_is_seen_as_others():
    """For real, on this machine: coarse, as others may work here, too."""
    idle = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        outside = MachineSampler((), harness_pid=idle.pid)
        inside = MachineSampler(())
        first = outside.sample(), inside.sample()
        time.sleep(2.0)
        last = outside.sample(), inside.sample()
        used_s = our_cpu.read_stat(Path("/proc"), busy.pid).cpu_s
    finally:
        for process in (idle, busy):
            process.kill()
            process.communicate()
    assert used_s > 0 and os.getpid() != idle.pid
    found = machine_load.figures([first[0], last[0]])
    assert found.others_cores_mean * found.window_s > 0.5 * used_s
    assert last[0].ours_s - first[0].ours_s < 0.5 * used_s
    assert last[1].ours_s - first[1].ours_s > 0.5 * used_s

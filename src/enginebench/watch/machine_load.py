"""Reading the load of the whole machine: CPU time, pressure, frequency, temperature.

Standard library only, from /proc and /sys (proc_stat(5); the kernel's
Documentation/accounting/psi.rst and admin-guide/pm/cpufreq.rst). What is missing there is None.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from enginebench.base.machine_row import MachineRow
from enginebench.watch import our_cpu
from enginebench.watch.our_cpu import TICK_S

INTERVAL_S = 0.5
#: Reading a frequency interrupts that CPU, so not all of a large machine's CPUs are read.
MOST_FREQUENCIES = 16
CPUINFO_EVERY_S = 5.0  # the kernel writes the whole text for each reading
#: Drivers of CPU sensors (drivers/hwmon, drivers/thermal); others belong to disks and power units.
CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "x86_pkg_temp")

_BUSY, _IOWAIT, _INTERRUPTS, _STEAL = (0, 1, 2), 4, (5, 6), 7  # columns of /proc/stat


class MachineSampler:
    """Reads the machine when ``sample`` is called. Not for several threads at once.

    A reading costs a few hundred microseconds of CPU time: /proc/stat, three files of pressure, and
    a file for each process of this study. It looks for new processes only if the kernel has started
    any since the last reading.
    """

    def __init__(
        self,
        engine_pids: Sequence[int] | None,
        cpus: Sequence[int] | None = None,
        *,
        proc: Path = Path("/proc"),
        sys: Path = Path("/sys"),
        harness_pid: int | None = None,
    ) -> None:
        """
        Args:
            engine_pids: the first process of each engine on this machine; () if none runs; None if
                the engine's processes cannot be seen, so that ``ours_s`` is unknown.
            cpus: that the study may use; default: those of this process.
            harness_pid: default: this process.
        """
        self._proc, self._sys = proc, sys
        self._cpus = sorted(os.sched_getaffinity(0)) if cpus is None else sorted(cpus)
        self._is_complete = engine_pids is not None
        harness = os.getpid() if harness_pid is None else harness_pid
        groups = {
            pid: our_cpu.cgroup_file(proc, sys / "fs" / "cgroup", pid, harness)
            for pid in engine_pids or ()
        }
        self._groups = [file for file in groups.values() if file is not None]
        roots = [harness, *(pid for pid, file in groups.items() if file is None)]
        self._trees = our_cpu.ProcessTrees(proc, roots)
        self._forks: int | None = None
        self._frequency_files = _frequency_files(sys, self._cpus)
        self._cpuinfo: tuple[float, ...] = ()
        self._cpuinfo_due_s = 0.0
        self._temperature_files = _temperature_files(sys)

    def sample(self) -> MachineRow:
        """One reading of everything, now."""
        t_s = time.perf_counter()
        ticks, forks = read_stat(self._proc)
        total = ticks.get("cpu")
        seen = [(cpu, ticks[f"cpu{cpu}"]) for cpu in self._cpus if f"cpu{cpu}" in ticks]
        pressure = {name: read_pressure(self._proc, name) for name in ("cpu", "memory", "io")}
        frequencies = self._frequencies(t_s)
        return MachineRow(
            t_s=t_s,
            busy_s=None if total is None else _seconds(total, *_BUSY),
            interrupts_s=None if total is None else _seconds(total, *_INTERRUPTS),
            iowait_s=None if total is None else _seconds(total, _IOWAIT),
            steal_s=None if total is None else _seconds(total, _STEAL),
            cpus=tuple(cpu for cpu, _ in seen),
            cpu_busy_s=tuple(_seconds(row, *_BUSY) for _, row in seen),
            cpu_steal_s=tuple(_seconds(row, _STEAL) for _, row in seen),
            ours_s=self._ours_s(forks),
            waited_cpu_some_s=pressure["cpu"].get("some"),
            waited_memory_some_s=pressure["memory"].get("some"),
            waited_memory_full_s=pressure["memory"].get("full"),
            waited_io_some_s=pressure["io"].get("some"),
            waited_io_full_s=pressure["io"].get("full"),
            frequency_min_hz=min(frequencies, default=None),
            frequency_mean_hz=sum(frequencies) / len(frequencies) if frequencies else None,
            frequency_max_hz=max(frequencies, default=None),
            temperature_c=max(_numbers(self._temperature_files, 1e-3), default=None),
        )

    def _ours_s(self, forks: int | None) -> float | None:
        if not self._is_complete:
            return None
        if forks is None or forks != self._forks:
            self._trees.refresh()
            self._forks = forks
        in_groups = [our_cpu.read_cgroup_s(file) for file in self._groups]
        if None in in_groups:
            return None  # the container has ended
        return round(self._trees.cpu_s() + sum(value or 0.0 for value in in_groups), 6)

    def _frequencies(self, now_s: float) -> tuple[float, ...]:
        if self._frequency_files:
            return _numbers(self._frequency_files, 1e3)
        if now_s >= self._cpuinfo_due_s:
            self._cpuinfo = read_cpuinfo(self._proc)
            self._cpuinfo_due_s = now_s + CPUINFO_EVERY_S
        return self._cpuinfo


def read_stat(proc: Path) -> tuple[dict[str, list[int]], int | None]:
    """Ticks by ``cpu``, ``cpu0``, ..., and the processes and threads started since boot."""
    ticks: dict[str, list[int]] = {}
    forks = None
    try:
        for line in (proc / "stat").read_text().splitlines():
            name, *values = line.split()
            if name.startswith("cpu") and len(values) > _STEAL:
                ticks[name] = [int(value) for value in values]
            elif name == "processes":
                forks = int(values[0])
    except (OSError, ValueError, IndexError):
        return {}, None
    return ticks, forks


def read_pressure(proc: Path, resource: str) -> dict[str, float]:
    """``some`` and ``full`` in seconds since boot; empty if the kernel does not keep them."""
    pressure = {}
    try:
        for line in (proc / "pressure" / resource).read_text().splitlines():
            name, *parts = line.split()
            values = dict(part.split("=", 1) for part in parts)
            pressure[name] = int(values["total"]) * 1e-6
    except (OSError, ValueError, KeyError):
        return {}
    return pressure


def read_cpuinfo(proc: Path) -> tuple[float, ...]:
    """The frequencies in /proc/cpuinfo, in Hz. In a virtual machine often constant."""
    try:
        lines = (proc / "cpuinfo").read_text(errors="replace").splitlines()
        return tuple(
            float(line.partition(":")[2]) * 1e6 for line in lines if line.startswith("cpu MHz")
        )
    except (OSError, ValueError):
        return ()


def _seconds(ticks: Sequence[int], *columns: int) -> float:
    return round(sum(ticks[column] for column in columns) * TICK_S, 6)


def _numbers(files: Sequence[Path], unit: float) -> tuple[float, ...]:
    values = []
    for file in files:
        try:
            values.append(int(file.read_text()) * unit)
        except (OSError, ValueError):
            continue
    return tuple(values)


def _frequency_files(sys: Path, cpus: Sequence[int]) -> list[Path]:
    """The files of at most MOST_FREQUENCIES CPUs, spread over all of them."""
    base = sys / "devices" / "system" / "cpu"
    files = [base / f"cpu{cpu}" / "cpufreq" / "scaling_cur_freq" for cpu in cpus]
    files = [file for file in files if file.exists()]
    return files[:: max(1, -(-len(files) // MOST_FREQUENCIES))]


def _temperature_files(sys: Path) -> list[Path]:
    """The CPU's sensors in hwmon, else in the thermal zones."""
    for pattern, label, readings in (
        ("class/hwmon/hwmon*", "name", "temp*_input"),
        ("class/thermal/thermal_zone*", "type", "temp"),
    ):
        files: list[Path] = []
        for sensor in sorted(sys.glob(pattern)):
            try:
                name = (sensor / label).read_text().strip()
            except OSError:
                continue
            if name in CPU_SENSORS or name.startswith("cpu"):
                files += sorted(sensor.glob(readings))
        if files:
            return files
    return []

"""One reading of the whole machine: what a line of ``machine.jsonl`` holds.

Here, below the stages, because one of them writes it and another one reads it.
"""

from msgspec import Struct


class MachineRow(Struct, frozen=True, kw_only=True, gc=False):
    """The machine's counters at one moment; each only ever grows, from an arbitrary start.

    ``*_s`` of CPU time is in CPU seconds, summed over CPUs. None is "not readable here".
    """

    t_s: float  # clock of the requests (CLOCK_MONOTONIC)
    # Whole machine. Busy is user, nice and system, guests included; interrupts are apart, as they
    # belong to no process.
    busy_s: float | None = None
    interrupts_s: float | None = None
    iowait_s: float | None = None
    steal_s: float | None = None
    # The CPUs that the study may use: their numbers, and of each busy (as above) and steal.
    cpus: tuple[int, ...] = ()
    cpu_busy_s: tuple[float, ...] = ()
    cpu_steal_s: tuple[float, ...] = ()
    ours_s: float | None = None  # harness, load generator and engine; None: the engine is hidden
    # Linux PSI: time in which some, or all, runnable tasks waited for the resource.
    waited_cpu_some_s: float | None = None
    waited_memory_some_s: float | None = None
    waited_memory_full_s: float | None = None
    waited_io_some_s: float | None = None
    waited_io_full_s: float | None = None
    # Over the CPUs that were read, as the kernel states it.
    frequency_min_hz: float | None = None
    frequency_mean_hz: float | None = None
    frequency_max_hz: float | None = None
    temperature_c: float | None = None  # of the hottest CPU sensor

    def __post_init__(self) -> None:
        if len({len(self.cpus), len(self.cpu_busy_s), len(self.cpu_steal_s)}) > 1:
            raise ValueError("cpus, cpu_busy_s and cpu_steal_s are not of one length")

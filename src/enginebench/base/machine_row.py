"""One reading of the whole machine: what a line of ``machine.jsonl`` holds.

Standard library only: whatever reads a record imports it.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from enginebench.base.errors import UserError

_PER_CPU = ("cpus", "cpu_busy_s", "cpu_steal_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineRow:
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

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def from_json(row: Any, where: str) -> MachineRow:
    """A row as it was written; unknown fields are ignored, missing ones are None.

    Args:
        where: file and line, for the message.

    Raises:
        UserError: it is no such row.
    """
    if not isinstance(row, Mapping) or not _is_number(row.get("t_s")):
        raise _bad(where, "an object with a number t_s", row)
    values: dict[str, Any] = {}
    for field in fields(MachineRow):
        value = row.get(field.name)
        if field.name in _PER_CPU:
            if not isinstance(value or [], list) or not all(map(_is_number, value or [])):
                raise _bad(where, f"a list of numbers in {field.name}", value)
            value = tuple(value or ())
        elif value is not None and not _is_number(value):
            raise _bad(where, f"a number or null in {field.name}", value)
        values[field.name] = value
    if len({len(values[name]) for name in _PER_CPU}) > 1:
        raise _bad(where, f"{', '.join(_PER_CPU)} of one length", row)
    return MachineRow(**values)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _bad(where: str, expected: str, found: object) -> UserError:
    return UserError(
        f"{where}: expected {expected}, found {repr(found)[:80]}; "
        "the file was changed after the run: restore it, or run the study again"
    )

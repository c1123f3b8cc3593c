"""How much engine starts differed in an earlier study on this machine."""

import math
from collections.abc import Iterator
from pathlib import Path

import msgspec

from enginebench.base.sample_size import Spread
from enginebench.record import reading
from enginebench.record.schema_study import Machine

RATE = "output_tokens_per_s"
MOST_RECORDS = 20  # looked at, the newest first
LARGEST_SD = 100.0  # of a logarithm: no two starts are so far apart


class _Spread(msgspec.Struct):
    log_sd: float
    df: int


class _Comparison(msgspec.Struct):
    figure: str
    spreads: list[_Spread] = []


class _Derived(msgspec.Struct):
    """The part of ``metrics_data.json`` that is used."""

    comparisons: list[_Comparison] = []


class _Gpu(msgspec.Struct):
    name: str | None = None


class _Machine(msgspec.Struct):
    """The part of ``study.json`` by which machines differ; a record may lack any of it."""

    cpu: str | None = None
    cpus: int | None = None
    memory_bytes: int | None = None
    gpus: list[_Gpu] = []


class _Head(msgspec.Struct):
    started_at: str = ""
    machine: _Machine = msgspec.field(default_factory=_Machine)


def between_starts(results: Path, machine: Machine) -> Spread | None:
    """The spread of output tokens/s between starts, pooled over all levels of the newest record.

    Args:
        results: where records are kept; only those of the same machine are used.
        machine: this machine.

    Returns:
        None: no record of this machine has two starts of a variant.
    """
    for directory in _newest(results, machine):
        try:
            file = directory / "derived" / "metrics_data.json"
            derived = reading.read_document(file, _Derived)
        except reading.RecordError:
            continue
        all_spreads = [s for c in derived.comparisons if c.figure == RATE for s in c.spreads]
        spreads = [s for s in all_spreads if s.df > 0 and 0 <= s.log_sd < LARGEST_SD]  # made up?
        if freedom := sum(spread.df for spread in spreads):
            pooled = math.sqrt(sum(s.df * s.log_sd**2 for s in spreads) / freedom)
            return Spread(pooled, f"between the starts of {directory.name}", True)
    return None


def _newest(results: Path, machine: Machine) -> Iterator[Path]:
    records = []
    for file in results.glob("*/study.json"):
        try:
            head = reading.read_document(file, _Head)
        except reading.RecordError:
            continue
        if _is_same(head.machine, machine):
            records.append((head.started_at, file.parent))
    yield from (directory for _, directory in sorted(records, reverse=True)[:MOST_RECORDS])


def _is_same(recorded: _Machine, machine: Machine) -> bool:
    """Whether both have the same processors, memory and GPUs."""
    theirs = (recorded.cpu, recorded.cpus, recorded.memory_bytes)
    return theirs == (machine.cpu, machine.cpus, machine.memory_bytes) and (
        [gpu.name for gpu in recorded.gpus] == [gpu.name for gpu in machine.gpus]
    )

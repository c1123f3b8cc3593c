"""How much engine starts differed in an earlier study on this machine."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from enginebench.base.sample_size import Spread
from enginebench.record import reading
from enginebench.run.noise_probe import is_same_machine

RATE = "output_tokens_per_s"
MOST_RECORDS = 20  # looked at, the newest first


class _Spread(msgspec.Struct):
    log_sd: float
    df: int


class _Comparison(msgspec.Struct):
    figure: str
    spreads: list[_Spread] = []


class _Derived(msgspec.Struct):
    """The part of ``metrics_data.json`` that is needed here."""

    comparisons: list[_Comparison] = []


class _Head(msgspec.Struct):
    started_at: str = ""
    machine: dict[str, Any] = {}


def between_starts(results: Path, machine: Mapping[str, Any]) -> Spread | None:
    """The spread of output tokens/s between starts, pooled over all levels of the newest record.

    Args:
        results: where records are kept; only those of the same machine are used.
        machine: this machine (``machine.facts``).

    Returns:
        None: no record of this machine has two starts of a variant.
    """
    for directory in _newest(results, machine):
        try:
            file = directory / "derived" / "metrics_data.json"
            derived = reading.read_document(file, _Derived)
        except reading.RecordError:
            continue
        spreads = [s for c in derived.comparisons if c.figure == RATE for s in c.spreads if s.df]
        if freedom := sum(spread.df for spread in spreads):
            pooled = math.sqrt(sum(s.df * s.log_sd**2 for s in spreads) / freedom)
            return Spread(pooled, f"between the starts of {directory.name}", True)
    return None


def _newest(results: Path, machine: Mapping[str, Any]) -> Iterator[Path]:
    found = []
    for file in results.glob("*/study.json"):
        try:
            head = reading.read_document(file, _Head)
        except reading.RecordError:
            continue
        if is_same_machine(head.machine, machine):
            found.append((head.started_at, file.parent))
    yield from (directory for _, directory in sorted(found, reverse=True)[:MOST_RECORDS])

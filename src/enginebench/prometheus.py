"""Prometheus text, as engines print it, into our names. Pure."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

Metrics = dict[str, float | None]  # our name -> value


def parse(text: str) -> dict[str, float]:
    """Sample values by name, series of one name added up; a broken page gives what precedes it."""
    samples: dict[str, float] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if math.isfinite(sample.value):
                    samples[sample.name] = samples.get(sample.name, 0.0) + sample.value
    except ValueError:
        pass  # half a line, not a number: the page was cut off or is not Prometheus text
    return samples


def read(scrape: Mapping[str, Any], names: Mapping[str, Sequence[str]]) -> Metrics:
    """Our metrics from one scrape; None for what the engine did not print, or did not answer.

    Args:
        scrape: a row of scrapes.jsonl.gz.
        names: our name -> the engine's names for it, the first one present is read.
    """
    samples = parse(scrape["text"]) if scrape["status"] == 200 and scrape["text"] else {}
    found: dict[str, float | None] = {}
    for ours, theirs in names.items():
        found[ours] = next((samples[name] for name in theirs if name in samples), None)
    return found


def difference(first: Mapping[str, Any], last: Mapping[str, Any], name: str) -> float | None:
    """How much a counter grew; None if it is absent or was reset in between."""
    start, end = first.get(name), last.get(name)
    if start is None or end is None or end < start:
        return None
    return float(end - start)

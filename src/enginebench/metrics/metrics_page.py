"""A metrics page, as engines print it, into our names. Pure.

Most engines print Prometheus text. A page that is a JSON list holds one object an iteration of the
engine, oldest first, each handed out once; its last one is the present.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

Metrics = dict[str, float | None]  # our name -> value


def parse(text: str) -> list[Sample]:
    """All samples with a finite value; a broken page gives what precedes the break.

    Fields of nested JSON objects are named ``outer.inner``.
    """
    if text.lstrip().startswith("["):
        return _parse_json(text)
    samples: list[Sample] = []
    try:
        for family in text_string_to_metric_families(text):
            samples += [sample for sample in family.samples if math.isfinite(sample.value)]
    except ValueError:
        pass  # half a line, not a number: the page was cut off or is not Prometheus text
    return samples


def _parse_json(text: str) -> list[Sample]:
    try:
        rows = json.loads(text)
        last = rows[-1] if rows and isinstance(rows[-1], dict) else {}
        return [Sample(name, {}, value) for name, value in _flat(last) if math.isfinite(value)]
    except (ValueError, RecursionError, OverflowError):  # too deep, too large to be a metric
        return []


def _flat(fields: Mapping[str, Any], outer: str = "") -> Iterator[tuple[str, float]]:
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{outer}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{outer}{name}", float(value)


def gauges(scrape: Mapping[str, Any], names: Mapping[str, Sequence[str]]) -> Metrics:
    """``read``, of the lines that bear one of the names only: a hundredth of the work.

    For a look while an engine is being measured; a report reads whole pages.
    """
    text = scrape["text"]
    if text and not text.lstrip().startswith("["):
        terms = (term for theirs in names.values() for name in theirs for term in name.split("*"))
        wanted = tuple(term.partition("[")[0] for term in terms)
        lines = [line for line in text.splitlines() if line.startswith(wanted)]
        text = "\n".join(lines) + "\n"
    return read(scrape["status"], text, names)


def read(status: int | None, text: str | None, names: Mapping[str, Sequence[str]]) -> Metrics:
    """Our metrics from one scrape; None for what the engine did not print, or did not answer.

    Args:
        status, text: of a row of scrapes.jsonl.gz.
        names: our name -> the engine's names for it, the first one present is read;
            ``dialect.Dialect.metrics`` says what form a name may have.
    """
    samples = parse(text) if status == 200 and text else []
    found: Metrics = {}
    for ours, theirs in names.items():
        values = (_value(samples, name) for name in theirs)
        found[ours] = next((value for value in values if value is not None), None)
    return found


def _value(samples: Sequence[Sample], expression: str) -> float | None:
    """``name``, ``name[label]``, or a product of such: ``name[label]*name[label]``."""
    factors = [_factor(samples, term) for term in expression.split("*")]
    known = [factor for factor in factors if factor is not None]
    return math.prod(known) if len(known) == len(factors) else None


def _factor(samples: Sequence[Sample], term: str) -> float | None:
    name, _, label = term.rstrip("]").partition("[")
    values = [
        _number(sample.labels.get(label)) if label else float(sample.value)
        for sample in samples
        if sample.name == name
    ]
    values = [value for value in values if not math.isnan(value)]
    return math.fsum(values) if values else None


def _number(text: str | None) -> float:
    """A label's value as a number; NaN where it is none."""
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def difference(first: Mapping[str, Any], last: Mapping[str, Any], name: str) -> float | None:
    """How much a counter grew; None if it is absent or was reset in between."""
    start, end = first.get(name), last.get(name)
    if start is None or end is None or end < start:
        return None
    return float(end - start)

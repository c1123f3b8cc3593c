"""A metrics page, as engines print it, into our names. Pure.

Most engines print Prometheus text. A page that is a JSON list holds one object an iteration of the
engine, oldest first, each handed out once; its last one is the present.
"""

import io
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client.parser import text_fd_to_metric_families
from prometheus_client.samples import Sample

from enginebench.engines.dialect import SAME, SHARE
from enginebench.metrics.figures import Figures

Metrics = dict[str, float | None]  # our name -> value

# No engine prints as much, and a parser may need the square of it.
MOST_LINES = 200_000
LONGEST_LINE = 1 << 14  # characters
MOST_SERIES = 1024  # of one name: engines on one page, their ranks and models
LARGEST = 2.0**63  # of a value: counts, bytes and shares are below it
SMALLEST = 1e-9  # nor is one nearer to 0, but 0
LARGEST_BLOCK = 1 << 20  # tokens


def parse(text: str) -> list[Sample]:
    """All samples, NaN and infinite ones too.

    A broken page gives what precedes the break, and so does one of more or longer lines than
    engines print. Fields of nested JSON objects are named ``outer.inner``.
    """
    if text.lstrip().startswith("["):
        return _parse_json(text)
    samples: list[Sample] = []
    try:
        lines = itertools.islice(io.StringIO(text), MOST_LINES)
        short = itertools.takewhile(lambda line: len(line) <= LONGEST_LINE, lines)
        for family in text_fd_to_metric_families(short):  # type: ignore[arg-type]
            samples += family.samples
    except (ValueError, LookupError, ArithmeticError):
        pass  # half a line, not a number: the page was cut off or is not Prometheus text
    return samples


def _parse_json(text: str) -> list[Sample]:
    try:
        rows = json.loads(text)
        last = rows[-1] if rows and isinstance(rows[-1], dict) else {}
        return [Sample(name, {}, value) for name, value in _flat(last)]
    except (ValueError, OverflowError, RecursionError):  # no JSON, or absurd numbers or depth
        return []


def _flat(fields: Mapping[str, object], outer: str = "") -> Iterator[tuple[str, float]]:
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{outer}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{outer}{name}", float(value)


def gauges(status: int | None, text: str | None, names: Mapping[str, Sequence[str]]) -> Metrics:
    """``read``, of the lines that bear one of the names only: a hundredth of the work.

    For a look while an engine is being measured; a report reads whole pages.
    """
    if text and not text.lstrip().startswith("["):
        terms = (term for theirs in names.values() for name in theirs for term in name.split("*"))
        wanted = tuple(term.partition("[")[0] for term in terms)
        lines = [line for line in text.splitlines() if line.startswith(wanted)]
        text = "\n".join(lines) + "\n"
    return read(status, text, names)


def read(
    status: int | None,
    text: str | None,
    names: Mapping[str, Sequence[str]],
    kept_back: int = 0,
) -> Metrics:
    """Our metrics from one scrape; None for what the engine did not print, or did not answer.

    Args:
        status, text: of a row of scrapes.jsonl.gz.
        names: our name -> the engine's names for it, the first one present is read;
            ``dialect.Dialect.metrics`` says what form a name may have.
        kept_back: blocks that each engine on the page keeps for itself; with it the page has
            ``kv_kept_back_tokens``, too.
    """
    samples = parse(text) if status == 200 and text else []
    series = {ours: _first_present(samples, theirs) for ours, theirs in names.items()}
    found: Metrics = {ours: _total(own) for ours, own in series.items()}
    if SAME in found:
        found[SAME] = _same(series[SAME])
    kept_back_tokens = kept_back * (found.get(SAME) or 0.0)
    capacities = series.get("kv_capacity_tokens", [])
    if kept_back_tokens:
        found["kv_kept_back_tokens"] = kept_back_tokens * len(capacities)
    if SHARE in found:
        usable = [(labels, tokens - kept_back_tokens) for labels, tokens in capacities]
        found[SHARE] = _weighted_mean(series[SHARE], usable)
    return {name: _possible(value) for name, value in found.items()}


Labels = Mapping[str, str]
Series = list[tuple[Labels, float]]  # one entry a series; NaN where it is not a finite number


def _first_present(samples: Sequence[Sample], names: Sequence[str]) -> Series:
    """The series of the first name with a number."""
    found = (_series(samples, name) for name in names)
    return next((own for own in found if any(math.isfinite(value) for _, value in own)), [])


def _series(samples: Sequence[Sample], expression: str) -> Series:
    """``name``, ``name[label]``, or a product of such, series by series."""
    first, *others = (_factor(samples, term) for term in expression.split("*"))
    for other in others:
        first = [(labels, value * _partner(labels, other)) for labels, value in first]
    return first


def _factor(samples: Sequence[Sample], term: str) -> Series:
    name, _, label = term.rstrip("]").partition("[")
    found: Series = [
        (s.labels, _number(s.labels.get(label) if label else s.value))
        for s in itertools.islice((s for s in samples if s.name == name), MOST_SERIES + 1)
    ]
    return found if len(found) <= MOST_SERIES else []


def _partner(labels: Labels, others: Series) -> float:
    """The value of the one series that agrees in all labels that both have; NaN: not just one."""
    found = [
        value
        for theirs, value in others
        if all(theirs[name] == labels[name] for name in labels.keys() & theirs.keys())
    ]
    return found[0] if len(found) == 1 else math.nan


def _total(series: Series) -> float | None:
    """The sum; None where there is no series, or one of them is no number."""
    return _sum(value for _, value in series) if _is_known(series) else None


def _same(series: Series) -> float | None:
    """The one value of all; None where they differ, or it is no number of tokens of a block."""
    values = {value for _, value in series}
    (value, *others) = values or {math.nan}
    is_block = not others and 1 <= value <= LARGEST_BLOCK and value.is_integer()
    return value if is_block else None


def _weighted_mean(series: Series, weights: Series) -> float | None:
    """Weighted with each series' partner; the plain mean where one of them has none."""
    if not _is_known(series):
        return None
    by = [_partner(labels, weights) for labels, _ in series]
    if not all(math.isfinite(weight) and weight > 0 for weight in by):
        by = [1.0] * len(series)
    return _sum(w * value for w, (_, value) in zip(by, series, strict=True)) / _sum(by)


def _sum(values: Iterable[float]) -> float:
    """Exactly rounded; NaN where it is beyond any number."""
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):  # ValueError: infinities of both signs
        return math.nan


def _is_known(series: Series) -> bool:
    return bool(series) and all(math.isfinite(value) for _, value in series)


def _number(value: str | float | None) -> float:
    """A number of a page, or in a label; NaN where it is none."""
    try:
        return math.nan if value is None else float(value)
    except (ValueError, OverflowError):  # OverflowError: hundreds of digits
        return math.nan


def _possible(value: float | None) -> float | None:
    """What a metric of ours can be; None for what none can."""
    if value is None or not (value == 0 or SMALLEST <= value <= LARGEST):  # NaN, too
        return None
    return value


def difference(first: Figures, last: Figures, name: str) -> float | None:
    """How much a counter grew; None if it is absent or was reset in between."""
    start, end = first.get(name), last.get(name)
    if start is None or end is None or end < start:
        return None
    return float(end - start)

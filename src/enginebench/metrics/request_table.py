"""The measured requests of a cell in columns: a million fit, as their JSON does not. Pure."""

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enginebench.record.schema import Request

Times = NDArray[np.float64]
Counts = NDArray[np.int32]

UNKNOWN = -1  # a count that the engine does not say
EVENTS_AT_ONCE = 1_000_000  # of intermediate results, so that they stay small beside the columns

TIMES = ("planned_s", "sent_s", "end_s", "first_text_s", "last_text_s")
COUNTS = (
    "prompt_tokens_asked",
    "output_tokens_asked",
    "prompt_tokens",
    "output_tokens",
    "text_tokens",
    "cached_tokens",
)


@dataclass(frozen=True, slots=True)
class Columns:
    """One entry a request, in the record's order; NaN and UNKNOWN are "not measured"."""

    planned_s: Times
    sent_s: Times
    end_s: Times
    first_text_s: Times  # arrival of the first event that shows text
    last_text_s: Times  # and of the last one
    prompt_tokens_asked: Counts
    output_tokens_asked: Counts
    prompt_tokens: Counts  # as the engine counts them
    output_tokens: Counts
    text_tokens: Counts
    cached_tokens: Counts  # of the prompt, from a prefix cache
    is_failed: NDArray[np.bool_]
    starts: NDArray[np.int64]  # of each request's events in the two columns below; and their end
    event_s: Times  # one entry an event
    event_tokens: Counts

    def __len__(self) -> int:
        return len(self.sent_s)

    @property
    def first_s(self) -> Times:
        """Arrival of each request's first event, text or not."""
        return self._event_at(self.starts[:-1])

    @property
    def last_s(self) -> Times:
        """Arrival of each request's last event: of its last token."""
        return self._event_at(self.starts[1:] - 1)

    @property
    def is_counted(self) -> NDArray[np.bool_]:
        """Whether each request has events, all of them of known size."""
        counted = np.diff(self.starts) > 0
        unknown = np.flatnonzero(self.event_tokens == UNKNOWN)
        counted[np.searchsorted(self.starts, unknown, side="right") - 1] = False
        return counted

    def _event_at(self, index: NDArray[np.int64]) -> Times:
        found = np.full(len(self), math.nan)
        has_any = np.diff(self.starts) > 0
        found[has_any] = self.event_s[index[has_any]]
        return found

    def parts(self) -> Iterator[slice]:
        """The requests in pieces of about EVENTS_AT_ONCE events."""
        begin = 0
        while begin < len(self):
            limit = self.starts[begin] + EVENTS_AT_ONCE
            end = max(int(np.searchsorted(self.starts, limit, side="right")) - 1, begin + 1)
            yield slice(begin, end)
            begin = end

    def events(self, part: slice) -> slice:
        """The events of a piece."""
        return slice(int(self.starts[part.start]), int(self.starts[part.stop]))

    def of_events(self, values: NDArray[Any], part: slice) -> NDArray[Any]:
        """A column of requests, once for each event of a piece."""
        counts = np.diff(self.starts[part.start : part.stop + 1])
        return np.repeat(values[part], counts)

    def is_first(self, part: slice) -> NDArray[np.bool_]:
        """Whether each event of a piece is its request's first."""
        starts = self.starts[part.start : part.stop + 1]
        first = np.zeros(int(starts[-1] - starts[0]), dtype=bool)
        first[(starts[:-1] - starts[0])[np.diff(starts) > 0]] = True
        return first


def gather(rows: Iterable[Request]) -> Columns:
    """Read rows one by one and keep their figures only."""
    times, counts = array("d"), array("i")  # the columns of requests, row by row
    event_s, event_tokens = array("d"), array("i")
    failed, starts = array("b"), array("q", [0])
    for row in rows:
        first_s, last_s = _shown(row.event_s, row.event_chars)
        known_s = (row.planned_s, row.sent_s, row.end_s, first_s, last_s)
        times.fromlist([math.nan if time_s is None else time_s for time_s in known_s])
        known = (
            row.prompt_tokens_asked,
            row.output_tokens_asked,
            row.prompt_tokens,
            row.output_tokens,
            row.text_tokens,
            row.cached_tokens,
        )
        counts.fromlist([UNKNOWN if count is None else count for count in known])
        event_s.fromlist(row.event_s)
        event_tokens.fromlist(_all_known(row.event_tokens))
        failed.append(row.error is not None)
        starts.append(len(event_s))
    return Columns(
        **_by_name(TIMES, as_numbers(times)),
        **_by_name(COUNTS, np.frombuffer(counts, dtype=np.int32)),
        is_failed=np.frombuffer(failed, dtype=np.bool_),
        starts=np.frombuffer(starts, dtype=np.int64),
        event_s=as_numbers(event_s),
        event_tokens=np.frombuffer(event_tokens, dtype=np.int32),
    )


def _by_name(names: Sequence[str], values: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Values that stand row by row, in columns."""
    columns = np.ascontiguousarray(values.reshape(-1, len(names)).T)
    return dict(zip(names, columns, strict=True))


def _all_known(counts: list[int | None]) -> list[int]:
    if None in counts:
        return [UNKNOWN if count is None else count for count in counts]
    return counts  # type: ignore[return-value]


def as_numbers(values: "array[float]") -> Times:
    """The same memory as an array of numbers."""
    return np.frombuffer(values, dtype=np.float64)


def _shown(event_s: Sequence[float], event_chars: Sequence[int]) -> tuple[float, float]:
    """Arrival of the first and the last event with text: one that shows nothing is no answer."""
    if event_chars and event_chars[0] and event_chars[-1]:
        return event_s[0], event_s[-1]
    shown = [time_s for time_s, count in zip(event_s, event_chars, strict=False) if count]
    return (shown[0], shown[-1]) if shown else (math.nan, math.nan)

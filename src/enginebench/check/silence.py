"""Whether an engine fell silent: requests in flight, and not one event for any of them. Pure.

Of an engine that was stopped, or a machine that was paused, every token is right and every figure
too low; only the gap shows it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from enginebench.check.findings import Finding
from enginebench.metrics.request_table import Columns, Times

LEAST_S = 5.0  # a shorter gap is never a silence
TIMES_USUAL = 20.0  # nor is one that is not so many times the cell's own gaps
USUAL_QUANTILE = 0.99
BIN_S = LEAST_S / 4
MOST_BINS = 10_000_000


@dataclass(frozen=True, slots=True)
class Silence:
    """A time without any event while requests were in flight."""

    start_s: float
    length_s: float
    usual_s: float  # what such a gap takes in this cell

    @property
    def is_odd(self) -> bool:
        return self.length_s > max(LEAST_S, TIMES_USUAL * self.usual_s)


def longest(requests: Columns) -> Silence | None:
    """The longest silence of a cell that its own gaps do not explain; None: there is none.

    A gap is the time from one event of any request (its sending, an arrival, its end) to the next,
    while at least one is in flight. What is usual depends on what the gap was spent on:

    - every request in flight has had its first token: the 99th percentile of such gaps;
    - some request waits for its first token: the same, or the lower quartile of all TTFTs where it
      is longer, as a prefill may hold up everybody.
    """
    if not _may_be_silent(requests):
        return None
    known = ~np.isnan(requests.sent_s) & ~np.isnan(requests.end_s)
    sent_s, end_s = requests.sent_s[known], requests.end_s[known]
    first_s = requests.first_s[known]
    first_s = np.where(np.isnan(first_s), end_s, first_s)
    moments = np.unique(np.concatenate([sent_s, end_s, requests.event_s]))
    before, gaps = moments[:-1], np.diff(moments)
    is_waiting = _open(sent_s, first_s, before) > 0
    is_decoding = ~is_waiting & (_open(sent_s, end_s, before) > 0)
    ttft_s = float(np.quantile(first_s - sent_s, 0.25))
    found = [
        silence
        for mask, least_usual_s in ((is_decoding, 0.0), (is_waiting, ttft_s))
        if (silence := _longest(before[mask], gaps[mask], least_usual_s)) and silence.is_odd
    ]
    return max(found, key=lambda silence: silence.length_s, default=None)


def _longest(before: Times, gaps: Times, least_usual_s: float) -> Silence | None:
    if not len(gaps):
        return None
    worst = int(np.argmax(gaps))
    others = np.delete(gaps, worst)
    usual_s = float(np.quantile(others, USUAL_QUANTILE)) if len(others) else 0.0
    return Silence(float(before[worst]), float(gaps[worst]), max(usual_s, least_usual_s))


def _open(starts: Times, ends: Times, at: Times) -> NDArray[np.int64]:
    """How many intervals have begun and not ended, right after each moment."""
    begun = np.searchsorted(np.sort(starts), at, "right")
    return begun - np.searchsorted(np.sort(ends), at, "right")


def _may_be_silent(requests: Columns) -> bool:
    """Whether any gap at all is long enough: without sorting millions of events."""
    known = ~np.isnan(requests.sent_s) & ~np.isnan(requests.end_s)
    if not known.any():
        return False
    begin_s = float(requests.sent_s[known].min())
    bins = (float(requests.end_s[known].max()) - begin_s) / BIN_S + 1
    if bins > MOST_BINS:
        return True
    has_event = np.zeros(int(max(bins, 0)) + 1, dtype=bool)
    for part in requests.parts():
        times = requests.event_s[requests.events(part)]
        index = ((times - begin_s) / BIN_S).astype(np.int64)
        has_event[index[(index >= 0) & (index < len(has_event))]] = True
    edges = np.flatnonzero(np.concatenate([[True], has_event, [True]]))
    return bool((np.diff(edges) - 1).max() >= 2)  # a gap of LEAST_S leaves three bins empty


def findings(requests: Columns, scrape_errors: Sequence[str | None]) -> Iterator[Finding]:
    """What silences say of a cell.

    Args:
        scrape_errors: of each reading of the metrics page, why it failed; None: it did not.
    """
    found = longest(requests)
    if found is not None:
        began_s = found.start_s - float(np.nanmin(requests.sent_s))
        text = (
            f"no request in flight had an event for {found.length_s:.1f} s, from {began_s:.1f} s "
            f"into the cell; {found.usual_s:.2g} s is usual in it"
        )
        advice = "was the engine or the machine stopped? measure again"
        yield Finding("silence", "suspect", text, None, advice)
    slow = [error for error in scrape_errors if error and error.startswith("Timeout")]
    if slow:
        text = (
            f"{len(slow)} of {len(scrape_errors)} readings of the engine's metrics got no answer "
            f"in time: {slow[0]}"
        )
        yield Finding("silence", "suspect", text, None, "was the engine stopped, or overloaded?")

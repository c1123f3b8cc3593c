"""The KV cache as the client's own log shows it. Pure.

A request in generation holds its prompt and all tokens it has made but the newest, whose keys and
values are computed with the next one. It is counted from its first token to its last, so that a
prompt in the works is left out: never more than is really held, unless the engine preempted the
request in between. A request with an event of unknown size is left out.
"""

from array import array
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from enginebench.metrics.request_table import Columns, Counts, Times

Tokens = NDArray[np.int64]

SLICES = 16  # of the time of a large cell, sorted one by one
LARGE = 4_000_000  # events


def changes(found: Columns, block_tokens: int = 1) -> Iterator[tuple[Times, Tokens]]:
    """The tokens that are held more, or fewer, from each event on; in pieces.

    Args:
        block_tokens: each request is rounded up to whole blocks of so many tokens.
    """
    is_counted = found.is_counted
    for part in found.parts():
        events, is_first = found.events(part), found.is_first(part)
        tokens = found.event_tokens[events].astype(np.int64)
        if not len(tokens):
            continue
        starts = np.flatnonzero(is_first)
        counts = np.diff(starts, append=len(tokens))
        made = np.cumsum(tokens)
        before = np.repeat(made[starts] - tokens[starts], counts)
        held = made - before + found.of_events(found.prompt_tokens_asked, part) - 1
        held = -(-held // block_tokens) * block_tokens
        held[starts + counts - 1] = 0  # with its last token a request gives everything back
        held[~found.of_events(is_counted, part)] = 0
        yield found.event_s[events], np.diff(held, prepend=0)


def at(moments_s: ArrayLike, found: Columns, block_tokens: int = 1) -> Tokens:
    """Tokens held at some moments, ascending: what has changed up to and with each of them."""
    moments = np.asarray(moments_s, dtype=np.float64)
    grown = np.zeros(len(moments) + 1, dtype=np.int64)
    for times, more in changes(found, block_tokens):
        np.add.at(grown, np.searchsorted(moments, times, side="left"), more)
    return np.cumsum(grown)[:-1]


def tokens_in_flight_peak(found: Columns) -> int | None:
    """The most tokens held at once; None where no request made a token whose count is known."""
    if not found.is_counted.any():
        return None
    kept = array("i")
    for _, more in changes(found):
        kept.frombytes(more.astype(np.int32).tobytes())
    steps = np.frombuffer(kept, dtype=np.int32)
    held = peak = 0
    for of_slice in _slices(found.event_s):
        now = held + _after_each_moment(found.event_s[of_slice], steps[of_slice])
        held, peak = int(now[-1]), max(peak, int(now.max()))
    return peak


def _after_each_moment(times: Times, steps: Counts) -> Tokens:
    """The sum of all steps up to and with each moment, ascending.

    Of two steps at one moment, what is given back goes first. So no sum inside a moment exceeds
    both the one before it and the one after it.
    """
    order = np.argsort(times)
    times = times[order]
    is_last = np.append(times[1:] != times[:-1], True)
    after: Tokens = np.cumsum(steps[order], dtype=np.int64)[is_last]
    return after


def _slices(times: Times) -> Iterator[NDArray[np.bool_] | slice]:
    """All events, or those of one stretch of time after the other."""
    if len(times) < LARGE:
        yield slice(None)
        return
    some = times[:: len(times) // 10_000 or 1]
    edges = [-np.inf, *np.unique(np.quantile(some, np.arange(1, SLICES) / SLICES)), np.inf]
    for low, high in pairwise(edges):
        chosen = times >= low
        chosen &= times < high
        if chosen.any():
            yield chosen

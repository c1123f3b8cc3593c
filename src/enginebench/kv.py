"""The KV cache as the client's own log shows it. Pure."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from enginebench.measure import Row

Times = NDArray[np.float64]
Tokens = NDArray[np.int64]


def tokens_in_flight(rows: Sequence[Row], block_tokens: int = 1) -> tuple[Times, Tokens]:
    """The tokens whose keys and values an engine must be holding, as a step function of time.

    A request in generation holds its prompt and all tokens it has made but the newest, whose keys
    and values are computed with the next one. It is counted from its first token to its last, so
    that a prompt in the works is left out: never more than is really held, unless the engine
    preempted the request in between.

    Args:
        block_tokens: each request is rounded up to whole blocks of so many tokens.

    Returns:
        Times in s, ascending, and the tokens held from each time to the next; both empty where no
        request made a token.
    """
    times: list[float] = []
    changes: list[int] = []
    for row in rows:
        if not row["event_s"] or None in row["event_tokens"]:
            continue
        held = np.cumsum(row["event_tokens"]) + row["prompt_tokens_asked"] - 1
        held = -(-held // block_tokens) * block_tokens
        held[-1] = 0  # with its last token a request gives everything back
        times += row["event_s"]
        changes += np.diff(held, prepend=0).tolist()
    order = np.lexsort((changes, times))  # of two at one time, what is given back goes first
    steps = np.asarray(changes, dtype=np.int64)[order]
    return np.asarray(times, dtype=np.float64)[order], np.cumsum(steps)


def at(moments_s: ArrayLike, times_s: Times, tokens: Tokens) -> Tokens:
    """A step function read at some moments: the value since the last step; 0 before the first."""
    index = np.searchsorted(times_s, np.asarray(moments_s, dtype=np.float64), side="right")
    return np.concatenate([np.zeros(1, dtype=np.int64), tokens])[index]


def tokens_in_flight_peak(rows: Sequence[Row]) -> int | None:
    """The most tokens held at once; None where no request made a token."""
    _, tokens = tokens_in_flight(rows)
    return int(tokens.max()) if len(tokens) else None

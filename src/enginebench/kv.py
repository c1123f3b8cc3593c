"""The KV cache as the client's own log shows it. Pure."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from enginebench.measure import Row


def tokens_in_flight(rows: Sequence[Row]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The tokens whose keys and values an engine must be holding, as a step function of time.

    A request in generation holds its prompt and all tokens it has made but the newest, whose keys
    and values are computed with the next one. It is counted from its first token to its last, so
    that a prompt in the works is left out: never more than is really held, unless the engine
    preempted the request in between.

    Returns:
        Times in s, ascending, and the tokens held from each time to the next; both empty where no
        request made a token.
    """
    times: list[float] = []
    changes: list[int] = []
    for row in rows:
        if not row["event_s"] or None in row["event_tokens"]:
            continue
        gained = [row["prompt_tokens_asked"] - 1, *([0] * (len(row["event_s"]) - 1))]
        gained = [more + tokens for more, tokens in zip(gained, row["event_tokens"], strict=True)]
        gained[-1] -= sum(gained)
        times += row["event_s"]
        changes += gained
    order = np.lexsort((changes, times))  # of two at one time, what is given back goes first
    steps = np.asarray(changes, dtype=np.int64)[order]
    return np.asarray(times, dtype=np.float64)[order], np.cumsum(steps)


def tokens_in_flight_peak(rows: Sequence[Row]) -> int | None:
    """The most tokens held at once; None where no request made a token."""
    _, tokens = tokens_in_flight(rows)
    return int(tokens.max()) if len(tokens) else None

"""What the load generator says of itself: figures of a cell, from its own notes. Pure.

A client is part of what it measures. Its error is of two kinds: times it stamps late, and requests
it sends late, which make the load smaller than it is said to be.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from enginebench.load.exchange import Exchange
from enginebench.load.spec import LoadResult

Figures = dict[str, Any]


def figures(taken: LoadResult) -> Figures:
    """The client's own figures of one load; times in seconds, None is "not measured".

    stamps: "kernel" (arrivals are stamped by the kernel), "client" (when it had read them) or
    "both". lag_s: how late the loop came to a moment it had set itself, every 5 ms.
    send_late_s: from the moment a request could go (due, and a stream free) to its sending.
    receive_late_s: from the kernel's stamp of a piece to its reading. busy_ratio: the time in which
    requests were in flight, over the same and the time in which they were sent late.
    """
    own = taken.own
    sent = [e for e in taken.exchanges if e.sent_s is not None]
    pieces, stamped = sum(o.pieces for o in own), sum(o.pieces_stamped for o in own)
    errors_ns = [o.clock_error_ns for o in own if o.clock_error_ns is not None]
    started_s, ended_s = min(o.started_s for o in own), max(o.ended_s for o in own)
    send_late = np.array([(e.sent_s or 0.0) - (e.ready_s or 0.0) for e in sent])
    in_flight_s = float(sum((e.end_s or 0.0) - (e.sent_s or 0.0) for e in sent))
    late_s = float(send_late.sum())
    lags = np.concatenate([np.asarray(o.lag_s) for o in own])
    return {
        "stamps": _stamps(pieces, stamped),
        "clock_error_s": max(errors_ns) / 1e9 if errors_ns and stamped else None,
        "processes": len(own),
        "streams": sum(o.streams for o in own),
        "connections": sum(o.connections for o in own),
        "pieces": pieces,
        "cpu_s": sum(o.cpu_s for o in own),
        "cpu_ratio": _ratio(sum(o.cpu_s for o in own), (ended_s - started_s) * len(own)),
        "busy_ratio": _ratio(in_flight_s, in_flight_s + late_s),
        **_spread("lag_s", lags),
        **_spread("send_late_s", send_late),
        **_spread("receive_late_s", _receive_late(taken.exchanges) if stamped else np.empty(0)),
    }


def _stamps(pieces: int, stamped: int) -> str | None:
    if not pieces:
        return None
    return "kernel" if stamped == pieces else "both" if stamped else "client"


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None


def _receive_late(exchanges: Sequence[Exchange]) -> npt.NDArray[np.float64]:
    late = [np.asarray(e.read_s) - np.asarray(e.arrival_s) for e in exchanges]
    return np.concatenate(late) if late else np.empty(0)


def _spread(name: str, values: npt.NDArray[np.float64]) -> Figures:
    """Mean, median, p99 and longest, of however few: they are of the client, not of an engine."""
    if not len(values):
        return {f"{name}_{which}": None for which in ("mean", "p50", "p99", "max")}
    p50, p99 = np.percentile(values, [50, 99]).tolist()
    mean, longest = float(values.mean()), float(values.max())
    return {f"{name}_mean": mean, f"{name}_p50": p50, f"{name}_p99": p99, f"{name}_max": longest}

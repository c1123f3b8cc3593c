"""How late the load generator itself was in one load. Pure.

A client is part of what it measures. It has two kinds of error: times that it stamps late, and
requests that it sends late, which make the real load smaller than the stated one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from enginebench.load.exchange import Exchange
from enginebench.load.spec import LoadResult


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientFigures:
    """The client's own figures of one load: ``client`` in ``cell.json``. None: not measured."""

    stamps: str | None  # who stamped arrivals: "kernel", "client" (after reading) or "both"
    clock_error_s: float | None  # of the kernel's clock beside ours, at most
    processes: int
    streams: int  # requests in flight at most
    connections: int  # opened in all
    pieces: int  # reads that returned bytes
    cpu_s: float  # CPU time of all its processes
    cpu_ratio: float | None  # CPU time over wall time, a process
    busy_ratio: float | None  # time in flight over the same plus the time requests were sent late
    # How late the event loop handled its 5 ms ticks.
    lag_s_mean: float | None
    lag_s_p50: float | None
    lag_s_p99: float | None
    lag_s_max: float | None
    # From the moment a request could go (due, and a stream free) to its sending.
    send_late_s_mean: float | None
    send_late_s_p50: float | None
    send_late_s_p99: float | None
    send_late_s_max: float | None
    # From the kernel's stamp of a piece to its reading.
    receive_late_s_mean: float | None
    receive_late_s_p50: float | None
    receive_late_s_p99: float | None
    receive_late_s_max: float | None


def figures(result: LoadResult) -> ClientFigures:
    """The client's own figures of one load."""
    stats = result.stats
    sent = [e for e in result.exchanges if e.sent_s is not None]
    pieces, stamped = sum(s.pieces for s in stats), sum(s.pieces_stamped for s in stats)
    errors_ns = [s.clock_error_ns for s in stats if s.clock_error_ns is not None]
    started_s, ended_s = min(s.started_s for s in stats), max(s.ended_s for s in stats)
    send_late = np.array([(e.sent_s or 0.0) - (e.ready_s or 0.0) for e in sent])
    in_flight_s = float(sum((e.end_s or 0.0) - (e.sent_s or 0.0) for e in sent))
    late_s = float(send_late.sum())
    lags = np.concatenate([np.asarray(s.lag_s) for s in stats])
    return ClientFigures(
        stamps=_stamps(pieces, stamped),
        clock_error_s=max(errors_ns) / 1e9 if errors_ns and stamped else None,
        processes=len(stats),
        streams=sum(s.streams for s in stats),
        connections=sum(s.connections for s in stats),
        pieces=pieces,
        cpu_s=sum(s.cpu_s for s in stats),
        cpu_ratio=_ratio(sum(s.cpu_s for s in stats), (ended_s - started_s) * len(stats)),
        busy_ratio=_ratio(in_flight_s, in_flight_s + late_s),
        **_spread("lag_s", lags),
        **_spread("send_late_s", send_late),
        **_spread("receive_late_s", _receive_late(result.exchanges) if stamped else np.empty(0)),
    )


def _stamps(pieces: int, stamped: int) -> str | None:
    if not pieces:
        return None
    return "kernel" if stamped == pieces else "both" if stamped else "client"


def _ratio(part: float, total: float) -> float | None:
    return part / total if total > 0 else None


def _receive_late(exchanges: Sequence[Exchange]) -> npt.NDArray[np.float64]:
    late = [np.asarray(e.read_s) - np.asarray(e.arrival_s) for e in exchanges]
    return np.concatenate(late) if late else np.empty(0)


def _spread(name: str, values: npt.NDArray[np.float64]) -> dict[str, float | None]:
    """By field. p99 of any number of values: no engine is judged by it."""
    if not len(values):
        return {f"{name}_{which}": None for which in ("mean", "p50", "p99", "max")}
    p50, p99 = np.percentile(values, [50, 99]).tolist()
    mean, most = float(values.mean()), float(values.max())
    return {f"{name}_mean": mean, f"{name}_p50": p50, f"{name}_p99": p99, f"{name}_max": most}

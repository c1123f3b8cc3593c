"""What a load is, and its result."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from enginebench.engines.address import Address
from enginebench.load.exchange import Exchange, Spool


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """What to send, and when."""

    address: Address
    requests: Sequence[bytes]  # whole HTTP requests, as ``http1.post`` makes them
    streams: int  # most requests in flight
    #: Open loop: when each request is due, in s after the start, ascending. None: closed loop.
    due_s: Sequence[float] | None = None
    ramp_s: float = 0.0  # closed loop: the streams start evenly over this time
    timeout_s: float = 600.0  # longest time for one request; then its connection is closed
    most_answer_bytes: int = 64 << 20  # a larger answer is a fault; see ``answer_limit``
    #: Requests to cancel, by index: seconds after sending at which their connection is closed.
    cancel_after_s: Mapping[int, float] = field(default_factory=dict)


def answer_limit(prompt_tokens: int, output_tokens: int) -> int:
    """Bytes that no answer of so many tokens has: some ten times what engines send with usage, ids
    and log-probabilities in every event. A first event may hold the ids of the prompt."""
    return (1 << 18) + 64 * prompt_tokens + 4096 * output_tokens


@dataclass(slots=True)
class LoadProgress:
    """Counts that a display may read while the load runs."""

    requests_done: int = 0
    pieces: int = 0
    in_flight: int = 0


@dataclass(slots=True)
class ProcessStats:
    """What one process of the load generator notes about itself (see ``client_stats.figures``)."""

    started_s: float = 0.0
    ended_s: float = 0.0
    cpu_s: float = 0.0  # CPU time of the event loop's thread
    lag_s: "array[float]" = field(default_factory=lambda: array("d"))  # lateness of each tick
    streams: int = 0
    connections: int = 0  # opened over the whole load
    clock_error_ns: int | None = None  # None: no kernel stamps were used
    pieces: int = 0
    pieces_stamped: int = 0  # those with a kernel stamp


@dataclass(slots=True)
class LoadResult:
    """The exchanges of a load. A context manager: leaving it closes the files of their bytes."""

    exchanges: list[Exchange]  # in the order of the requests
    stats: list[ProcessStats]  # one per process
    spools: list[Spool] = field(default_factory=list)

    def __enter__(self) -> "LoadResult":
        return self

    def __exit__(self, *_: object) -> None:
        for spool in self.spools:
            spool.close()

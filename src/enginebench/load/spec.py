"""What a load is, and what it brings back."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from enginebench.engines.address import Address
from enginebench.load.exchange import Exchange, Spool


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """What to send, and when."""

    address: Address
    requests: Sequence[bytes]
    streams: int  # most requests in flight
    due_s: Sequence[float] | None = None  # open loop: when each is due, after the start, ascending
    ramp_s: float = 0.0  # closed loop: the streams start evenly over this time
    timeout_s: float = 600.0  # longest time for one request; then its connection is closed
    cancel_after_s: Mapping[int, float] = field(default_factory=dict)  # by request: hang up then


@dataclass(slots=True)
class LoadProgress:
    """Counts that a display may read while the load runs."""

    requests_done: int = 0
    pieces: int = 0
    in_flight: int = 0


@dataclass(slots=True)
class ProcessStats:
    """What the generator noted about itself in one process; ``client.py`` makes figures of it."""

    started_s: float = 0.0
    ended_s: float = 0.0
    cpu_s: float = 0.0  # of the loop's thread
    lag_s: "array[float]" = field(default_factory=lambda: array("d"))  # each tick: handled - due
    streams: int = 0
    connections: int = 0  # opened in all
    clock_error_ns: int | None = None  # of the kernel's stamps; None: they were not used
    pieces: int = 0
    pieces_stamped: int = 0  # with a stamp of the kernel


@dataclass(slots=True)
class LoadResult:
    """Everything that a load brought back. Close it when the exchanges have been read."""

    exchanges: list[Exchange]  # in the order of the requests
    own: list[ProcessStats]  # one a process
    spools: list[Spool] = field(default_factory=list)

    def __enter__(self) -> "LoadResult":
        return self

    def __exit__(self, *_: object) -> None:
        for spool in self.spools:
            spool.close()

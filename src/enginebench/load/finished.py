"""Finished responses: their bytes go to a file, their kernel stamps become times at the end."""

from collections import deque

from enginebench.load import clock
from enginebench.load.exchange import Exchange, Spool, arrivals
from enginebench.load.spec import ProcessStats

CLOCK_STEP_NS = 20_000  # a larger change of the clocks' distance: the wall clock was set


class Finished:
    """Keeps what has come back. Writes only when asked to: no file is touched between tokens."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.clock = clock.clock_offset()  # before the first piece
        self._unsaved: deque[Exchange] = deque()
        self._stamps: dict[int, bytearray] = {}  # by index of the exchange

    def add(self, exchange: Exchange, stamps: bytearray) -> None:
        self._stamps[exchange.index] = stamps
        if exchange.kept:
            self._unsaved.append(exchange)

    def save(self, most: int | None = None) -> None:
        """Write the oldest responses to the file; default: all of them."""
        count = len(self._unsaved)
        for _ in range(count if most is None else min(most, count)):
            exchange = self._unsaved.popleft()
            assert isinstance(exchange.kept, bytearray)
            exchange.kept = self.spool.keep(exchange.kept)

    def set_arrivals(self, exchanges: list[Exchange], stats: ProcessStats) -> None:
        """Set ``arrival_s`` of every exchange from the stamps, and count the pieces in ``stats``.

        The stamps are not used where the wall clock was set in the meantime.
        """
        after = clock.clock_offset()
        is_steady = abs(after.offset_ns - self.clock.offset_ns) <= CLOCK_STEP_NS
        offset_ns = self.clock.offset_ns if is_steady else None
        for exchange in exchanges:
            stamps = self._stamps.pop(exchange.index, bytearray())
            exchange.arrival_s, stamped = arrivals(bytes(stamps), exchange.read_s, offset_ns)
            stats.pieces += len(exchange.arrival_s)
            stats.pieces_stamped += stamped
        if is_steady and stats.pieces_stamped:
            stats.clock_error_ns = max(self.clock.error_ns, after.error_ns)

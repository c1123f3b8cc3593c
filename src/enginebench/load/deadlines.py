"""Moments at which an exchange, or the opening of a connection, is given up."""

import heapq
from collections.abc import Iterator

from enginebench.load.connection import Stream
from enginebench.load.exchange import Exchange, Kind


class Deadlines:
    """A heap of deadlines. One that was met stays in it until its moment, and is then ignored."""

    def __init__(self) -> None:
        # (moment, tie-breaker, stream, its exchange then; None: none yet, kind and text of fault)
        self._heap: list[tuple[float, int, Stream, Exchange | None, Kind, str]] = []
        self._ties = 0

    def add(self, at_s: float, stream: Stream, kind: Kind, text: str) -> None:
        """Give up the stream's present exchange at a moment; kind "refused": unless it is open."""
        self._ties += 1
        heapq.heappush(self._heap, (at_s, self._ties, stream, stream.exchange, kind, text))

    def clear(self) -> None:
        self._heap.clear()

    def missed(self, now_s: float) -> Iterator[tuple[Stream, Kind, str]]:
        """Remove and yield the deadlines that have passed and were not met."""
        heap = self._heap
        while heap and heap[0][0] <= now_s:
            _, _, stream, exchange, kind, text = heapq.heappop(heap)
            is_running = stream.is_opening if kind == "refused" else exchange is not None
            if is_running and stream.exchange is exchange:
                yield stream, kind, text

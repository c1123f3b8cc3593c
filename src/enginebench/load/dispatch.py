"""Which request goes to which stream, and when. Opens and sends nothing."""

from collections import deque

from enginebench.load.connection import Stream
from enginebench.load.exchange import Exchange
from enginebench.load.spec import LoadSpec


class Dispatcher:
    """Pairs requests with streams.

    In a closed loop the streams join one after another over the ramp, and every request is waiting
    from the start. In an open loop the streams are there from the start, and every request joins
    when it is due.
    """

    def __init__(self, load: LoadSpec, exchanges: list[Exchange], streams: list[Stream]) -> None:
        self._load, self._exchanges, self._streams = load, exchanges, streams
        self._is_closed_loop = load.due_s is None
        self._free: deque[Stream] = deque()
        self._waiting = deque(exchanges if self._is_closed_loop else ())
        self._joins_s: deque[float] = deque()  # ascending
        self._joined = 0

    def start(self, start_s: float) -> None:
        """Set the moments at which streams or requests join."""
        load, count = self._load, len(self._streams)
        if load.due_s is None:
            self._joins_s.extend(start_s + load.ramp_s * k / count for k in range(count))
        else:
            self._joins_s.extend(start_s + due_s for due_s in load.due_s)
            self._free.extend(reversed(self._streams))  # the connected ones are used first

    def join(self, now_s: float) -> float | None:
        """Let all join whose moment has come; the moment of the next one, None after the last."""
        while self._joins_s and self._joins_s[0] <= now_s:
            join_s = self._joins_s.popleft()
            if self._is_closed_loop:
                stream = self._streams[self._joined]
                stream.free_s = join_s
                self._free.append(stream)
            else:
                exchange = self._exchanges[self._joined]
                exchange.planned_s = join_s
                self._waiting.append(exchange)
            self._joined += 1
        return self._joins_s[0] if self._joins_s else None

    def next(self) -> tuple[Stream, Exchange] | None:
        """The next request and a free stream for it; None where either is missing."""
        if not (self._free and self._waiting):
            return None
        exchange = self._waiting.popleft()
        # An open loop prefers the stream used last: the others may reach their idle limit.
        stream = self._free.popleft() if self._is_closed_loop else self._free.pop()
        if self._is_closed_loop:
            exchange.planned_s = stream.free_s
        assert exchange.planned_s is not None
        exchange.ready_s = max(exchange.planned_s, stream.free_s)
        return stream, exchange

    def release(self, stream: Stream) -> None:
        """The stream's exchange has ended, and the stream can carry the next one."""
        self._free.append(stream)

    def give_up(self) -> list[Exchange]:
        """Drop all requests that no stream has begun, and return them."""
        unsent = [*self._waiting]
        if not self._is_closed_loop:
            unsent += self._exchanges[self._joined :]
            self._joined = len(self._exchanges)
        self._waiting.clear()
        self._joins_s.clear()
        return unsent

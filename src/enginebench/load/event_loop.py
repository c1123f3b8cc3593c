"""The load generator: many streamed requests at once, every piece stamped when it arrives.

While tokens arrive, nothing happens but a read, four appends, and as much HTTP framing as is needed
to know that a response has ended. JSON is taken apart afterwards (``exchange.py``). One loop around
``epoll`` in one thread; ``workers.py`` runs several of them.

All times are seconds of ``time.perf_counter`` (CLOCK_MONOTONIC on Linux).
"""

import contextlib
import gc
import heapq
import select
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from enginebench.engines.address import Address
from enginebench.load import clock, connection
from enginebench.load.connection import Stream
from enginebench.load.exchange import Exchange, Kind, Spool, arrivals, stamp_s
from enginebench.load.http1 import ProtocolError, is_one_chunk
from enginebench.load.spec import LoadProgress, LoadResult, LoadSpec, ProcessStats

CONNECT_TIMEOUT_S = 10.0
IDLE_LIMIT_S = 4.0  # servers drop a silent connection after 5 s (uvicorn's default) or later
OPEN_AT_START = 64  # connections opened before the clock where there is no cap
TICK_S = 0.005  # how often the loop looks whether it is on time
SAVED_PER_TICK = 16  # finished responses written away between two looks at the sockets
CLOCK_STEP_NS = 20_000  # the wall clock was set if its distance changed by more
SWITCH_S = 1e-4  # longest time that another thread may hold the interpreter


def run(
    load: LoadSpec,
    live: LoadProgress | None = None,
    lost: Callable[[], str | None] = lambda: None,
    start_s: Callable[[], float] = time.perf_counter,
    on_tick: Callable[[], None] = lambda: None,
    spool: Spool | None = None,
) -> LoadResult:
    """Send all requests and wait for the end of every one.

    Args:
        lost: asked after a failed exchange; a reason means that the engine is gone for good, and
            the requests not yet sent are given up with that reason.
        start_s: asked once the connections are open: the moment at which the clock starts.
        on_tick: called every few milliseconds.
        spool: where finished responses are kept.
    """
    loop = _Loop(load, live or LoadProgress(), lost, on_tick, spool or Spool())
    try:
        with _undisturbed():
            loop.run(start_s)
        return loop.taken()
    except BaseException:
        loop.spool.close()
        raise
    finally:
        loop.close()


def run_closed_loop(
    address: Address,
    requests: Sequence[bytes],
    concurrency: int,
    timeout_s: float,
    live: LoadProgress | None = None,
    lost: Callable[[], str | None] = lambda: None,
) -> list[Exchange]:
    """Send all requests, keeping ``concurrency`` in flight; the next goes to the first free stream.

    For small loads: everything that came back is held in memory.
    """
    with run(LoadSpec(address, requests, concurrency, timeout_s=timeout_s), live, lost) as taken:
        for exchange in taken.exchanges:
            exchange.kept = exchange.raw()
        return taken.exchanges


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """No collection of garbage, and no other thread for long, while tokens arrive."""
    switch_s = sys.getswitchinterval()
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(switch_s)
        if was_enabled:
            gc.enable()
        gc.unfreeze()


class _Loop:
    """One run of a load in one thread."""

    def __init__(
        self,
        load: LoadSpec,
        live: LoadProgress,
        lost: Callable[[], str | None],
        on_tick: Callable[[], None],
        spool: Spool,
    ) -> None:
        self._load, self._live, self._lost, self._on_tick = load, live, lost, on_tick
        self._exchanges = [Exchange(index) for index in range(len(load.requests))]
        self._left = len(self._exchanges)  # not yet ended
        self._streams = [Stream() for _ in range(min(load.streams, self._left))]
        self._by_fd: dict[int, Stream] = {}
        self._free: deque[Stream] = deque()
        self._waiting = deque(self._exchanges)  # closed loop: all; open loop: those that are due
        self._turns: deque[float] = deque()  # moments at which a stream or a request joins
        self._joined = 0
        # (moment, tie-breaker, stream, exchange or None for a connection, what to say)
        self._deadlines: list[tuple[float, int, Stream, Exchange | None, Kind, str]] = []
        self._ties = 0
        self._unsaved: deque[tuple[Exchange, bytearray]] = deque()
        self._stamps: dict[int, bytearray] = {}  # by exchange; to times when the cell is over
        self._epoll = select.epoll()
        self._ticks, self._turn_timer = clock.Timer(), clock.Timer()
        self._tick_due_s = 0.0
        self._before = clock.clock_offset()
        self._family, self._place = load.address.resolve()
        self._context = load.address.context()
        self.spool = spool
        self.own = ProcessStats(streams=len(self._streams))

    def run(self, start_s: Callable[[], float]) -> None:
        cpu_s = time.thread_time()
        self._epoll.register(self._ticks.fd, select.EPOLLIN)
        self._epoll.register(self._turn_timer.fd, select.EPOLLIN)
        self._open_all()
        start = self.own.started_s = start_s()
        self._plan(start)
        self._tick_due_s = max(start, time.perf_counter()) + TICK_S
        self._ticks.set(self._tick_due_s, TICK_S)
        self._take_turns()
        while self._left:
            self._serve()
            self._wait()
        self.own.ended_s = time.perf_counter()
        self.own.cpu_s = time.thread_time() - cpu_s

    def _open_all(self) -> None:
        """Open the connections before the clock starts; one that fails is tried again when used."""
        wanted = self._streams if self._load.due_s is None else self._streams[:OPEN_AT_START]
        for stream in wanted:
            self._open(stream)
        deadline_s = time.perf_counter() + CONNECT_TIMEOUT_S
        while any(stream.is_opening for stream in wanted):
            if time.perf_counter() > deadline_s:
                break
            self._wait(timeout_s=0.1)
        self._deadlines.clear()

    def _plan(self, start_s: float) -> None:
        """When streams (closed loop) or requests (open loop) join."""
        load, count = self._load, len(self._streams)
        if load.due_s is None:
            self._turns.extend(start_s + load.ramp_s * k / count for k in range(count))
        else:
            self._turns.extend(start_s + due_s for due_s in load.due_s)
            self._waiting.clear()
            self._free.extend(reversed(self._streams))  # the opened ones are taken first

    def _take_turns(self) -> None:
        """Let those join whose moment has come, and set the timer for the next."""
        now_s = time.perf_counter()
        while self._turns and self._turns[0] <= now_s:
            due_s = self._turns.popleft()
            if self._load.due_s is None:
                self._streams[self._joined].free_s = due_s
                self._free.append(self._streams[self._joined])
            else:
                self._exchanges[self._joined].planned_s = due_s
                self._waiting.append(self._exchanges[self._joined])
            self._joined += 1
        if self._turns:
            self._turn_timer.set(self._turns[0])

    def _serve(self) -> None:
        """Give the next requests to free streams."""
        is_closed_loop = self._load.due_s is None
        while self._free and self._waiting:
            exchange = self._waiting.popleft()
            # An open loop prefers the stream used last: the others may fall asleep.
            stream = self._free.popleft() if is_closed_loop else self._free.pop()
            if is_closed_loop:
                exchange.planned_s = stream.free_s
            assert exchange.planned_s is not None
            exchange.ready_s = max(exchange.planned_s, stream.free_s)
            self._begin(stream, exchange)

    def _begin(self, stream: Stream, exchange: Exchange) -> None:
        stream.clear()
        stream.exchange = exchange
        self._live.in_flight += 1
        now_s = time.perf_counter()
        if stream.state == "open" and now_s - stream.used_s > IDLE_LIMIT_S:
            self._drop(stream)
        if stream.state == "open":
            self._send(stream)
        elif stream.state == "closed":
            self._open(stream)
        else:  # it was begun before the clock started
            self._connect_deadline(stream)

    def _send(self, stream: Stream) -> None:
        exchange = stream.exchange
        assert exchange is not None
        load, index = self._load, exchange.index
        try:
            stream.send(load.requests[index])
        except OSError as error:
            self._finish(stream, f"the engine closed the connection ({error.strerror})", "cut")
            return
        if stream.events != connection.READ:
            self._epoll.modify(stream.fd, stream.events)
        assert exchange.sent_s is not None
        timeout_s = load.timeout_s
        self._deadline(
            exchange.sent_s + timeout_s, stream, "timeout", f"timed out after {timeout_s:g} s"
        )
        if index in load.cancel_after_s:
            after_s = load.cancel_after_s[index]
            text = f"cancelled after {after_s:g} s, as planned"
            self._deadline(exchange.sent_s + after_s, stream, "cancelled", text)

    def _deadline(self, at_s: float, stream: Stream, kind: Kind, text: str) -> None:
        self._ties += 1
        heapq.heappush(self._deadlines, (at_s, self._ties, stream, stream.exchange, kind, text))

    def _open(self, stream: Stream) -> None:
        self.own.connections += 1
        try:
            stream.connect(self._family, self._place, self._context, self._load.address.host)
        except OSError as error:
            self._refused(stream, error)
            return
        self._by_fd[stream.fd] = stream
        self._epoll.register(stream.fd, stream.events)
        self._connect_deadline(stream)

    def _connect_deadline(self, stream: Stream) -> None:
        at_s = time.perf_counter() + CONNECT_TIMEOUT_S
        self._deadline(at_s, stream, "refused", "cannot connect: timed out")

    def _refused(self, stream: Stream, error: OSError) -> None:
        reason = error.strerror or str(error) or type(error).__name__
        self._drop(stream)
        self._finish(stream, f"cannot connect: {reason}", "refused")

    def _wait(self, timeout_s: float = -1) -> None:
        """Wait until something happens, and handle all of it."""
        by_fd, receive = self._by_fd, self._receive
        for fd, event in self._epoll.poll(timeout_s):
            stream = by_fd.get(fd)
            if stream is None:
                self._timer(fd)
            elif event == select.EPOLLIN and stream.state == "open":
                receive(stream)
            else:
                self._other(stream, event)

    def _receive(self, stream: Stream) -> None:
        """Read once. This is the path of every token: nothing may be added to it lightly."""
        try:
            data, control, _, _ = stream.recvmsg(connection.READ_BYTES, clock.CONTROL_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._ended(stream, error.strerror)
            return
        read_s = time.perf_counter()
        if not data or stream.exchange is None:
            # The end, or bytes that nobody asked for: such a connection cannot be trusted.
            self._ended(stream, None)
            return
        if stream.is_encrypted:
            plain = self._decrypt(stream, data)
            if not plain:
                return
            data = plain
        self._live.pieces += 1
        stream.kept += data
        stream.read_s.append(read_s)
        stream.sizes.append(len(data))
        stream.stamps += control[0][2] if control else clock.NO_STAMP
        if not (stream.is_regular and is_one_chunk(data)):
            self._frame(stream, data)

    def _decrypt(self, stream: Stream, data: bytes) -> bytes | None:
        try:
            plain = stream.decrypt(data)
        except OSError as error:
            self._finish(stream, f"not TLS: {error}", "protocol")
            return None
        if plain is None:
            self._ended(stream, None)
        return plain

    def _frame(self, stream: Stream, data: bytes) -> None:
        """Follow the response's framing, to know when it has ended."""
        reader = stream.reader
        try:
            reader.feed(data)
        except ProtocolError as error:
            self._finish(stream, str(error), "protocol")
            return
        stream.is_regular = reader.is_at_chunk
        if reader.done:
            self._finish(stream, None, None)

    def _ended(self, stream: Stream, reason: str | None) -> None:
        """The engine closed the connection."""
        complete = stream.reader.close() and reason is None
        self._drop(stream)
        text = "the engine closed the connection before the end"
        text += f" ({reason})" if reason else ""
        self._finish(stream, None if complete else text, None if complete else "cut")

    def _finish(self, stream: Stream, fault: str | None, kind: Kind | None) -> None:
        exchange = stream.exchange
        if exchange is None:
            return
        now_s = time.perf_counter()
        stream.exchange = None
        exchange.end_s = now_s
        if fault is None and any(stream.stamps[-clock.STAMP.size :]):
            exchange.end_s = stamp_s(
                bytes(stream.stamps[-clock.STAMP.size :]), self._before.offset_ns
            )
        exchange.fault, exchange.kind = fault, kind
        exchange.read_s, exchange.sizes = stream.read_s, stream.sizes
        exchange.kept = stream.kept
        self._stamps[exchange.index] = stream.stamps
        if stream.kept:
            self._unsaved.append((exchange, stream.kept))
        is_clean = stream.reader.keep_alive and not stream.reader.trailing
        if fault is not None or not is_clean or stream.is_sending:
            self._drop(stream)
        stream.free_s, stream.used_s = exchange.end_s, now_s
        self._free.append(stream)
        self._left -= 1
        self._live.in_flight -= 1
        self._live.requests_done += 1
        if fault is not None and (reason := self._lost()) is not None:
            self._give_up(reason)

    def _give_up(self, reason: str) -> None:
        for exchange in self._exchanges if self._turns else self._waiting:
            is_left = exchange.sent_s is None and exchange.fault is None
            if is_left and not any(s.exchange is exchange for s in self._streams):
                exchange.fault, exchange.kind = f"not sent: {reason}", "not sent"
                self._left -= 1
                self._live.requests_done += 1
        self._waiting.clear()
        self._turns.clear()

    def _other(self, stream: Stream, event: int) -> None:
        """Anything but bytes on an open connection: opening, sending, errors."""
        if stream.state == "open" and stream.exchange is not None and event & select.EPOLLOUT:
            try:
                if stream.flush():
                    self._epoll.modify(stream.fd, stream.events)
            except OSError as error:
                self._ended(stream, error.strerror)
            return
        if not stream.is_opening:
            self._receive(stream)
            return
        try:
            is_open = stream.go_on()
        except OSError as error:
            self._refused(stream, error)
            return
        self._epoll.modify(stream.fd, stream.events)
        if is_open and stream.exchange is not None:
            self._send(stream)

    def _drop(self, stream: Stream) -> None:
        if stream.state != "closed":
            self._by_fd.pop(stream.fd, None)
        stream.close()  # which also takes it out of the epoll set

    def _timer(self, fd: int) -> None:
        if fd == self._turn_timer.fd:
            self._turn_timer.clear()
            self._take_turns()
            return
        self._ticks.clear()
        now_s = time.perf_counter()
        lag_s = now_s - self._tick_due_s
        self.own.lag_s.append(lag_s)
        self._tick_due_s += TICK_S * (1 + int(lag_s / TICK_S))
        self._meet_deadlines(now_s)
        self._on_tick()
        for _ in range(min(SAVED_PER_TICK, len(self._unsaved))):
            exchange, data = self._unsaved.popleft()
            exchange.kept = self.spool.keep(data)

    def _meet_deadlines(self, now_s: float) -> None:
        while self._deadlines and self._deadlines[0][0] <= now_s:
            _, _, stream, exchange, kind, text = heapq.heappop(self._deadlines)
            if kind == "refused":
                if stream.is_opening and stream.exchange is exchange:
                    self._drop(stream)
                    self._finish(stream, text, kind)
            elif exchange is not None and stream.exchange is exchange:
                self._finish(stream, text, kind)

    def taken(self) -> LoadResult:
        """What came back, with the kernel's stamps brought to our clock."""
        while self._unsaved:
            exchange, data = self._unsaved.popleft()
            exchange.kept = self.spool.keep(data)
        after = clock.clock_offset()
        is_steady = abs(after.offset_ns - self._before.offset_ns) <= CLOCK_STEP_NS
        own = self.own
        for exchange in self._exchanges:
            stamps = self._stamps.pop(exchange.index, bytearray())
            offset_ns = self._before.offset_ns if is_steady else None
            found, stamped = arrivals(bytes(stamps), exchange.read_s, offset_ns)
            exchange.arrival_s = found
            own.pieces += len(found)
            own.pieces_stamped += stamped
        if is_steady and own.pieces_stamped:
            own.clock_error_ns = max(self._before.error_ns, after.error_ns)
        return LoadResult(self._exchanges, [own], [self.spool])

    def close(self) -> None:
        for stream in self._streams:
            stream.close()
        self._epoll.close()
        self._ticks.close()
        self._turn_timer.close()

"""The loop around ``epoll`` that sends requests and stamps every piece of an answer.

While tokens arrive, nothing happens but a read, four appends, and as much HTTP framing as is needed
to know that a response has ended. JSON is parsed afterwards (``request_record.py``).

All times are seconds of ``time.perf_counter`` (CLOCK_MONOTONIC on Linux).
"""

import select
import time
from collections.abc import Callable

from enginebench.load import clock, connection
from enginebench.load.connection import Connections, Stream
from enginebench.load.deadlines import Deadlines
from enginebench.load.dispatch import Dispatcher
from enginebench.load.exchange import Exchange, Kind, Spool, stamp_s
from enginebench.load.finished import Finished
from enginebench.load.http1 import ProtocolError, is_one_chunk
from enginebench.load.spec import LoadProgress, LoadResult, LoadSpec, ProcessStats

CONNECT_TIMEOUT_S = 10.0
IDLE_LIMIT_S = 4.0  # servers drop a silent connection after 5 s (uvicorn's default) or later
OPEN_AT_START = 64  # connections opened before the clock starts, in an open loop
TICK_S = 0.005  # how often the loop checks whether it is on time
SAVED_PER_TICK = 16  # finished responses written to the file between two looks at the sockets
#: A larger answer is a fault, whatever the load allows. The stamp of each piece (16 bytes) counts
#: too, so that an answer in tiny pieces is bounded as well.
MOST_ANSWER_BYTES = 64 << 20
KEPT_BYTES = 1 << 16  # of an answer that is too large, to show what it was


class EventLoop:
    """One run of a load in one thread: what happens when a socket or a timer is ready."""

    def __init__(
        self,
        load: LoadSpec,
        progress: LoadProgress,
        engine_gone: Callable[[], str | None],
        on_tick: Callable[[], None],
        spool: Spool,
    ) -> None:
        self._load, self._progress = load, progress
        self._engine_gone, self._on_tick = engine_gone, on_tick
        self._exchanges = [Exchange(index) for index in range(len(load.requests))]
        self._unfinished = len(self._exchanges)
        self._most_bytes = min(load.most_answer_bytes, MOST_ANSWER_BYTES)
        self._epoll = select.epoll()
        self._ticks, self._join_timer = clock.Timer(), clock.Timer()
        self._tick_due_s = 0.0
        streams = min(load.streams, len(self._exchanges))
        self._connections = Connections(load.address, streams, self._epoll)
        self._dispatcher = Dispatcher(load, self._exchanges, self._connections.streams)
        self._deadlines = Deadlines()
        self.finished = Finished(spool)
        self.stats = ProcessStats(streams=streams)

    def run(self, start_s: Callable[[], float]) -> None:
        cpu_s = time.thread_time()
        self._epoll.register(self._ticks.fd, select.EPOLLIN)
        self._epoll.register(self._join_timer.fd, select.EPOLLIN)
        self._connect_ahead()
        start = self.stats.started_s = start_s()
        self._dispatcher.start(start)
        self._tick_due_s = max(start, time.perf_counter()) + TICK_S
        self._ticks.set(self._tick_due_s, TICK_S)
        self._join()
        while self._unfinished:
            while (pair := self._dispatcher.next()) is not None:
                self._begin(*pair)
            self._wait()
        self.stats.ended_s = time.perf_counter()
        self.stats.cpu_s = time.thread_time() - cpu_s
        self.stats.connections = self._connections.opened

    def _connect_ahead(self) -> None:
        """Open connections before the clock starts; one that fails is tried again when used."""
        streams = self._connections.streams
        if self._load.due_s is not None:
            streams = streams[:OPEN_AT_START]
        for stream in streams:
            self._open(stream)
        deadline_s = time.perf_counter() + CONNECT_TIMEOUT_S
        while any(stream.is_opening for stream in streams):
            if time.perf_counter() > deadline_s:
                break
            self._wait(timeout_s=0.1)
        self._deadlines.clear()

    def _join(self) -> None:
        next_s = self._dispatcher.join(time.perf_counter())
        if next_s is not None:
            self._join_timer.set(next_s)

    def _begin(self, stream: Stream, exchange: Exchange) -> None:
        stream.clear()
        stream.exchange = exchange
        self._progress.in_flight += 1
        now_s = time.perf_counter()
        if stream.state == "open" and now_s - stream.used_s > IDLE_LIMIT_S:
            self._connections.drop(stream)
        if stream.state == "open":
            self._send(stream)
        elif stream.state == "closed":
            self._open(stream)
        else:  # it has been opening since before the clock started
            self._set_connect_deadline(stream)

    def _open(self, stream: Stream) -> None:
        try:
            self._connections.open(stream)
        except OSError as error:
            self._refused(stream, error)
        else:
            self._set_connect_deadline(stream)

    def _set_connect_deadline(self, stream: Stream) -> None:
        at_s = time.perf_counter() + CONNECT_TIMEOUT_S
        self._deadlines.add(at_s, stream, "refused", "cannot connect: timed out")

    def _refused(self, stream: Stream, error: OSError) -> None:
        reason = error.strerror or str(error) or type(error).__name__
        self._connections.drop(stream)
        self._finish(stream, f"cannot connect: {reason}", "refused")

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
            self._connections.watch(stream)
        assert exchange.sent_s is not None
        text = f"timed out after {load.timeout_s:g} s"
        self._deadlines.add(exchange.sent_s + load.timeout_s, stream, "timeout", text)
        if index in load.cancel_after_s:
            after_s = load.cancel_after_s[index]
            text = f"cancelled after {after_s:g} s, as planned"
            self._deadlines.add(exchange.sent_s + after_s, stream, "cancelled", text)

    def _wait(self, timeout_s: float = -1) -> None:
        """Wait until something happens, and handle all of it."""
        by_fd, receive = self._connections.by_fd, self._receive
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
            self._closed(stream, error.strerror)
            return
        read_s = time.perf_counter()
        if not data or stream.exchange is None:
            # The end, or bytes that belong to no request: such a connection cannot be trusted.
            self._closed(stream, None)
            return
        if stream.is_encrypted:
            plain = self._decrypt(stream, data)
            if not plain:
                return
            data = plain
        self._progress.pieces += 1
        kept, stamps = stream.kept, stream.stamps
        kept += data
        stream.read_s.append(read_s)
        stream.sizes.append(len(data))
        stamps += control[0][2] if control else clock.NO_STAMP
        if len(kept) + len(stamps) > self._most_bytes:
            stream.keep_beginning(KEPT_BYTES)
            text = f"the answer is larger than {self._most_bytes / 2**20:.3g} MiB"
            self._finish(stream, text, "protocol")
        elif not (stream.is_regular and is_one_chunk(data)):
            self._frame(stream, data)

    def _decrypt(self, stream: Stream, data: bytes) -> bytes | None:
        try:
            plain = stream.decrypt(data)
        except OSError as error:
            self._finish(stream, f"not TLS: {error}", "protocol")
            return None
        if plain is None:
            self._closed(stream, None)
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

    def _other(self, stream: Stream, event: int) -> None:
        """Anything but bytes on an open connection: opening, sending, errors."""
        if stream.state == "open" and stream.exchange is not None and event & select.EPOLLOUT:
            try:
                if stream.flush():
                    self._connections.watch(stream)
            except OSError as error:
                self._closed(stream, error.strerror)
            return
        if not stream.is_opening:
            self._receive(stream)
            return
        try:
            is_open = stream.continue_opening()
        except OSError as error:
            self._refused(stream, error)
            return
        self._connections.watch(stream)
        if is_open and stream.exchange is not None:
            self._send(stream)

    def _closed(self, stream: Stream, reason: str | None) -> None:
        """The engine closed the connection, or it broke."""
        is_complete = stream.reader.close() and reason is None
        self._connections.drop(stream)
        text = "the engine closed the connection before the end"
        text += f" ({reason})" if reason else ""
        self._finish(stream, None if is_complete else text, None if is_complete else "cut")

    def _finish(self, stream: Stream, fault: str | None, kind: Kind | None) -> None:
        """End the stream's exchange, if it has one; a fault also ends the connection."""
        exchange = stream.exchange
        if exchange is None:
            return
        now_s = time.perf_counter()
        stream.exchange = None
        exchange.end_s = now_s
        stamp = bytes(stream.stamps[-clock.STAMP.size :])
        if fault is None and any(stamp):
            exchange.end_s = stamp_s(stamp, self.finished.clock.offset_ns)
        exchange.fault, exchange.kind = fault, kind
        exchange.read_s, exchange.sizes = stream.read_s, stream.sizes
        exchange.kept = stream.kept
        self.finished.add(exchange, stream.stamps)
        is_clean = stream.reader.keep_alive and not stream.reader.trailing
        if fault is not None or not is_clean or stream.is_sending:
            self._connections.drop(stream)
        stream.free_s, stream.used_s = exchange.end_s, now_s
        self._dispatcher.release(stream)
        self._unfinished -= 1
        self._progress.in_flight -= 1
        self._progress.requests_done += 1
        if fault is not None and (reason := self._engine_gone()) is not None:
            self._give_up(reason)

    def _give_up(self, reason: str) -> None:
        for exchange in self._dispatcher.give_up():
            exchange.fault, exchange.kind = f"not sent: {reason}", "not sent"
            self._unfinished -= 1
            self._progress.requests_done += 1

    def _timer(self, fd: int) -> None:
        if fd == self._join_timer.fd:
            self._join_timer.clear()
            self._join()
            return
        self._ticks.clear()
        now_s = time.perf_counter()
        lag_s = now_s - self._tick_due_s
        self.stats.lag_s.append(lag_s)
        self._tick_due_s += TICK_S * (1 + int(lag_s / TICK_S))
        for stream, kind, text in self._deadlines.missed(now_s):
            self._connections.drop(stream)
            self._finish(stream, text, kind)
        self._on_tick()
        self.finished.save(SAVED_PER_TICK)

    def result(self) -> LoadResult:
        self.finished.save()
        self.finished.set_arrivals(self._exchanges, self.stats)
        return LoadResult(self._exchanges, [self.stats], [self.finished.spool])

    def close(self) -> None:
        self._connections.close()
        self._epoll.close()
        self._ticks.close()
        self._join_timer.close()

"""A server whose every token time is known, to calibrate the load generator against.

It speaks the completions stream, but generates nothing: its answers follow a script of first-token
time, pace, jitter, stalls, freezes and faults. It stamps each token as it hands it to the kernel,
so it knows its own lateness, and writes that account when it is stopped. It needs a core to itself:
in the last millisecond before a token is due it does not sleep.

A request may ask for its own pace (``pace_s``). Run as a program: ``python -m
enginebench.load.scripted_server SCRIPT.json LOG [CPU]``; it prints its port. Standard library only.
"""

import gc
import heapq
import json
import os
import random
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from enginebench.base import linux
from enginebench.load import clock
from enginebench.load.script import Script, Served, answer, write_log

SPIN_S = 0.001  # before a token is due, the server polls for this long instead of sleeping
SENDS_BEFORE_READING = 32
BUFFER_BYTES = 1 << 16


@dataclass(slots=True)
class _Stream:
    """One connection, and the answer on it."""

    socket: socket.socket
    request: bytes = b""  # the part of the next request that has arrived
    writes: Sequence[bytes] = ()
    next: int = 0  # index of the next write
    pace_s: float = 0.0
    closes: bool = False  # the connection ends with the answer
    served: Served | None = None
    is_open: bool = True


class Server:
    """Plays a script on every connection."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.log: list[Served] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._epoll = select.epoll()
        self._epoll.register(self._listener.fileno(), select.EPOLLIN)
        self._streams: dict[int, _Stream] = {}
        self._due: list[tuple[float, int, _Stream]] = []  # a heap; the tie-breaker is second
        self._ties = 0
        self._answers: dict[tuple[int, str | None], list[bytes]] = {}  # by tokens and fault
        self._draw = random.Random(script.seed)
        self._freezes = list(script.freezes)
        self._first_s: float | None = None
        self._offset_s = clock.clock_offset().offset_ns / 1e9
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True

    def run(self) -> None:
        """Serve until ``stop`` is called."""
        while not self._stopped:
            self._freeze()
            self._send_due()
            gap_s = self._due[0][0] - time.monotonic() if self._due else 0.2
            for fd, _ in self._epoll.poll(max(gap_s - SPIN_S, 0.0) if gap_s > SPIN_S else 0):
                if fd == self._listener.fileno():
                    self._accept()
                elif (stream := self._streams.get(fd)) is not None:
                    self._read(stream)
                if self._due and self._due[0][0] <= time.monotonic():
                    self._send_due()

    def _freeze(self) -> None:
        """Sleep through a freeze of the script; everything due moves back by its length."""
        if not self._freezes or self._first_s is None:
            return
        start_s, length_s = self._freezes[0]
        if time.monotonic() >= self._first_s + start_s:
            del self._freezes[0]
            time.sleep(length_s)
            # The same shift for all keeps the heap a heap.
            self._due = [(due + length_s, tie, stream) for due, tie, stream in self._due]

    def _send_due(self) -> None:
        due, now_s = self._due, time.monotonic
        for _ in range(SENDS_BEFORE_READING):
            if not due or due[0][0] > now_s():
                return
            due_s, tie, stream = due[0]
            if not stream.is_open:
                heapq.heappop(due)
                continue
            at_s = now_s()
            next_s = self._write(stream, due_s, at_s)
            if next_s is None:
                heapq.heappop(due)
            else:
                heapq.heapreplace(due, (next_s, tie, stream))

    def _write(self, stream: _Stream, due_s: float, at_s: float) -> float | None:
        """Send the next write of an answer.

        Returns:
            when the write after it is due; None after the last one.
        """
        index = stream.next
        last = len(stream.writes) - 1
        try:
            sent = stream.socket.send(stream.writes[index])
        except BlockingIOError:
            sent = 0
        except OSError:  # the client closed the connection
            self._close(stream)
            return None
        if sent < len(stream.writes[index]):  # the client does not read: send the rest later
            stream.writes = [*stream.writes]
            stream.writes[index] = stream.writes[index][sent:]
            return at_s + SPIN_S
        served = stream.served
        assert served is not None
        is_end = index == last
        if not is_end or last == 0:
            served.due_s.append(due_s)
            served.sent_s.append(at_s)
        if is_end:
            served.end_s = at_s
            if stream.closes:
                self._close(stream)
            return None
        stream.next = index + 1
        # The end of the stream comes with its last token.
        if index + 1 == last:
            return due_s
        return self._next_due_s(due_s + stream.pace_s, index + 1)

    def _next_due_s(self, due_s: float, index: int) -> float:
        """Add the script's jitter and stalls to when a write would be due."""
        script = self.script
        if script.jitter_s:
            due_s += self._draw.random() * script.jitter_s
        if script.stall_every and index % script.stall_every == 0:
            due_s += script.stall_s
        return due_s

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            clock.enable_stamps(connection)
            self._streams[connection.fileno()] = _Stream(connection)
            self._epoll.register(connection.fileno(), select.EPOLLIN)

    def _read(self, stream: _Stream) -> None:
        try:
            data, control, _, _ = stream.socket.recvmsg(BUFFER_BYTES, clock.CONTROL_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data, control = b"", []
        if not data:
            self._close(stream)
            return
        arrived_s = time.monotonic()
        if control:
            seconds, nanoseconds = clock.STAMP.unpack(control[0][2])
            arrived_s = seconds + nanoseconds / 1e9 + self._offset_s
        stream.request += data
        head, separator, content = stream.request.partition(b"\r\n\r\n")
        if not separator:
            return
        fields = {}
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            fields[name.strip().lower()] = value.strip()
        if len(content) >= int(fields.get(b"content-length", b"0")):
            stream.request = b""
            self._begin(stream, head.split(b" ", 2)[1], fields, content, arrived_s)

    def _begin(
        self,
        stream: _Stream,
        path: bytes,
        fields: dict[bytes, bytes],
        content: bytes,
        arrived_s: float,
    ) -> None:
        if path != b"/v1/completions":  # a health check, a list of models, or an unknown path
            page = b'{"data":[{"id":"model"}]}'
            status = b"404 Not Found" if content else b"200 OK"
            head = b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status, len(page))
            stream.socket.send(head + page)
            return
        script = self.script
        if self._first_s is None:
            self._first_s = arrived_s
        fault = script.fault(len(self.log))
        stream.served = Served(fields.get(b"x-request-id", b"").decode(), arrived_s)
        self.log.append(stream.served)
        body = json.loads(content)
        stream.writes = self._writes(int(body["max_tokens"]), fault)
        stream.pace_s = float(body.get("pace_s", script.pace_s))
        stream.next = 0
        stream.closes = script.framing == "close" or fault == "cut"
        self._ties += 1
        heapq.heappush(self._due, (arrived_s + script.first_s, self._ties, stream))

    def _writes(self, tokens: int, fault: str | None) -> Sequence[bytes]:
        writes = self._answers.get((tokens, fault))
        if writes is None:
            writes = answer(self.script, tokens, fault)
            if self.script.bytewise:
                writes = [bytes([byte]) for byte in b"".join(writes)]
            self._answers[tokens, fault] = writes
        return writes

    def _close(self, stream: _Stream) -> None:
        stream.is_open = False
        self._streams.pop(stream.socket.fileno(), None)
        stream.socket.close()


def main() -> None:
    script_file, log = map(Path, sys.argv[1:3])
    if len(sys.argv) > 3:
        os.sched_setaffinity(0, {int(sys.argv[3])})
    server = Server(Script.from_json(script_file.read_text()))
    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    linux.die_with_parent(signal.SIGKILL)
    gc.freeze()
    gc.disable()
    print(server.port, flush=True)
    server.run()
    write_log(log, server.log)


if __name__ == "__main__":
    main()

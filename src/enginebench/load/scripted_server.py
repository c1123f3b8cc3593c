"""A server whose every token time is known: what the load generator is calibrated against.

It speaks the completions stream, but nothing is generated: an answer follows a script of
first-token time, pace, jitter, stalls, freezes and faults. It stamps each token as it hands it to
the kernel, and so knows its own lateness, which it writes down when it is stopped. It must have a
core to itself: in the last millisecond before a token is due it does not sleep.

A request may ask for a pace of its own (``pace_s``). Run as a program: ``python -m
enginebench.load.scripted_server SCRIPT.json LOG [CPU]``; it prints its port. Standard library only.
"""

import gc
import heapq
import json
import os
import pickle
import random
import select
import signal
import socket
import sys
import time
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from enginebench.base import linux
from enginebench.load import clock

SPIN_S = 0.001  # the last stretch before a token is due is waited for awake
SENDS_BEFORE_READING = 32
BUFFER_BYTES = 1 << 16
HTTP_ERROR = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 9\r\n\r\nno memory"

Framing = Literal["chunked", "length", "close"]


@dataclass(frozen=True, slots=True)
class Script:
    """How answers come. A fault with ``every_`` n: each n-th request has it, 0 is none."""

    first_s: float = 0.03  # from the request's arrival to its first token
    pace_s: float = 0.01  # from one event to the next
    tokens_per_event: int = 1
    jitter_s: float = 0.0  # each gap is longer by an even draw from 0 to this
    stall_every: int = 0  # each so-manieth event of an answer comes late by stall_s; 0: none
    stall_s: float = 0.0
    freezes: Sequence[tuple[float, float]] = ()  # (start, length) in s after the first request
    framing: Framing = "chunked"
    bytewise: bool = False  # one byte a write
    head_bytes: int = 0  # size of an extra header
    every_http_error: int = 0  # status 500
    every_engine_error: int = 0  # status 200, then an error inside the stream
    every_cut: int = 0  # the connection is closed in the middle
    every_early: int = 0  # a proper end after half of the tokens, without a finish reason
    every_trailing: int = 0  # another event after [DONE]
    every_overrun: int = 0  # bytes after the end of the response
    seed: int = 0

    def fault(self, number: int) -> str | None:
        """The fault of a request, by its number in the order of arrival, from 0."""
        for name in ("http_error", "engine_error", "cut", "early", "trailing", "overrun"):
            every = getattr(self, f"every_{name}")
            if every and number % every == every - 1:
                return name
        return None

    @classmethod
    def from_json(cls, text: str) -> "Script":
        fields = json.loads(text)
        return cls(**fields | {"freezes": [tuple(f) for f in fields.get("freezes", ())]})

    def to_json(self) -> str:
        return json.dumps(asdict(self))


@dataclass(slots=True)
class Served:
    """The server's own account of one request; times on the client's clock (CLOCK_MONOTONIC).

    ``sent_s`` is read right before each token's event is handed to the kernel; what it is later
    than ``due_s`` is the server's own lateness, and the client's is only what comes after it.
    """

    request_id: str
    arrived_s: float  # kernel stamp of the request, where there is one
    due_s: "array[float]" = field(default_factory=lambda: array("d"))
    sent_s: "array[float]" = field(default_factory=lambda: array("d"))
    end_s: float | None = None  # None: the client had gone before


def event(text: str, made: int, finish: str | None) -> bytes:
    """One event of the completions stream, with the usage so far."""
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}
    usage = {"prompt_tokens": 8, "total_tokens": 8 + made, "completion_tokens": made}
    value = {
        "id": "cmpl-scripted",
        "object": "text_completion",
        "model": "model",
        "choices": [choice],
        "usage": usage,
    }
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def answer(script: Script, tokens: int, fault: str | None = None) -> list[bytes]:
    """The writes of one whole answer: an event each, the head with the first, the end by itself."""
    if fault == "http_error":
        return [HTTP_ERROR]
    counts = [*range(script.tokens_per_event, tokens, script.tokens_per_event), tokens]
    events = []
    made = 0
    for total in counts:
        finish = "length" if total == tokens else None
        events.append(event(" tok" * (total - made), total, finish))
        made = total
    if fault in ("engine_error", "early", "cut"):
        del events[max(len(events) // 2, 1) :]
    if fault == "engine_error":
        events.append(b'data: {"error":{"message":"out of blocks"}}\n\n')
    done = b"data: [DONE]\n\n"
    writes = _framed(script, [*events, done + events[0] if fault == "trailing" else done])
    if fault == "overrun":
        writes[-1] += b"and more"
    return writes[:-1] if fault == "cut" else writes


def _framed(script: Script, events: list[bytes]) -> list[bytes]:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    if script.head_bytes:
        head += b"X-Padding: " + b"x" * script.head_bytes + b"\r\n"
    if script.framing == "chunked":
        head += b"Transfer-Encoding: chunked\r\n\r\n"
        writes = [b"%x\r\n%s\r\n" % (len(part), part) for part in events]
        writes[-1] += b"0\r\n\r\n"
    elif script.framing == "length":
        head += b"Content-Length: %d\r\n\r\n" % sum(map(len, events))
        writes = events
    else:
        head += b"Connection: close\r\n\r\n"
        writes = events
    return [head + writes[0], *writes[1:]]


@dataclass(slots=True)
class _Stream:
    """One connection, and the answer on it."""

    socket: socket.socket
    request: bytes = b""  # what has come of the next request
    writes: Sequence[bytes] = ()
    next: int = 0  # index of the next write
    pace_s: float = 0.0
    closes: bool = False  # the connection ends with the answer
    served: Served | None = None
    is_open: bool = True


class Server:
    """Plays a script to everybody who connects."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.log: list[Served] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._epoll = select.epoll()
        self._epoll.register(self._listener.fileno(), select.EPOLLIN)
        self._streams: dict[int, _Stream] = {}
        self._due: list[tuple[float, int, _Stream]] = []  # heap: when, tie-breaker, what
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
            self._send_what_is_due()
            gap_s = self._due[0][0] - time.monotonic() if self._due else 0.2
            for fd, _ in self._epoll.poll(max(gap_s - SPIN_S, 0.0) if gap_s > SPIN_S else 0):
                if fd == self._listener.fileno():
                    self._accept()
                elif (stream := self._streams.get(fd)) is not None:
                    self._read(stream)
                if self._due and self._due[0][0] <= time.monotonic():
                    self._send_what_is_due()

    def _freeze(self) -> None:
        """Do nothing at all for a while; everything due moves back by as much."""
        if not self._freezes or self._first_s is None:
            return
        start_s, length_s = self._freezes[0]
        if time.monotonic() >= self._first_s + start_s:
            del self._freezes[0]
            time.sleep(length_s)
            # The same shift for all keeps the heap a heap.
            self._due = [(due + length_s, tie, stream) for due, tie, stream in self._due]

    def _send_what_is_due(self) -> None:
        due, now_s = self._due, time.monotonic
        for _ in range(SENDS_BEFORE_READING):
            if not due or due[0][0] > now_s():
                return
            due_s, tie, stream = due[0]
            if not stream.is_open:
                heapq.heappop(due)
                continue
            at_s = now_s()
            following_s = self._write(stream, due_s, at_s)
            if following_s is None:
                heapq.heappop(due)
            else:
                heapq.heapreplace(due, (following_s, tie, stream))

    def _write(self, stream: _Stream, due_s: float, at_s: float) -> float | None:
        """Send the next write of an answer; when the one after it is due, None at the end."""
        index = stream.next
        last = len(stream.writes) - 1
        try:
            sent = stream.socket.send(stream.writes[index])
        except BlockingIOError:
            sent = 0
        except OSError:  # the client has gone
            self._close(stream)
            return None
        if sent < len(stream.writes[index]):  # it does not read: what is left goes a moment later
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
        return self._following(due_s + stream.pace_s, index + 1)

    def _following(self, following_s: float, index: int) -> float:
        script = self.script
        if script.jitter_s:
            following_s += self._draw.random() * script.jitter_s
        if script.stall_every and index % script.stall_every == 0:
            following_s += script.stall_s
        return following_s

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            clock.ask_for_stamps(connection)
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
        head, found, content = stream.request.partition(b"\r\n\r\n")
        if not found:
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
        if path != b"/v1/completions":  # of health, of a model's name, of what it does not have
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
        asked = json.loads(content)
        stream.writes = self._writes(int(asked["max_tokens"]), fault)
        stream.pace_s = float(asked.get("pace_s", script.pace_s))
        stream.next = 0
        stream.closes = script.framing == "close" or fault == "cut"
        self._ties += 1
        heapq.heappush(self._due, (arrived_s + script.first_s, self._ties, stream))

    def _writes(self, tokens: int, fault: str | None) -> Sequence[bytes]:
        found = self._answers.get((tokens, fault))
        if found is None:
            found = answer(self.script, tokens, fault)
            if self.script.bytewise:
                found = [bytes([byte]) for byte in b"".join(found)]
            self._answers[tokens, fault] = found
        return found

    def _close(self, stream: _Stream) -> None:
        stream.is_open = False
        self._streams.pop(stream.socket.fileno(), None)
        stream.socket.close()


def read_log(path: Path) -> list[Served]:
    """The account that a server wrote when it was stopped: our own file, from this machine."""
    return [Served(*row) for row in pickle.loads(path.read_bytes())]


def main() -> None:
    script_file, log = map(Path, sys.argv[1:3])
    if len(sys.argv) > 3:
        os.sched_setaffinity(0, {int(sys.argv[3])})
    server = Server(Script.from_json(script_file.read_text()))
    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the starter's business
    linux.die_with_parent(signal.SIGKILL)
    gc.freeze()
    gc.disable()
    print(server.port, flush=True)
    server.run()
    rows = [(s.request_id, s.arrived_s, s.due_s, s.sent_s, s.end_s) for s in server.log]
    log.write_bytes(pickle.dumps(rows))


if __name__ == "__main__":
    main()

"""Scripts of the scripted server: how its answers come, and its own account of each.

Standard library only, so that the server starts in milliseconds.
"""

import json
import pickle
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

HTTP_ERROR = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 9\r\n\r\nno memory"

Framing = Literal["chunked", "length", "close"]


@dataclass(frozen=True, slots=True)
class Script:
    """How answers come. Fields ``every_*``: every n-th request has that fault; 0: none has it."""

    first_s: float = 0.03  # from the request's arrival to its first token
    pace_s: float = 0.01  # from one event to the next
    tokens_per_event: int = 1
    jitter_s: float = 0.0  # added to each gap: a uniform draw from 0 to this
    stall_every: int = 0  # every n-th event of an answer is late by stall_s; 0: none is
    stall_s: float = 0.0
    freezes: Sequence[tuple[float, float]] = ()  # (start, length) in s after the first request
    framing: Framing = "chunked"
    bytewise: bool = False  # one byte per write
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

    ``sent_s`` is read right before each event is handed to the kernel. ``sent_s - due_s`` is the
    server's lateness; only what comes after ``sent_s`` is the client's.
    """

    request_id: str
    arrived_s: float  # kernel stamp of the request, where there is one
    due_s: "array[float]" = field(default_factory=lambda: array("d"))
    sent_s: "array[float]" = field(default_factory=lambda: array("d"))
    end_s: float | None = None  # None: the client closed the connection before


def event(text: str, tokens_so_far: int, finish: str | None) -> bytes:
    """One event of the completions stream, with the usage so far."""
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}
    usage = {
        "prompt_tokens": 8,
        "total_tokens": 8 + tokens_so_far,
        "completion_tokens": tokens_so_far,
    }
    value = {
        "id": "cmpl-scripted",
        "object": "text_completion",
        "model": "model",
        "choices": [choice],
        "usage": usage,
    }
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def answer(script: Script, tokens: int, fault: str | None = None) -> list[bytes]:
    """The writes of one answer: one per event; the first has the head too, the last is the end."""
    if fault == "http_error":
        return [HTTP_ERROR]
    counts = [*range(script.tokens_per_event, tokens, script.tokens_per_event), tokens]
    events = []
    sent = 0
    for total in counts:
        finish = "length" if total == tokens else None
        events.append(event(" tok" * (total - sent), total, finish))
        sent = total
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


def read_log(path: Path) -> list[Served]:
    """The account that a server wrote when it stopped. A pickle, so only from our own process."""
    return [Served(*row) for row in pickle.loads(path.read_bytes())]


def write_log(path: Path, log: Sequence[Served]) -> None:
    """Write the account that ``read_log`` reads."""
    rows = [(s.request_id, s.arrived_s, s.due_s, s.sent_s, s.end_s) for s in log]
    path.write_bytes(pickle.dumps(rows))

"""Server-sent events from the timed pieces of a body.

An event has the arrival time of the piece that completed it: no client can use it earlier.
Format: WHATWG HTML, "Server-sent events", section 9.2.6. An event whose data is blank, a keep-alive
of some servers, says nothing and is skipped. httpx-sse reads only from an httpx response, which has
no arrival times; this module can go when a parser takes timed bytes.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

import numpy as np

_EVENT_END = b"\n\n\r\n"  # the empty line, and the end of the chunk
_LAST_CHUNK = b"0\r\n\r\n"
_BOM = b"\xef\xbb\xbf"  # one may begin a stream and is not of it


def events(pieces: Iterable[tuple[float, bytes]]) -> Iterator[tuple[float, str]]:
    """Yield ``(time_s, data)`` for each complete event; comments and other fields are skipped.

    Lines may end in LF, CRLF or CR. A last event without its empty line is yielded too: engines
    that close the connection right after the last event are read completely.
    """
    data: list[str] = []
    time_s = 0.0
    is_first = True
    for time_s, line in _lines(pieces):
        if is_first:
            line, is_first = line.removeprefix(_BOM), False
        if line.startswith(b"data:"):
            value = line[5:].decode("utf-8", errors="replace")
            data.append(value.removeprefix(" "))
        elif line == b"data":  # a field without a colon has an empty value
            data.append("")
        elif not line and data:
            if (text := "\n".join(data)).strip():
                yield time_s, text
            data = []
    if (text := "\n".join(data)).strip():
        yield time_s, text


def regular_events(
    raw: bytes, start: int, arrival_s: Sequence[float], sizes: Sequence[int]
) -> list[tuple[float, str]] | None:
    """The events of a chunked body in which every chunk is one event, as engines write them.

    The same as ``events`` over the body, many times faster; None where it is not of that form.

    Args:
        raw: the whole response; its body begins at ``start``.
        arrival_s, sizes: of the pieces in which ``raw`` came.
    """
    body = raw[start:]
    *chunks, last = body.split(_EVENT_END)
    lines = (len(chunks) * 4 + 2, len(chunks) * 2 + 2)  # of every chunk its own, and no other
    if not chunks or last != _LAST_CHUNK or (body.count(b"\n"), body.count(b"\r")) != lines:
        return None
    sizes_and_data = [chunk.partition(b"\r\n") for chunk in chunks]
    digits = [size for size, _, _ in sizes_and_data]
    data = [data for _, _, data in sizes_and_data]
    if not b"".join(digits).isalnum() or not all(digits):
        return None
    try:
        if [int(size, 16) - 2 for size in digits] != list(map(len, data)):
            return None
    except ValueError:
        return None
    prefix = "data: " if data[0][5:6] == b" " else "data:"
    text = b"\n".join(data).decode("utf-8", "replace")
    found = text.removeprefix(prefix).split("\n" + prefix)
    if not text.startswith(prefix) or len(found) != len(chunks):
        return None
    if prefix == "data:" and any(value[:1] == " " for value in found):
        return None  # one space after the colon is not of the text, in whichever event it is
    # An event is complete with its empty line, two bytes before its chunk ends.
    lengths = [len(chunk) + len(_EVENT_END) for chunk in chunks]
    ends = np.fromiter(accumulate(lengths), np.int64, len(lengths)) + (start - 2)
    piece = np.searchsorted(np.cumsum(np.asarray(sizes, np.int64)), ends, side="left")
    times_s = np.asarray(arrival_s)[piece].tolist()
    timed = list(zip(times_s, found, strict=True))
    return timed if all(map(str.strip, found)) else [pair for pair in timed if pair[1].strip()]


def _lines(pieces: Iterable[tuple[float, bytes]]) -> Iterator[tuple[float, bytes]]:
    """Each line with the time of the piece that ended it; every byte is looked at once, however
    many pieces a line comes in."""
    parts: list[bytes] = []  # of a line that has not ended
    held = b""  # a CR at the end of a piece may be half of a CRLF
    time_s = 0.0
    for time_s, piece in pieces:
        text = held + piece
        held = b"\r" if text.endswith(b"\r") else b""
        text = text[:-1] if held else text
        first, *others = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        parts.append(first)
        if others:
            *complete, rest = others
            yield time_s, b"".join(parts)
            for line in complete:
                yield time_s, line
            parts = [rest]
    last = b"".join(parts)
    if last or held:
        yield time_s, last

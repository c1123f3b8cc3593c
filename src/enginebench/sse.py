"""Server-sent events out of timed pieces of a body.

An event is stamped with the arrival of the piece that completed it: only then could a client have
used it. Format: WHATWG HTML, "Server-sent events", section 9.2.6.
"""

from collections.abc import Iterable, Iterator


def events(pieces: Iterable[tuple[float, bytes]]) -> Iterator[tuple[float, str]]:
    """Yield ``(time_s, data)`` for each complete event; comments and other fields are skipped.

    Lines may end in LF, CRLF or CR. A last event without its empty line is yielded too: engines
    that close the connection right after the last event are read completely.
    """
    data: list[str] = []
    time_s = 0.0
    for time_s, line in _lines(pieces):
        if line.startswith(b"data:"):
            value = line[5:].decode("utf-8", errors="replace")
            data.append(value.removeprefix(" "))
        elif not line and data:
            yield time_s, "\n".join(data)
            data = []
    if data:
        yield time_s, "\n".join(data)


def _lines(pieces: Iterable[tuple[float, bytes]]) -> Iterator[tuple[float, bytes]]:
    rest = b""
    time_s = 0.0
    for time_s, piece in pieces:
        text = rest + piece
        # A CR at the very end may be half of a CRLF: keep it back until the next piece.
        held = text.endswith(b"\r")
        lines = (text[:-1] if held else text).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *complete, rest = lines.split(b"\n")
        rest += b"\r" if held else b""
        for line in complete:
            yield time_s, line
    if rest:
        yield time_s, rest.rstrip(b"\r")

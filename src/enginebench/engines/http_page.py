"""Reading a page of an engine (health, version, metrics, a score) within a time and a size.

The deadline holds for the whole answer, however slowly its bytes come. No redirect is followed, no
proxy asked, nothing unpacked beyond the limit, and a failure is a text, never an exception.
"""

import http.client
import io
import socket
import time
import zlib
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

LIMIT_BYTES = 16 << 20
PIECE_BYTES = 1 << 16
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 47}  # zlib: 16 + 15 and 32 + 15


@dataclass(frozen=True, slots=True)
class Page:
    """What came back: a status and a body, or why there is none."""

    status: int | None  # None: the head of an answer never came
    body: bytes | None  # unpacked; None: not all of it came
    error: str | None  # None: a whole answer, of whatever status

    @property
    def is_good(self) -> bool:
        return self.error is None and self.status == 200

    @property
    def text(self) -> str | None:
        """The body as UTF-8; bytes that are none become U+FFFD."""
        return None if self.body is None else self.body.decode(errors="replace")


class _PageError(Exception):
    """The answer is not one that can be used; its text says why."""


def fetch(
    url: str, timeout_s: float, limit_bytes: int = LIMIT_BYTES, content: bytes | None = None
) -> Page:
    """GET a page over plain HTTP, or POST JSON, on a connection of its own.

    Args:
        timeout_s: for the whole answer, from now on.
        limit_bytes: of its body, unpacked.
        content: the JSON to post; None: GET.
    """
    until_s = time.perf_counter() + timeout_s
    status: int | None = None
    try:
        parts = urlsplit(url)
        address = (parts.hostname or "", parts.port or 80)
        with socket.create_connection(address, max(timeout_s, 0.001)) as connection:
            connection.sendall(_request(parts, content))
            answer = http.client.HTTPResponse(_Reader(connection, until_s))  # type: ignore[arg-type]
            answer.begin()
            status = answer.status
            if 300 <= status < 400:
                return Page(status, None, f"HTTP {status}: a redirect, which is not followed")
            return Page(status, _body(answer, limit_bytes), None)
    except TimeoutError:
        return Page(status, None, f"Timeout: no whole answer within {timeout_s:g} s")
    except _PageError as error:
        return Page(status, None, str(error))
    except (OSError, ValueError, http.client.HTTPException, zlib.error) as error:
        # ValueError: a length that is no number, a port that is none.
        text = " ".join(str(error).split())[:200]
        return Page(status, None, f"{type(error).__name__}: {text}")


def _request(parts: SplitResult, content: bytes | None) -> bytes:
    path = parts.path or "/"
    target = f"{path}?{parts.query}" if parts.query else path
    method = "GET" if content is None else "POST"
    lines = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc}", "Accept-Encoding: identity"]
    if content is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join((*lines, "Connection: close", "", "")).encode() + (content or b"")


def _body(answer: http.client.HTTPResponse, limit_bytes: int) -> bytes:
    coding = (answer.getheader("Content-Encoding") or "identity").strip().lower()
    if coding != "identity" and coding not in _WINDOW_BITS:
        raise _PageError(f"Encoding: {coding[:40]!r}, which was not asked for")
    unpack = zlib.decompressobj(_WINDOW_BITS[coding]) if coding != "identity" else None
    body = bytearray()
    expected = answer.length  # None: chunked, or to the end of the connection
    received = 0
    while piece := answer.read(PIECE_BYTES):
        received += len(piece)
        left = limit_bytes + 1 - len(body)
        body += piece if unpack is None else unpack.decompress(piece, left)
        if len(body) > limit_bytes or (unpack is not None and unpack.unconsumed_tail):
            raise _PageError(f"TooLarge: more than {limit_bytes / 2**20:g} MiB")
        if unpack is not None and unpack.eof:
            return bytes(body)
    if expected is not None and received < expected:
        raise _PageError(f"Cut: {received} of {expected} bytes came")
    if unpack is not None:
        raise _PageError("Cut: its compressed bytes end too early")
    return bytes(body)


class _Reader(io.RawIOBase):
    """A connection to read from until a moment; stands in for the socket of an HTTPResponse."""

    def __init__(self, connection: socket.socket, until_s: float) -> None:
        self._connection, self._until_s = connection, until_s

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        left_s = self._until_s - time.perf_counter()
        if left_s <= 0:
            raise TimeoutError
        self._connection.settimeout(left_s)
        return self._connection.recv_into(buffer)

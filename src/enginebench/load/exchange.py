"""One request and the raw bytes of its answer, with their times.

While a response comes in, its bytes and the stamps of its pieces stay in memory. Once it has ended,
its bytes go to a file. Of a finished response the client holds 28 bytes per piece (stamp, time of
reading, length), and 20 after the load.
"""

import os
import tempfile
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from enginebench.load import clock

#: Why a request does not count.
Kind = Literal[
    "refused",  # no connection
    "cut",  # the connection ended before the response
    "timeout",
    "cancelled",  # the client closed the connection, as planned
    "protocol",  # not HTTP, or not what the engine's API allows
    "http",  # a status other than 200
    "engine",  # the engine reported an error inside a stream with status 200
    "incomplete",  # a proper end, but no finish reason
    "trailing",  # something after the end
    "not sent",  # given up before it was begun: the engine had gone
]


def _floats() -> "array[float]":
    return array("d")


def _counts() -> "array[int]":
    return array("I")


@dataclass(slots=True)
class Exchange:
    """One request and everything that came back. Times in seconds of CLOCK_MONOTONIC."""

    index: int
    planned_s: float | None = (
        None  # when it was due (open loop), or its stream became free (closed)
    )
    ready_s: float | None = None  # when it was due and a stream was free
    sent_s: float | None = None  # right before its last byte went to the kernel; None: never sent
    #: Of each piece (what one read returned): the kernel's stamp, or ``read_s`` if there is none.
    arrival_s: "array[float]" = field(default_factory=_floats)
    read_s: "array[float]" = field(default_factory=_floats)  # when the client had read each piece
    sizes: "array[int]" = field(default_factory=_counts)  # bytes in each piece
    end_s: float | None = None
    fault: str | None = None  # why the exchange is not a complete HTTP response
    kind: Kind | None = None  # the kind of ``fault``
    kept: "bytes | bytearray | Spooled" = b""

    def raw(self) -> bytes:
        """All bytes that came back."""
        return self.kept.read() if isinstance(self.kept, Spooled) else bytes(self.kept)

    @property
    def pieces(self) -> list[tuple[float, bytes]]:
        """``(arrival_s, bytes)`` as they came."""
        raw, start, pieces = self.raw(), 0, []
        for time_s, size in zip(self.arrival_s, self.sizes, strict=True):
            pieces.append((time_s, raw[start : start + size]))
            start += size
        return pieces


@dataclass(frozen=True, slots=True)
class Spooled:
    """Bytes in an open file."""

    fd: int
    offset: int
    length: int

    def read(self) -> bytes:
        return os.pread(self.fd, self.length, self.offset)


class Spool:
    """The file that holds finished responses. It has no name, so the kernel always frees it."""

    def __init__(self, path: Path | None = None) -> None:
        """
        Args:
            path: the spool of another process, to write to; default: a new file.
        """
        if path is None:
            self.fd = _nameless_file()
        else:
            self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._end = 0

    @property
    def path(self) -> Path:
        """Where other processes of this user can open it while this process runs."""
        return Path(f"/proc/{os.getpid()}/fd/{self.fd}")

    def keep(self, data: bytearray) -> Spooled | bytearray:
        """Write bytes to the file; if that fails (a full disk), they stay in memory."""
        try:
            length = os.pwrite(self.fd, data, self._end)
        except OSError:
            length = -1
        if length != len(data):
            return data
        kept = Spooled(self.fd, self._end, length)
        self._end += length
        return kept

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _nameless_file() -> int:
    directory = tempfile.gettempdir()
    try:
        return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:  # a file system without nameless files (NFS)
        fd, name = tempfile.mkstemp(prefix="enginebench-", dir=directory)
        Path(name).unlink()
        return fd


def arrivals(
    stamps: bytes, read_s: "array[float]", offset_ns: int | None
) -> "tuple[array[float], int]":
    """Arrival times in seconds of CLOCK_MONOTONIC, and how many of them are kernel stamps.

    A piece without a stamp has the time of its reading.

    Args:
        stamps: a timespec (16 bytes) of CLOCK_REALTIME for each piece; zeros: no stamp.
        read_s: when each piece was read.
        offset_ns: CLOCK_MONOTONIC minus CLOCK_REALTIME; None: the stamps cannot be used.
    """
    if offset_ns is None or not stamps:
        return array("d", read_s), 0
    times = np.frombuffer(stamps, np.int64).reshape(-1, 2)
    wall_ns = times[:, 0] * 1_000_000_000 + times[:, 1]
    times_s = np.where(wall_ns == 0, np.asarray(read_s), (wall_ns + offset_ns) / 1e9)
    return array("d", times_s.tobytes()), int(np.count_nonzero(wall_ns))


def stamp_s(stamp: bytes, offset_ns: int) -> float:
    """One kernel stamp (a timespec of CLOCK_REALTIME) in seconds of CLOCK_MONOTONIC."""
    seconds, nanoseconds = clock.STAMP.unpack(stamp)
    return (int(seconds) * 1_000_000_000 + int(nanoseconds) + offset_ns) / 1e9

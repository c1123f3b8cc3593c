"""What Linux gives a client that must be on time: receive timestamps, exact timers, one clock.

The kernel stamps each segment when it arrives, on CLOCK_REALTIME (``SO_TIMESTAMPNS``, socket(7));
all times recorded here are CLOCK_MONOTONIC. The distance between the two clocks is measured at both
ends of a cell. Standard library only: the scripted server starts with it in milliseconds.
"""

import contextlib
import ctypes
import os
import socket
import struct
import time
from dataclasses import dataclass

SO_TIMESTAMPNS = 35  # asm-generic/socket.h; the control message has the same number
STAMP = struct.Struct("qq")  # timespec: seconds, nanoseconds
CONTROL_BYTES = socket.CMSG_SPACE(STAMP.size)
NO_STAMP = bytes(STAMP.size)  # kept where the kernel gave none

_TFD_NONBLOCK, _TFD_TIMER_ABSTIME = os.O_NONBLOCK, 1  # sys/timerfd.h
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """CLOCK_MONOTONIC minus CLOCK_REALTIME, in nanoseconds, and how far off it may be."""

    offset_ns: int
    error_ns: int


def clock_offset(tries: int = 50) -> ClockOffset:
    """Read the wall clock between two readings of the monotonic one; the closest pair counts.

    The error is half the distance of that pair: the wall clock was read somewhere inside it.
    """
    best = ClockOffset(0, 1 << 62)
    for _ in range(tries):
        before = time.monotonic_ns()
        wall = time.clock_gettime_ns(time.CLOCK_REALTIME)
        after = time.monotonic_ns()
        half = (after - before + 1) // 2
        if half < best.error_ns:
            best = ClockOffset(before + half - wall, half)
    return best


def ask_for_stamps(connection: socket.socket) -> bool:
    """Have the kernel stamp what arrives on a socket; False where it cannot."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    except OSError:
        return False
    return True


class Timer:
    """A file descriptor that becomes readable at a moment of CLOCK_MONOTONIC (timerfd(2)).

    Waiting in ``epoll`` alone would round to milliseconds.
    """

    def __init__(self) -> None:
        self.fd = _LIBC.timerfd_create(time.CLOCK_MONOTONIC, _TFD_NONBLOCK)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "cannot make a timer")

    def set(self, at_s: float, every_s: float = 0.0) -> None:
        """Fire at a moment, and then again every so many seconds if ``every_s`` is given."""
        times = [part for value in (every_s, at_s) for part in divmod(int(value * 1e9), 10**9)]
        spec = (ctypes.c_long * 4)(*times)
        _LIBC.timerfd_settime(self.fd, _TFD_TIMER_ABSTIME, spec, None)

    def clear(self) -> None:
        """Take note that it has fired."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 8)

    def close(self) -> None:
        os.close(self.fd)

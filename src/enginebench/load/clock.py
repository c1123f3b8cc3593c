"""Exact times on Linux: receive timestamps, timers, and the distance of two clocks.

The kernel stamps each segment when it arrives, on CLOCK_REALTIME (``SO_TIMESTAMPNS``, socket(7));
all recorded times are CLOCK_MONOTONIC. The distance between the two clocks is measured at both ends
of a load. Standard library only, so that the scripted server starts in milliseconds.
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
NO_STAMP = bytes(STAMP.size)  # stands for a missing stamp

_TFD_NONBLOCK, _TFD_TIMER_ABSTIME = os.O_NONBLOCK, 1  # sys/timerfd.h
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """CLOCK_MONOTONIC minus CLOCK_REALTIME, and the largest possible error of that; both in ns."""

    offset_ns: int
    error_ns: int


def clock_offset(tries: int = 50) -> ClockOffset:
    """Read the wall clock between two readings of the monotonic clock; the closest pair counts.

    The error is half the distance of that pair, as the wall clock was read somewhere inside it.
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


def enable_stamps(connection: socket.socket) -> bool:
    """Have the kernel stamp what arrives on a socket; False if it cannot."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    except OSError:
        return False
    return True


class Timer:
    """A file descriptor that becomes readable at a moment of CLOCK_MONOTONIC (timerfd(2)).

    Waiting in ``epoll`` alone would round to milliseconds. ``os.timerfd_create`` replaces this
    class once Python 3.13 is the oldest supported version.
    """

    def __init__(self) -> None:
        self.fd = _LIBC.timerfd_create(time.CLOCK_MONOTONIC, _TFD_NONBLOCK)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "cannot create a timer")

    def set(self, at_s: float, every_s: float = 0.0) -> None:
        """Fire at a moment, and then every ``every_s`` seconds; 0: once."""
        times = [part for value in (every_s, at_s) for part in divmod(int(value * 1e9), 10**9)]
        spec = (ctypes.c_long * 4)(*times)
        _LIBC.timerfd_settime(self.fd, _TFD_TIMER_ABSTIME, spec, None)

    def clear(self) -> None:
        """Make the descriptor unreadable until it fires again."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 8)

    def close(self) -> None:
        os.close(self.fd)

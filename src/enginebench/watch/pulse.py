"""Doing something at a fixed interval in a thread of its own."""

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PulseCost:
    """What the beats of a pulse took; one of ``watching`` in ``cell.json``.

    Those at its start and its end do not count. None: there was no beat.
    """

    interval_s: float
    beats: int
    missed: int  # left out, as the one before was not done
    late_s_mean: float | None  # from the moment at which a beat was due to its beginning
    late_s_max: float | None
    took_s: float
    cpu_s: float  # CPU time of the thread


class Pulse:
    """Calls a function at its start, at its end, and at a fixed interval in between.

    A beat that is due while the one before still runs is left out, not made up for.
    """

    def __init__(self, do: Callable[[], None], interval_s: float) -> None:
        self._do = do
        self._interval_s = interval_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._beats = self._missed = 0
        self._late_s = self._latest_s = self._took_s = self._cpu_s = 0.0

    def start(self) -> None:
        """Do it once in the calling thread, then start the thread."""
        self._beat()
        self._thread.start()

    def stop(self) -> None:
        """End the thread, then do it once more in the calling thread."""
        self._stopped.set()
        self._thread.join()
        self._beat()

    def _beat(self) -> None:
        """Do it once; a beat that the system refuses (no free file descriptor) is missing."""
        with contextlib.suppress(OSError, MemoryError):
            self._do()

    def cost(self) -> PulseCost:
        """What the beats in between took, once it is stopped."""
        return PulseCost(
            interval_s=self._interval_s,
            beats=self._beats,
            missed=self._missed,
            late_s_mean=self._late_s / self._beats if self._beats else None,
            late_s_max=self._latest_s if self._beats else None,
            took_s=self._took_s,
            cpu_s=self._cpu_s,
        )

    def _run(self) -> None:
        due_s = time.perf_counter() + self._interval_s
        while not self._stopped.wait(max(0.0, due_s - time.perf_counter())):
            start_s = time.perf_counter()
            self._beat()
            end_s = time.perf_counter()
            self._beats += 1
            self._late_s += start_s - due_s
            self._latest_s = max(self._latest_s, start_s - due_s)
            self._took_s += end_s - start_s
            passed = int((end_s - due_s) / self._interval_s)
            self._missed += passed
            due_s += (passed + 1) * self._interval_s
        self._cpu_s = time.thread_time()

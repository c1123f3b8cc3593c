"""Ctrl-C, SIGTERM and SIGHUP: deferred where they must not break in."""

import contextlib
import signal
from collections.abc import Iterator

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DeferredInterrupts:
    """The interrupts that arrive while one engine starts and stops."""

    def __init__(self) -> None:
        self._arrived: list[int] = []  # during the block that runs, or the last one
        self._was_repeated = False  # several arrived during the block before that

    @contextlib.contextmanager
    def defer(self) -> Iterator[None]:
        """Defer interrupts until the block has ended; then the first of them is raised.

        An interrupt that arrives while a process is being forked is lost (Python ignores what its
        at-fork hooks raise); one that arrives while an engine is being stopped would leave it
        running. Handlers are replaced, not signals blocked: a mask holds for one thread only, and
        a display has a thread of its own.
        """
        self._was_repeated = len(self._arrived) > 1
        self._arrived = []
        heeded = [n for n in _INTERRUPTS if signal.getsignal(n) != signal.SIG_IGN]  # nohup
        before = {number: signal.signal(number, self._record) for number in heeded}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if self._arrived:
                signal.raise_signal(self._arrived[0])

    def is_urgent(self) -> bool:
        """Whether another interrupt has arrived since the one that led to this block."""
        return self._was_repeated or bool(self._arrived)

    def _record(self, number: int, frame: object) -> None:
        self._arrived.append(number)

"""Ctrl-C and SIGTERM: put off where they must not break in."""

import contextlib
import signal
from collections.abc import Callable, Iterator

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)
_put_off: list[int] = []  # by the last block


@contextlib.contextmanager
def signals_held() -> Iterator[Callable[[], bool]]:
    """Put off Ctrl-C and SIGTERM until the block has ended.

    An interrupt that arrives while a process is being forked is lost (Python ignores what its
    at-fork hooks raise); one that arrives while an engine is being stopped would leave it running.
    Handlers are replaced, not signals blocked: a mask holds for one thread only, and a display has
    a thread of its own.

    Yields:
        a function that says whether someone is in a hurry: another interrupt has arrived since the
        one that led here.
    """
    arrived: list[int] = []
    is_hurried = len(_put_off) > 1  # two while the block before was run
    before = {
        number: signal.signal(number, lambda number, _: arrived.append(number))
        for number in _INTERRUPTS
    }
    try:
        yield lambda: bool(is_hurried or arrived)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _put_off[:] = arrived
        if arrived:
            signal.raise_signal(arrived[0])

"""The load generator in one process: many streamed requests at once, every piece stamped.

``workers.py`` runs several of them.
"""

import contextlib
import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from enginebench.engines.address import Address
from enginebench.load.event_loop import EventLoop
from enginebench.load.exchange import Exchange, Spool
from enginebench.load.spec import LoadProgress, LoadResult, LoadSpec

SWITCH_S = 1e-4  # longest time that another thread may hold the interpreter


def run(
    load: LoadSpec,
    progress: LoadProgress | None = None,
    engine_gone: Callable[[], str | None] = lambda: None,
    start_s: Callable[[], float] = time.perf_counter,
    on_tick: Callable[[], None] = lambda: None,
    spool: Spool | None = None,
) -> LoadResult:
    """Send all requests and wait for the end of every one.

    Args:
        progress: counts that are kept up to date, for a display.
        engine_gone: asked after a failed exchange. A reason means that the engine will not come
            back: the requests not yet begun get the kind "not sent" with that reason.
        start_s: asked once the connections are open: the moment at which the clock starts.
        on_tick: called every few milliseconds.
        spool: the file for finished responses; default: a temporary one.

    Raises:
        OSError: the host has no address, or the process may open no more files.
    """
    loop = EventLoop(load, progress or LoadProgress(), engine_gone, on_tick, spool or Spool())
    try:
        with _undisturbed():
            loop.run(start_s)
        return loop.result()
    except BaseException:
        loop.finished.spool.close()
        raise
    finally:
        loop.close()


def run_closed_loop(
    address: Address,
    requests: Sequence[bytes],
    concurrency: int,
    timeout_s: float,
    progress: LoadProgress | None = None,
    engine_gone: Callable[[], str | None] = lambda: None,
) -> list[Exchange]:
    """Send all requests, keeping ``concurrency`` in flight; the next goes to the first free stream.

    For small loads: all responses are held in memory.
    """
    load = LoadSpec(address, requests, concurrency, timeout_s=timeout_s)
    with run(load, progress, engine_gone) as result:
        for exchange in result.exchanges:
            exchange.kept = exchange.raw()
        return result.exchanges


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """No garbage collection, and no other thread for long, while tokens arrive."""
    switch_s = sys.getswitchinterval()
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(switch_s)
        if was_enabled:
            gc.enable()
        gc.unfreeze()

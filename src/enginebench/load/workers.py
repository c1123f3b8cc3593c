"""One load in several processes, for more than one core can send and stamp.

Each process has its share of the requests, of the streams and of a cap. All have the same clock
(CLOCK_MONOTONIC) and begin at the same moment of it, once all connections of all are open.
"""

import multiprocessing as mp
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from enginebench.base import linux
from enginebench.base.errors import UserError
from enginebench.load import event_loop
from enginebench.load.exchange import Exchange, Spool, Spooled
from enginebench.load.spec import LoadProgress, LoadResult, LoadSpec, ProcessStats

START_AHEAD_S = 0.05  # for the word to reach everybody
POLL_S = 0.1
COUNTS = 4  # of a process, shared: requests done, pieces, in flight; is the engine lost?


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    pipe: "Connection[Any, Any]"
    spool: Spool


def run(
    sent: LoadSpec,
    processes: int = 1,
    live: LoadProgress | None = None,
    lost: Callable[[], str | None] = lambda: None,
) -> LoadResult:
    """``load.run``, in so many processes (no more than there are streams).

    Raises:
        UserError: a process ended without its results.
    """
    processes = min(processes, sent.streams)
    if processes < 2:
        return event_loop.run(sent, live, lost)
    context = mp.get_context("spawn")  # a fork would copy the threads' locks
    counts = context.RawArray("q", COUNTS * processes)
    workers: list[_Worker] = []
    try:
        for number, share in enumerate(split(sent, processes)):
            ours, theirs = context.Pipe()
            spool = Spool()
            arguments = (share, theirs, counts, number, spool.path)
            process = context.Process(target=_work, args=arguments, daemon=True)
            workers.append(_Worker(process, ours, spool))
            process.start()
            theirs.close()
        for worker in workers:
            worker.pipe.recv()  # its connections are open
        start_s = time.perf_counter() + START_AHEAD_S
        for worker in workers:
            worker.pipe.send(start_s)
        results = _results(workers, counts, live or LoadProgress(), lost)
    except (EOFError, ConnectionError):
        _end(workers, keep=False)
        raise UserError(
            f"load generator: expected the results of {processes} processes, found that one had "
            "ended without (killed, or out of memory?); run again with more memory or a lower load"
        ) from None
    except BaseException:
        _end(workers, keep=False)
        raise
    _end(workers, keep=True)
    return _merged(results, [worker.spool for worker in workers])


def split(sent: LoadSpec, processes: int) -> list[LoadSpec]:
    """The shares of a load: request k goes to process k modulo their number."""
    shares = []
    for number in range(processes):
        streams = sent.streams // processes + (number < sent.streams % processes)
        mine = range(number, len(sent.requests), processes)
        shares.append(
            replace(
                sent,
                requests=[sent.requests[index] for index in mine],
                streams=streams,
                due_s=None if sent.due_s is None else [sent.due_s[index] for index in mine],
                cancel_after_s={
                    place: sent.cancel_after_s[index]
                    for place, index in enumerate(mine)
                    if index in sent.cancel_after_s
                },
            )
        )
    return shares


def _work(
    share: LoadSpec, pipe: "Connection[Any, Any]", counts: Any, number: int, path: Any
) -> None:
    """What a process does: open, say so, wait for the moment, run, hand over."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the starter's business
    linux.die_with_parent(signal.SIGKILL)
    live, first = LoadProgress(), COUNTS * number

    def publish() -> None:
        counts[first : first + 3] = [live.requests_done, live.pieces, live.in_flight]

    def start_s() -> float:
        pipe.send("ready")
        moment: float = pipe.recv()
        time.sleep(max(moment - time.perf_counter(), 0.0))
        return moment

    def lost() -> str | None:
        return "the engine is lost" if counts[first + 3] else None

    taken = event_loop.run(share, live, lost, start_s, publish, Spool(path))
    publish()
    pipe.send((taken.exchanges, taken.own))


def _results(
    workers: list[_Worker], counts: Any, live: LoadProgress, lost: Callable[[], str | None]
) -> list[tuple[list[Exchange], list[ProcessStats]]]:
    """Wait for every process, and keep the display's counts."""
    found: dict[int, tuple[list[Exchange], list[ProcessStats]]] = {}
    reason = None
    while len(found) < len(workers):
        left = [worker.pipe for k, worker in enumerate(workers) if k not in found]
        for pipe in wait(left, POLL_S):
            number = next(k for k, worker in enumerate(workers) if worker.pipe is pipe)
            found[number] = workers[number].pipe.recv()
        totals = [sum(counts[which::COUNTS]) for which in range(3)]
        live.requests_done, live.pieces, live.in_flight = totals
        reason = reason or lost()
        if reason is not None:
            for number in range(len(workers)):
                counts[COUNTS * number + 3] = 1
    return [found[number] for number in range(len(workers))]


def _merged(
    results: list[tuple[list[Exchange], list[ProcessStats]]], spools: list[Spool]
) -> LoadResult:
    exchanges: list[Exchange] = []
    for number, (mine, _) in enumerate(results):
        for exchange in mine:
            exchange.index = exchange.index * len(results) + number
            if isinstance(exchange.kept, Spooled):  # the same file, opened here
                exchange.kept = replace(exchange.kept, fd=spools[number].fd)
        exchanges += mine
    exchanges.sort(key=lambda exchange: exchange.index)
    return LoadResult(exchanges, [own for _, owns in results for own in owns], spools)


def _end(workers: list[_Worker], keep: bool) -> None:
    for worker in workers:
        if not keep:
            worker.spool.close()
        if worker.process.pid is not None:  # otherwise it was never started
            if not keep:
                worker.process.kill()
            worker.process.join()
        worker.pipe.close()

"""One load in several processes, where one core cannot send and stamp all of it.

Each process gets a share of the requests and of the streams. All use the same clock
(CLOCK_MONOTONIC) and start at the same moment, once every process has opened its connections.
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
from enginebench.load import client
from enginebench.load.exchange import Exchange, Spool, Spooled
from enginebench.load.spec import LoadProgress, LoadResult, LoadSpec, ProcessStats

START_AHEAD_S = 0.05  # for the moment of the start to reach every process
POLL_S = 0.1
#: Shared numbers per process: requests done, pieces, in flight; 1 if the engine is gone.
COUNTS = 4


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    pipe: "Connection[Any, Any]"
    spool: Spool


def run(
    load: LoadSpec,
    processes: int = 1,
    progress: LoadProgress | None = None,
    engine_gone: Callable[[], str | None] = lambda: None,
) -> LoadResult:
    """``client.run`` in several processes; ``processes`` is the most, but never above the streams.

    Raises:
        UserError: a process ended without its results.
    """
    processes = min(processes, load.streams)
    if processes < 2:
        return client.run(load, progress, engine_gone)
    context = mp.get_context("spawn")  # a fork would copy the threads' locks
    counts = context.RawArray("q", COUNTS * processes)
    workers: list[_Worker] = []
    try:
        for number, share in enumerate(split(load, processes)):
            our_end, their_end = context.Pipe()
            spool = Spool()
            arguments = (share, their_end, counts, number, spool.path)
            process = context.Process(target=_work, args=arguments, daemon=True)
            workers.append(_Worker(process, our_end, spool))
            process.start()
            their_end.close()
        for worker in workers:
            worker.pipe.recv()  # it has opened its connections
        start_s = time.perf_counter() + START_AHEAD_S
        for worker in workers:
            worker.pipe.send(start_s)
        results = _results(workers, counts, progress or LoadProgress(), engine_gone)
    except (EOFError, ConnectionError):
        _end(workers, keep=False)
        raise UserError(
            f"load generator: expected results from {processes} processes, found that one ended "
            "without them (killed, or out of memory?); run again with more memory or a lower load"
        ) from None
    except BaseException:
        _end(workers, keep=False)
        raise
    _end(workers, keep=True)
    return _merged(results, [worker.spool for worker in workers])


def split(load: LoadSpec, processes: int) -> list[LoadSpec]:
    """The share of each process: request k goes to process k modulo ``processes``."""
    shares = []
    for number in range(processes):
        streams = load.streams // processes + (number < load.streams % processes)
        indices = range(number, len(load.requests), processes)
        shares.append(
            replace(
                load,
                requests=[load.requests[index] for index in indices],
                streams=streams,
                due_s=None if load.due_s is None else [load.due_s[index] for index in indices],
                cancel_after_s={
                    position: load.cancel_after_s[index]
                    for position, index in enumerate(indices)
                    if index in load.cancel_after_s
                },
            )
        )
    return shares


def _work(
    share: LoadSpec, pipe: "Connection[Any, Any]", counts: Any, number: int, path: Any
) -> None:
    """The program of one process: connect, report that, wait for the start, run, send results."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    linux.die_with_parent(signal.SIGKILL)
    progress, first = LoadProgress(), COUNTS * number

    def publish() -> None:
        counts[first : first + 3] = [progress.requests_done, progress.pieces, progress.in_flight]

    def start_s() -> float:
        pipe.send("ready")
        at_s: float = pipe.recv()
        time.sleep(max(at_s - time.perf_counter(), 0.0))
        return at_s

    def engine_gone() -> str | None:
        return "the engine is gone" if counts[first + 3] else None

    result = client.run(share, progress, engine_gone, start_s, publish, Spool(path))
    publish()
    pipe.send((result.exchanges, result.stats))


def _results(
    workers: list[_Worker],
    counts: Any,
    progress: LoadProgress,
    engine_gone: Callable[[], str | None],
) -> list[tuple[list[Exchange], list[ProcessStats]]]:
    """Wait for every process, and keep ``progress`` up to date meanwhile."""
    results: dict[int, tuple[list[Exchange], list[ProcessStats]]] = {}
    reason = None
    while len(results) < len(workers):
        running = [worker.pipe for k, worker in enumerate(workers) if k not in results]
        for pipe in wait(running, POLL_S):
            number = next(k for k, worker in enumerate(workers) if worker.pipe is pipe)
            results[number] = workers[number].pipe.recv()
        totals = [sum(counts[which::COUNTS]) for which in range(3)]
        progress.requests_done, progress.pieces, progress.in_flight = totals
        reason = reason or engine_gone()
        if reason is not None:
            for number in range(len(workers)):
                counts[COUNTS * number + 3] = 1
    return [results[number] for number in range(len(workers))]


def _merged(
    results: list[tuple[list[Exchange], list[ProcessStats]]], spools: list[Spool]
) -> LoadResult:
    exchanges: list[Exchange] = []
    for number, (share, _) in enumerate(results):
        for exchange in share:
            exchange.index = exchange.index * len(results) + number
            if isinstance(exchange.kept, Spooled):  # the descriptor of that process is not ours
                exchange.kept = replace(exchange.kept, fd=spools[number].fd)
        exchanges += share
    exchanges.sort(key=lambda exchange: exchange.index)
    return LoadResult(exchanges, [one for _, stats in results for one in stats], spools)


def _end(workers: list[_Worker], keep: bool) -> None:
    for worker in workers:
        if not keep:
            worker.spool.close()
        if worker.process.pid is not None:  # None: it was never started
            if not keep:
                worker.process.kill()
            worker.process.join()
        worker.pipe.close()

"""How noisy this machine is, measured for a few seconds before a study: the same work again and
again on the CPUs that the engines will use, and what else the machine did meanwhile."""

import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from enginebench.base.machine_row import MachineRow
from enginebench.base.sample_size import Spread, trials_needed
from enginebench.hardware import steady_work
from enginebench.metrics import machine_load
from enginebench.metrics.machine_load import MachineFigures
from enginebench.watch.machine_load import INTERVAL_S, MachineSampler

SECONDS = 4.0
WINDOW_S = 0.5  # so long one speed is taken over; shorter noise averages out in any cell
LEAST_WINDOWS = 4
MOST_CPUS = 16  # a process each; of more CPUs, that many spread over all
START_AHEAD_S = 0.1
GRACE_S = 20.0
DIFFERENCE = 0.10  # that the printed number of trials is for

Pieces = Sequence[tuple[float, float]]  # of one CPU: start and wall time in s


@dataclass(frozen=True, slots=True)
class Noise:
    """What the probe saw."""

    seconds: float
    cpus: tuple[int, ...]  # that worked
    pieces: int
    sd_log: float | None  # of the slowest CPU's speed over windows of WINDOW_S; None: too few
    slowest_ratio: float | None  # the longest piece over the median one
    machine: MachineFigures
    error: str | None = None  # why there is no figure

    @property
    def spread(self) -> Spread | None:
        if self.sd_log is None:
            return None
        source = f"{self.seconds:g} s of equal work on {len(self.cpus)} CPUs before the study"
        return Spread(self.sd_log, source, is_between_starts=False)


def measure(cpus: Sequence[int], seconds: float = SECONDS) -> Noise:
    """Keep the CPUs busy with pieces of equal work; never raises for a machine that cannot.

    Args:
        cpus: that the engines will use.
    """
    chosen = tuple(cpus[:: max(1, -(-len(cpus) // MOST_CPUS))])
    rows: list[MachineRow] = []
    workers: list[subprocess.Popen[str]] = []
    try:
        workers.extend(_start(cpu, seconds) for cpu in chosen)
        pieces = _pieces(workers, seconds, MachineSampler((), cpus), rows)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        seen = machine_load.figures(rows)
        return Noise(seconds, chosen, 0, None, None, seen, f"{type(error).__name__}: {error}")
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    walls = [wall_s for row in pieces for _, wall_s in row]
    return Noise(
        seconds,
        chosen,
        len(walls),
        sd_log(pieces),
        max(walls) / statistics.median(walls) if walls else None,
        machine_load.figures(rows),
    )


def _start(cpu: int, seconds: float) -> "subprocess.Popen[str]":
    command = [sys.executable, "-P", str(Path(steady_work.__file__)), str(cpu), f"{seconds}"]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def _pieces(
    workers: Sequence["subprocess.Popen[str]"],
    seconds: float,
    sampler: MachineSampler,
    rows: list[MachineRow],
) -> list[Pieces]:
    """Have all begin at one moment, read the machine meanwhile, and collect their answers."""
    for worker in workers:
        assert worker.stdout is not None
        if worker.stdout.readline() != "ready\n":
            raise ValueError("a process of the probe did not start")
    start_s = time.perf_counter() + START_AHEAD_S
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(f"{start_s}\n")
        worker.stdin.flush()
    while (left_s := start_s + seconds - time.perf_counter()) > 0:
        rows.append(sampler.sample())
        time.sleep(min(INTERVAL_S, left_s))
    rows.append(sampler.sample())
    answers = [worker.communicate(timeout=GRACE_S)[0] for worker in workers]
    return [[(float(a), float(b)) for a, b in json.loads(answer)] for answer in answers]


def sd_log(pieces: Sequence[Pieces], window_s: float = WINDOW_S) -> float | None:
    """Standard deviation of the log of the speed over windows; None with fewer than LEAST_WINDOWS.

    In each window the slowest CPU counts, as it does for threads that wait for each other. Windows
    in which a CPU began no piece, and the last one, which may be cut, are left out.

    Args:
        pieces: one list a CPU, all from the same moment.
    """
    starts = [row[0][0] for row in pieces if row]
    if len(starts) < max(len(pieces), 1):
        return None
    by_cpu: list[dict[int, list[float]]] = []
    for row in pieces:
        windows: dict[int, list[float]] = {}
        for start_s, wall_s in row:
            windows.setdefault(int((start_s - min(starts)) / window_s), []).append(wall_s)
        by_cpu.append(windows)
    last = max(max(windows) for windows in by_cpu)
    complete = [k for k in range(last) if all(k in windows for windows in by_cpu)]
    slowest = [max(statistics.fmean(windows[k]) for windows in by_cpu) for k in complete]
    if len(slowest) < LEAST_WINDOWS:
        return None
    return statistics.stdev(math.log(wall_s) for wall_s in slowest)


def noise_lines(
    noise: Noise, before: Spread | None, variants: int, planned_trials: int
) -> list[str]:
    """The lines of the printed plan on the machine's noise and of the trials that it asks for.

    Args:
        before: between the starts of an earlier study on this machine, if there is one; it is used
            instead of the probe's, which cannot see what differs from start to start.
        variants: compared in this study.
    """
    lines = [f"machine before the study: {_seen(noise)}"]
    spread = before or noise.spread
    if spread is None or variants < 2:
        return lines
    trials = trials_needed(spread.sd_log, variants, difference=DIFFERENCE)
    many = "more than 1,000" if trials is None else f"{trials}"
    least = "" if spread.is_between_starts else "at least "
    lines.append(
        f"trials: a {DIFFERENCE:.0%} difference would need {least}{many} here "
        f"({planned_trials} planned); spread {spread.sd_log:.1%}, {spread.source}"
    )
    if not spread.is_between_starts:
        lines.append(
            "engine starts differ for more reasons than this probe can see: take its spread as a "
            "lower bound for theirs"
        )
    return lines


def _seen(noise: Noise) -> str:
    if noise.error is not None:
        return f"its noise could not be measured ({noise.error})"
    parts = []
    if noise.sd_log is not None and noise.slowest_ratio is not None:
        parts.append(f"speed of equal work varies by {noise.sd_log:.1%} (standard deviation)")
        parts.append(f"the slowest piece took {noise.slowest_ratio:.1f} times the median")
    machine = noise.machine
    if machine.others_cores_mean is not None:
        parts.append(f"other processes used {machine.others_cores_mean:.2f} of {machine.cpus} CPUs")
    if machine.steal_share is not None:
        parts.append(f"steal {machine.steal_share:.1%}")
    return "; ".join(parts) or "not measured"

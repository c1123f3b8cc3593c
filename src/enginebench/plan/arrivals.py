"""When the requests of an open loop are due: drawn from a seed before the cell, the same for all.

Times are seconds after the start of a cell, ascending.
"""

import csv
import io
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from enginebench.base import text_file
from enginebench.base.errors import UserError
from enginebench.base.text import one_line
from enginebench.plan.workload import Workload

MOST_TRACE_BYTES = 1 << 30
MOST_TOKENS = 2**31 - 1
LATEST_S = 1e19  # nanoseconds since 1970 are below it
TRACE_COLUMNS = ("time_s", "prompt_tokens", "output_tokens")


@dataclass(frozen=True, slots=True)
class TraceRow:
    """One request of a trace."""

    time_s: float
    prompt_tokens: int
    output_tokens: int


def due_s(
    workload: Workload, rate: float, count: int, seed: str, trace: Sequence[TraceRow] = ()
) -> list[float]:
    """The moments at which ``count`` requests are due, at ``rate`` requests/s on average.

    constant: equal gaps. poisson: exponential gaps. gamma: gaps of the shape ``burstiness`` (1 is
    poisson, less is burstier). trace: the gaps of a trace, scaled to the rate, repeated as needed.
    With ``ramp_s`` the rate rises evenly from 0 over the first so many seconds.
    """
    if workload.arrivals == "constant":
        times = [k / rate for k in range(count)]
    elif workload.arrivals == "trace":
        times = _from_trace(trace, rate, count)
    else:
        shape = workload.burstiness if workload.arrivals == "gamma" else 1.0
        draw = random.Random(f"arrivals/{seed}")
        gaps = (draw.gammavariate(shape, 1 / (shape * rate)) for _ in range(count))
        times = list(itertools.accumulate(gaps))
    return [_ramped(time_s, workload.ramp_s) for time_s in times]


def _ramped(time_s: float, ramp_s: float) -> float:
    """Where a moment of an even rate falls if the rate rises from 0: equal shares of requests.

    Until t the ramp lets t²/(2·ramp) seconds' worth of requests through, and after it t − ramp/2.
    """
    return (2 * ramp_s * time_s) ** 0.5 if time_s < ramp_s / 2 else time_s + ramp_s / 2


def _from_trace(trace: Sequence[TraceRow], rate: float, count: int) -> list[float]:
    first_s = trace[0].time_s
    # A trace of n requests lasts n mean gaps: repeated, its last gap is the mean one.
    length_s = (trace[-1].time_s - first_s) * len(trace) / (len(trace) - 1)
    scale = len(trace) / rate / length_s
    return [
        (index // len(trace) * length_s + trace[index % len(trace)].time_s - first_s) * scale
        for index in range(count)
    ]


def read_trace(path: Path) -> list[TraceRow]:
    """Read a CSV file with the columns ``time_s``, ``prompt_tokens`` and ``output_tokens``.

    Raises:
        UserError: no such file, or not of that form.
    """
    try:
        text = text_file.read_text(path, MOST_TRACE_BYTES)
        head = text.split("\n", 1)[0]
        separator = ";" if ";" in head and "," not in head else ","
        table = csv.DictReader(io.StringIO(text), delimiter=separator)
        table.fieldnames = _columns(path, table.fieldnames or ())
        rows = [_trace_row(path, table.line_num, row) for row in table]
    except text_file.UnreadableFile as error:
        raise UserError(
            f"{error.where(path)}: cannot read this trace (found {error.reason}); correct `trace` "
            "in the study"
        ) from None
    except csv.Error as error:
        raise UserError(
            f"{path}:{table.line_num + 1}: expected a line of CSV, found: {error}; "
            "correct that line"
        ) from None
    for before, after in itertools.pairwise(rows):
        if after.time_s < before.time_s:
            raise UserError(
                f"{path}: expected times in ascending order, found {after.time_s:g} after "
                f"{before.time_s:g}; sort its lines"
            )
    if len(rows) < 2 or rows[-1].time_s == rows[0].time_s:
        raise UserError(
            f"{path}: expected at least two requests at different times, found {len(rows)} "
            "requests; a trace needs gaps"
        )
    return rows


def _columns(path: Path, fields: Sequence[str]) -> list[str]:
    names = [name.strip() for name in fields]
    for name in TRACE_COLUMNS:
        if (count := names.count(name)) != 1:
            raise UserError(
                f"{path}: expected a trace with the columns {', '.join(TRACE_COLUMNS)}, each once, "
                f"found {f'{count} times' if count else 'no'} {name}; name the columns in its "
                "first line"
            )
    return names


def _trace_row(path: Path, line: int, row: dict[str, str]) -> TraceRow:
    try:
        made = TraceRow(float(row["time_s"]), int(row["prompt_tokens"]), int(row["output_tokens"]))
        if not abs(made.time_s) <= LATEST_S:  # NaN too
            raise ValueError(f"the time {row['time_s'][:40]}")
        if not (1 <= made.prompt_tokens <= MOST_TOKENS and 1 <= made.output_tokens <= MOST_TOKENS):
            raise ValueError(f"lengths are from 1 to {MOST_TOKENS}")
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{path}:{line}: expected a time in seconds and two numbers of tokens, "
            f"found: {one_line(str(error))[:120]}; "
            "correct that line"
        ) from None
    return made

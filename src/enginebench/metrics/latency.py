"""From the requests of a cell to its figures. Pure; every figure with its formula.

``docs/method.md`` is the glossary: what each figure means, and how other tools define the word.
"""

import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from enginebench.base import stats
from enginebench.metrics.request_table import Columns, Times, as_numbers, gather
from enginebench.record.schema import Request

PERCENTILES = (50, 90, 95, 99)
QUANTILES = 200  # steps from the least to the largest that are kept of every latency of a cell


@dataclass(frozen=True, slots=True)
class RequestTimes:
    """The latencies of requests, in seconds; NaN where one never got so far."""

    ttft_s: Times  # first non-empty text - sent
    ttft_planned_s: Times  # first non-empty text - planned
    tpot_s: Times  # (last - first) / (output tokens - 1)
    e2e_s: Times  # last token - sent


def request_times(found: Columns) -> RequestTimes:
    first_s, last_s = found.first_text_s, found.last_s
    is_whole = ~np.isnan(first_s + last_s + found.sent_s + found.planned_s)
    first_s, last_s = np.where(is_whole, first_s, math.nan), np.where(is_whole, last_s, math.nan)
    more = np.where(found.output_tokens > 1, found.output_tokens - 1.0, math.nan)
    return RequestTimes(
        first_s - found.sent_s,
        first_s - found.planned_s,
        (last_s - first_s) / more,
        last_s - found.sent_s,
    )


def inter_token_s(found: Columns) -> Times:
    """The gap before each token after the first event: k tokens in one event share its gap.

    An event whose token count the engine does not say gives no gap, as its share is unknown; nor
    does a request that showed nothing.
    """
    gaps = array("d")
    has_text = ~np.isnan(found.first_text_s + found.sent_s + found.planned_s)
    for part in found.parts():
        events = found.events(part)
        tokens = found.event_tokens[events]
        waited_s = np.diff(found.event_s[events], prepend=0.0)
        counts = (tokens > 0) & ~found.is_first(part) & found.of_events(has_text, part)
        tokens = tokens[counts]
        gaps.frombytes(np.repeat(waited_s[counts] / tokens, tokens).tobytes())
    return as_numbers(gaps)


def _in_flight_mean(e2e_s: Times, window_s: float | None) -> float | None:
    """Little's law, L = λ · W: arrival rate times mean time in system, over the window."""
    return math.fsum(e2e_s) / window_s if window_s and len(e2e_s) else None


def cell_figures(rows: Iterable[Request]) -> dict[str, Any]:
    """The figures of a cell's measured requests, from their rows."""
    return figures(gather(rows))


def figures(found: Columns) -> dict[str, Any]:
    """The figures of a cell's measured requests; None is "not measured".

    The window of all rates is from the first request sent to the last token received: ramp-up and
    drain are inside.
    """
    times = request_times(found)
    sent, last, planned = (_known(x) for x in (found.sent_s, found.last_s, found.planned_s))
    window_s = float(last.max() - sent.min()) if len(sent) and len(last) else None
    tokens = int(found.output_tokens.clip(0).sum(dtype=np.int64))
    finished = len(found) - int(found.is_failed.sum())
    span_s = float(planned.max() - planned.min()) if len(planned) else 0.0
    samples = {
        "ttft_s": _known(times.ttft_s),
        "ttft_planned_s": _known(times.ttft_planned_s),
        "tpot_s": _known(times.tpot_s),
        "itl_s": inter_token_s(found),
        "e2e_s": _known(times.e2e_s),
    }
    made: dict[str, Any] = {
        "requests": len(found),
        "requests_failed": len(found) - finished,
        "output_tokens": tokens,
        "prompt_tokens": int(found.prompt_tokens.clip(0).sum(dtype=np.int64)),
        "window_s": window_s,
        "output_tokens_per_s": tokens / window_s if window_s else None,
        "requests_per_s": finished / window_s if window_s else None,
        "requests_offered_per_s": (len(planned) - 1) / span_s if span_s else None,
        "in_flight_mean": _in_flight_mean(samples["e2e_s"], window_s),
        "ttft_s_min": _least(samples["ttft_s"]),
        "tpot_s_min": _least(samples["tpot_s"]),
    }
    for name, values in samples.items():
        made[f"{name}_mean"] = stats.mean(values)
        for q in PERCENTILES:
            made[f"{name}_p{q}"] = stats.percentile(values, q, len(found), may_reorder=True)
    made["quantiles"] = {
        name: stats.quantiles(values, QUANTILES, may_reorder=True)
        for name, values in samples.items()
        if len(values)
    }
    return made


def _known(values: Times) -> Times:
    return values[~np.isnan(values)]


def _least(values: Times) -> float | None:
    return float(values.min()) if len(values) else None

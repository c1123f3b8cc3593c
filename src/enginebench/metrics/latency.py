"""From the requests of a cell to its figures. Pure; every figure with its formula.

``docs/method.md`` is the glossary: what each figure means, and how other tools define the word.
"""

import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from enginebench.base import stats
from enginebench.base.percentiles import percentile, tail
from enginebench.metrics import lockstep
from enginebench.metrics.figures import Figures
from enginebench.metrics.request_table import Columns, Times, as_numbers, gather
from enginebench.record.schema import Request

PERCENTILES = (50, 90, 95, 99)
CLAIMED = (90, 95, 99)  # those that have a bound
QUANTILES = 200  # steps from the least to the largest that are kept of every latency of a cell
#: Tokens in an event, on average over a cell of more than ``ALWAYS_FINE`` tokens: each is a gap.
MOST_TOKENS_AN_EVENT = 64
ALWAYS_FINE = 50_000_000


@dataclass(frozen=True, slots=True)
class RequestTimes:
    """The latencies of requests, in seconds; NaN where one never got so far."""

    ttft_s: Times  # first non-empty text - sent
    ttft_planned_s: Times  # first non-empty text - planned
    tpot_s: Times  # (last - first) / (output tokens - 1)
    e2e_s: Times  # last token - sent
    e2e_planned_s: Times  # last token - planned


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
        last_s - found.planned_s,
    )


def inter_token_s(found: Columns) -> Times:
    """The gap before each token after the first event: k tokens in one event share its gap.

    An event whose token count the engine does not say gives no gap, as its share is unknown; nor
    does a request that showed nothing.

    Raises:
        ValueError: so many tokens came in so few events as no engine sends.
    """
    known = found.event_tokens[found.event_tokens > 0]
    tokens_in_all = int(known.sum(dtype=np.int64))
    if tokens_in_all > max(MOST_TOKENS_AN_EVENT * len(known), ALWAYS_FINE):
        raise ValueError(f"{tokens_in_all:,} tokens in {len(known):,} events")
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


@dataclass(frozen=True, slots=True)
class Latencies:
    """The figures of a cell's requests, and the quantiles of each latency in seconds."""

    figures: Figures
    quantiles: dict[str, tuple[float, ...]]  # those that were measured, QUANTILES steps each


def cell_figures(rows: Iterable[Request], streams: int | None = None) -> Figures:
    """The figures of a cell's measured requests, from their rows."""
    return latencies(gather(rows), streams).figures


def latencies(found: Columns, streams: int | None = None) -> Latencies:
    """The figures of a cell's measured requests; None is "not measured".

    The window of all rates is from the first request sent to the last token received: ramp-up and
    drain are inside.

    Args:
        streams: of a closed loop; None: an open loop, which cannot move in step.
    """
    times = request_times(found)
    gaps = np.sort(inter_token_s(found))
    samples = {
        "ttft_s": _known(times.ttft_s),
        "ttft_planned_s": _known(times.ttft_planned_s),
        "tpot_s": _known(times.tpot_s),
        "e2e_s": _known(times.e2e_s),
        "e2e_planned_s": _known(times.e2e_planned_s),
    }
    figures = _rates(found, samples["e2e_s"])
    figures |= {"ttft_s_min": _least(samples["ttft_s"]), "tpot_s_min": _least(samples["tpot_s"])}
    for name, values in samples.items():
        figures |= _percentiles(name, values)
    figures |= _gap_figures(gaps, len(found))
    figures |= _in_step(found, times.ttft_s, streams)
    quantiles = {
        name: stats.quantiles(values, QUANTILES, may_reorder=True)
        for name, values in (samples | {"itl_s": gaps}).items()
        if len(values)
    }
    return Latencies(figures, quantiles)


def _rates(found: Columns, e2e_s: Times) -> dict[str, float | None]:
    """Counts, and rates over the window."""
    sent, last, planned = (_known(x) for x in (found.sent_s, found.last_s, found.planned_s))
    window_s = float(last.max() - sent.min()) if len(sent) and len(last) else None
    tokens = int(found.output_tokens.clip(0).sum(dtype=np.int64))
    finished = len(found) - int(found.is_failed.sum())
    span_s = float(planned.max() - planned.min()) if len(planned) else 0.0
    return {
        "requests": len(found),
        "requests_failed": len(found) - finished,
        "output_tokens": tokens,
        "prompt_tokens": int(found.prompt_tokens.clip(0).sum(dtype=np.int64)),
        "window_s": window_s,
        "output_tokens_per_s": tokens / window_s if window_s else None,
        "requests_per_s": finished / window_s if window_s else None,
        "requests_offered_per_s": (len(planned) - 1) / span_s if span_s else None,
        "in_flight_mean": _in_flight_mean(e2e_s, window_s),
    }


def _percentiles(name: str, values: Times) -> dict[str, float | None]:
    """Mean and percentiles; ``_bound`` and ``_claim`` hold with 95 and 99 % confidence."""
    values.sort()
    found = {q: percentile(values, q / 100) for q in PERCENTILES}
    return {
        f"{name}_mean": stats.mean(values),
        **{f"{name}_p{q}": one.value for q, one in found.items()},
        **{f"{name}_p{q}_bound": found[q].bound for q in CLAIMED},
        **{f"{name}_p{q}_claim": found[q].claim for q in CLAIMED},
    }


def _gap_figures(gaps: Times, requests: int) -> dict[str, float | None]:
    """The gaps between tokens. Those of one batch depend on each other: no bound, no claim."""
    slow = tail(gaps, requests)
    return {
        "itl_s_mean": stats.mean(gaps),
        "itl_s_p50": percentile(gaps, 0.5).value,
        "itl_s_p90": percentile(gaps, 0.9, independent=requests).value,
        "itl_s_p95": slow.p95 if slow else None,
        "itl_s_p99": slow.p99 if slow else None,
        "itl_s_max": slow.largest if slow else None,
        "itl_gaps": len(gaps),
    }


def _in_step(found: Columns, ttft_s: Times, streams: int | None) -> dict[str, float | None]:
    """How far a closed loop's streams move in step, and its TTFT in the first burst and after."""
    names = ("in_step_share", "ttft_burst_s_p50", "ttft_steady_s_p50")
    if streams is None or streams < 2:
        return dict.fromkeys(names)
    is_burst = lockstep.burst(found, streams)
    parts = [np.sort(_known(ttft_s[mask])) for mask in (is_burst, ~is_burst)]
    share = lockstep.in_step_share(found, streams)
    values = (share, *(percentile(part, 0.5).value for part in parts))
    return dict(zip(names, values, strict=True))


def _known(values: Times) -> Times:
    return values[~np.isnan(values)]


def _least(values: Times) -> float | None:
    return float(values.min()) if len(values) else None

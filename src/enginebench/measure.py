"""From the requests of a cell to its figures. Pure; every figure with its formula.

``docs/method.md`` is the glossary: what each figure means, and how other tools define the word.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from enginebench import stats

PERCENTILES = (50, 90, 95, 99)
QUANTILES = 200  # steps from the least to the largest that are kept of every latency of a cell

Row = Mapping[str, Any]  # one line of requests.jsonl: the fields of exchange.RequestRecord


@dataclass(frozen=True, slots=True)
class RequestTimes:
    """The latencies of one request, in seconds; None where it never got so far."""

    ttft_s: float | None  # first non-empty text - sent
    ttft_planned_s: float | None  # first non-empty text - planned
    tpot_s: float | None  # (last - first) / (output tokens - 1)
    e2e_s: float | None  # last token - sent
    itl_s: tuple[float, ...]  # gaps between tokens


def request_times(row: Row) -> RequestTimes:
    first_s = first_text_s(row)
    last_s = last_token_s(row)
    sent_s, tokens = row["sent_s"], row["output_tokens"]
    planned_s = row["planned_s"]
    if first_s is None or last_s is None or sent_s is None or planned_s is None:
        return RequestTimes(None, None, None, None, ())
    tpot_s = (last_s - first_s) / (tokens - 1) if tokens and tokens > 1 else None
    return RequestTimes(
        first_s - sent_s, first_s - planned_s, tpot_s, last_s - sent_s, inter_token_s(row)
    )


def first_text_s(row: Row) -> float | None:
    """When the first non-empty text arrived: a token that shows nothing is not yet an answer."""
    arrivals = zip(row["event_s"], row["event_chars"], strict=True)
    return next((time_s for time_s, chars in arrivals if chars), None)


def last_token_s(row: Row) -> float | None:
    return row["event_s"][-1] if row["event_s"] else None


def inter_token_s(row: Row) -> tuple[float, ...]:
    """The gap before each token after the first event: k tokens in one event share its gap.

    An event whose token count the engine does not say gives no gap, as its share is unknown.
    """
    gaps: list[float] = []
    for before_s, now_s, tokens in zip(
        row["event_s"], row["event_s"][1:], row["event_tokens"][1:], strict=False
    ):
        if tokens:
            gaps += [(now_s - before_s) / tokens] * tokens
    return tuple(gaps)


def _in_flight_mean(times: Sequence[RequestTimes], window_s: float | None) -> float | None:
    """Little's law, L = λ · W: arrival rate times mean time in system, over the window."""
    in_system = [t.e2e_s for t in times if t.e2e_s is not None]
    return math.fsum(in_system) / window_s if window_s and in_system else None


def cell_figures(rows: Sequence[Row]) -> dict[str, Any]:
    """The figures of a cell's measured requests; None is "not measured".

    The window of all rates is from the first request sent to the last token received: ramp-up and
    drain are inside.
    """
    times = [request_times(row) for row in rows]
    sent = [row["sent_s"] for row in rows if row["sent_s"] is not None]
    last = [time_s for row in rows if (time_s := last_token_s(row)) is not None]
    window_s = max(last) - min(sent) if sent and last else None
    tokens = sum(row["output_tokens"] or 0 for row in rows)
    finished = sum(row["error"] is None for row in rows)
    planned = [row["planned_s"] for row in rows if row["planned_s"] is not None]
    span_s = max(planned) - min(planned) if planned else 0.0
    figures: dict[str, Any] = {
        "requests": len(rows),
        "requests_failed": len(rows) - finished,
        "output_tokens": tokens,
        "prompt_tokens": sum(row["prompt_tokens"] or 0 for row in rows),
        "window_s": window_s,
        "output_tokens_per_s": tokens / window_s if window_s else None,
        "requests_per_s": finished / window_s if window_s else None,
        "requests_offered_per_s": (len(planned) - 1) / span_s if span_s else None,
        "in_flight_mean": _in_flight_mean(times, window_s),
    }
    samples = {
        "ttft_s": [t.ttft_s for t in times if t.ttft_s is not None],
        "ttft_planned_s": [t.ttft_planned_s for t in times if t.ttft_planned_s is not None],
        "tpot_s": [t.tpot_s for t in times if t.tpot_s is not None],
        "itl_s": [gap for t in times for gap in t.itl_s],
        "e2e_s": [t.e2e_s for t in times if t.e2e_s is not None],
    }
    figures["ttft_s_min"] = min(samples["ttft_s"], default=None)
    figures["tpot_s_min"] = min(samples["tpot_s"], default=None)
    for name, values in samples.items():
        figures[f"{name}_mean"] = math.fsum(values) / len(values) if values else None
        for q in PERCENTILES:
            figures[f"{name}_p{q}"] = stats.percentile(values, q, len(times))
    figures["quantiles"] = {
        name: stats.quantiles(values, QUANTILES) for name, values in samples.items() if len(values)
    }
    return figures

"""What other load generators would have printed of the same requests, by their definitions. Pure.

Each function follows one tool's own code, its percentile method and its window included, so that a
reader can set numbers seen elsewhere beside these. Versions read: vLLM 0.32 and 0.33
(``vllm/benchmarks/serve.py``), AIPerf 0.13 (``aiperf/metrics/types``), GuideLLM 0.8.1
(``guidellm/schemas/base``, ``guidellm/benchmark/schemas``). Unlike us, they state a p99 of however
few requests. ``docs/method.md`` says what of theirs our log cannot know.
"""

import math
from array import array
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from enginebench.base import stats
from enginebench.metrics.request_table import UNKNOWN, Columns, Counts, Times, as_numbers

Printed = dict[str, float | None]  # what is printed, under the tool's name for it

MS = 1e3


def vllm_bench_serve(found: Columns, duration_s: float | None = None) -> Printed:
    """``vllm bench serve``: chunks are events, text or not; requests that failed are left out.

    Args:
        duration_s: of the benchmark, where it is known; otherwise from the first request's turn to
            the end of the last answer.
    """
    done = ~found.is_failed & ~np.isnan(found.first_s)
    tokens = _tokens(found)
    if duration_s is None:
        duration_s = _span_s(found.planned_s, found.end_s)
    ttft_s = (found.first_s - found.sent_s)[done]
    e2e_s = (found.last_s - found.sent_s)[done]
    is_more = tokens[done] > 1
    tpot_s = (e2e_s - ttft_s)[is_more] / (tokens[done][is_more] - 1)
    made = int(tokens[done].sum())
    asked = np.where(found.prompt_tokens > 0, found.prompt_tokens, found.prompt_tokens_asked)
    chunks, requests = _peaks(found, done)
    printed: Printed = {
        "Request throughput (req/s)": _over(int(done.sum()), duration_s),
        "Output token throughput (tok/s)": _over(made, duration_s),
        "Peak output token throughput (tok/s)": chunks,
        "Peak concurrent requests": requests,
        "Total token throughput (tok/s)": _over(made + int(asked[done].sum()), duration_s),
    }
    for name, values in (
        ("TTFT", ttft_s),
        ("TPOT", tpot_s),
        ("ITL", _chunk_gaps_s(found, done)),
        ("E2EL", e2e_s),
    ):
        printed |= {
            f"Mean {name} (ms)": _scaled(stats.mean(values), MS),
            f"Median {name} (ms)": _scaled(_linear(values, 50), MS),
            f"P99 {name} (ms)": _scaled(_linear(values, 99), MS),
        }
    return printed


def aiperf(found: Columns) -> Printed:
    """AIPerf, with the server's token counts: only responses with text; requests that failed are
    left out. Its ITL is one mean a request, which others call TPOT."""
    done = ~found.is_failed & ~np.isnan(found.first_text_s)
    tokens = _tokens(found)[done]
    latency_s = (found.last_text_s - found.sent_s)[done]
    ttft_s = (found.first_text_s - found.sent_s)[done]
    is_more = tokens > 1
    itl_s = (latency_s - ttft_s)[is_more] / (tokens[is_more] - 1)
    span_s = _span_s(found.sent_s[done], found.last_text_s[done])
    printed: Printed = {
        "Request Throughput (requests/sec)": _over(int(done.sum()), span_s),
        "Output Token Throughput (tokens/sec)": _over(int(tokens.sum()), span_s),
        "Output Token Throughput Per User (tokens/sec/user) avg": stats.mean(1 / itl_s[itl_s > 0]),
    }
    for name, values in (
        ("Time to First Token (ms)", ttft_s),
        ("Request Latency (ms)", latency_s),
        ("Inter Token Latency (ms)", itl_s),
    ):
        printed |= {
            f"{name} avg": _scaled(stats.mean(values), MS),
            f"{name} p99": _scaled(_linear(values, 99), MS),
            f"{name} p90": _scaled(_linear(values, 90), MS),
            f"{name} p50": _scaled(_linear(values, 50), MS),
        }
    return printed


def guidellm(found: Columns) -> Printed:
    """GuideLLM: iterations are responses with text; ITL and TPOT are one mean a request, weighted
    by its tokens; percentiles do not interpolate; rates count all requests, failed or not."""
    done = ~found.is_failed
    tokens = _tokens(found)
    span_s = _span_s(found.planned_s, found.end_s)
    ones = np.ones(int(done.sum()))
    last_s = np.where(np.isnan(found.last_text_s), found.end_s, found.last_text_s)
    itl_s = (found.last_text_s - found.first_text_s) / np.maximum(tokens - 1, 1)
    tpot_s = (last_s - found.sent_s) / np.maximum(tokens, 1)
    printed: Printed = {
        "Requests Per Sec Mean": _over(int((~np.isnan(found.end_s)).sum()), span_s),
        "Output Tokens Per Sec Mean": _over(int(tokens.sum()), span_s),
    }
    for name, values, weights, factor in (
        ("Request Latency Sec", found.end_s - found.sent_s, None, 1.0),
        ("TTFT ms", found.first_text_s - found.sent_s, None, MS),
        ("ITL ms", itl_s, np.maximum(tokens - 1, 0), MS),
        ("TPOT ms", tpot_s, tokens, MS),
    ):
        its = ones if weights is None else weights[done].astype(np.float64)
        # What a request does not have counts as 0 there.
        mean, median, p95 = _weighted(np.nan_to_num(values[done], nan=0.0), its)
        printed |= {
            f"{name} Mean": _scaled(mean, factor),
            f"{name} Mdn": _scaled(median, factor),
            f"{name} p95": _scaled(p95, factor),
        }
    return printed


TOOLS: Mapping[str, Callable[[Columns], Printed]] = {
    "vllm bench serve": vllm_bench_serve,
    "AIPerf": aiperf,
    "GuideLLM": guidellm,
}


def printed_by_all(found: Columns) -> dict[str, Printed]:
    """Tool -> what it would have printed of a cell."""
    return {name: tool(found) for name, tool in TOOLS.items()}


def _tokens(found: Columns) -> Counts:
    """Output tokens by usage, or else, as the tools do, the tokens of the text; 0: neither."""
    counted = np.where(found.output_tokens > 0, found.output_tokens, found.text_tokens)
    return np.where(counted == UNKNOWN, 0, counted)


def _chunk_gaps_s(found: Columns, done: NDArray[np.bool_]) -> Times:
    """The gaps between events, each once whatever it carries."""
    gaps = array("d")
    for part in found.parts():
        waited_s = np.diff(found.event_s[found.events(part)], prepend=0.0)
        kept = ~found.is_first(part) & found.of_events(done, part)
        gaps.frombytes(waited_s[kept].tobytes())
    return as_numbers(gaps)


def _peaks(found: Columns, done: NDArray[np.bool_]) -> tuple[float | None, float | None]:
    """The most chunks, and the most requests, in one second of the run, both counted by vLLM's
    whole seconds since the first request."""
    if not done.any():
        return None, None
    start_s = float(found.sent_s[done].min())
    seconds = max(math.ceil(found.last_s[done].max() - start_s), 0) + 1

    def by_second(times_s: Times) -> NDArray[np.int64]:
        index = np.floor(times_s - start_s)
        # A clock that was set has put some outside of the run: they count nothing there, either.
        return np.bincount(
            index[(index >= 0) & (index < seconds)].astype(np.int64), minlength=seconds
        )

    chunks = np.zeros(seconds, dtype=np.int64)
    for part in found.parts():
        chunks += by_second(found.event_s[found.events(part)][found.of_events(done, part)])
    begun, ended = by_second(found.sent_s[done]), by_second(found.last_s[done])
    running = np.cumsum(begun) - np.cumsum(ended) + ended  # one that ends in a second was in it
    return float(chunks.max()), float(running.max())


def _span_s(begin_s: Times, end_s: Times) -> float | None:
    """From the earliest beginning to the latest end; None if one of them is not known."""
    begun, ended = begin_s[~np.isnan(begin_s)], end_s[~np.isnan(end_s)]
    return float(ended.max() - begun.min()) if len(begun) and len(ended) else None


def _over(count: float, span_s: float | None) -> float | None:
    return count / span_s if span_s else None


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _linear(values: Times, q: float) -> float | None:
    return float(np.percentile(values, q, overwrite_input=True)) if len(values) else None


def _weighted(values: Times, weights: Times) -> tuple[float | None, float | None, float | None]:
    """Mean, median and p95 of weighted values: a percentile is the least value whose share of the
    weight, with all below it, reaches it."""
    if not weights.sum() > 0:
        return None, None, None
    unique, index = np.unique(values, return_inverse=True)
    shares = np.bincount(index, weights=weights, minlength=len(unique))
    unique, shares = unique[shares > 0], shares[shares > 0] / weights.sum()
    reached = np.cumsum(shares)
    at = np.minimum(np.searchsorted(reached, (0.5, 0.95)), len(unique) - 1)
    return float((unique * shares).sum()), float(unique[at[0]]), float(unique[at[1]])

"""Percentiles that need no distribution: estimates, intervals, and what may be claimed. Pure.

Of n independent samples, how many exceed the true q-quantile is binomial with n and 1 - q, whatever
the distribution (David & Nagaraja, Order Statistics, 2003, section 7.1). From it follow

- the **estimate**, linear between order statistics: below the truth in about two of three samples,
- its 95 % **interval**, between two order statistics,
- the **bound**: the least order statistic that is above the true quantile with 95 % (or 99 %)
  confidence. A claim of a percentile rests on the bound, as in MLPerf's early stopping
  (mlcommons/inference, ``loadgen/early_stopping.cc``), which asks for 99 %.

Values are sorted arrays of seconds or of anything else; q is between 0 and 1.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
CLAIM_CONFIDENCE = 0.99
CLAIM_ABOVE = 1  # samples above the bound that MLPerf's least sample allows for


@dataclass(frozen=True, slots=True)
class Percentile:
    """One percentile of a sample; None: the sample does not allow it."""

    q: float
    value: float | None  # to show; None: no 95 % bound exists, so it is the maximum by another name
    low: float | None  # 95 % interval of the true quantile
    high: float | None
    bound: float | None  # with 95 % confidence the true quantile is not above it
    claim: float | None  # the same with 99 %, of a sample large enough for a claim
    samples: int

    @property
    def beyond(self) -> float:
        """How many samples lie above the quantile on average: what a tail rests on."""
        return self.samples * (1 - self.q)


@dataclass(frozen=True, slots=True)
class Tail:
    """The slow end of values that may depend on each other: no interval, but always there."""

    p95: float | None  # None: fewer than 20 values, so it would be the largest by another name
    p99: float | None  # None: fewer than 100
    largest: float
    values: int
    sources: int  # requests that the values come from


def least_sample(q: float, confidence: float = CLAIM_CONFIDENCE, above: int = CLAIM_ABOVE) -> int:
    """The least n that lets the (above + 1)-th largest sample bound the q-quantile.

    P(at most ``above`` of n exceed the quantile) ≤ 1 - confidence. With MLPerf's defaults it is 64
    for p90, 130 for p95 and 662 for p99; with 0.95 and 0 it is 29, 59 and 299.

    Raises:
        ValueError: q or confidence is not between 0 and 1, or above is negative.
    """
    if not (0 < q < 1 and 0 < confidence < 1 and above >= 0):
        raise ValueError(f"no least sample for q={q}, confidence={confidence}, above={above}")

    def allows(n: int) -> bool:
        return float(bdtr(above, n, 1 - q)) <= 1 - confidence

    high = above + 1
    while not allows(high):
        high *= 2
    low = above
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if allows(middle) else (middle, high)
    return high


def upper_bound(values: Floats, q: float, confidence: float = CONFIDENCE) -> float | None:
    """The least order statistic that is not below the q-quantile with this confidence.

    Args:
        values: sorted, ascending, independent of each other.
    """
    rank = _rank(len(values), q, 1 - confidence)
    return None if rank is None else float(values[rank])


def _rank(n: int, q: float, error: float) -> int | None:
    """The least index, from 0, at which n sorted samples bound the q-quantile from above."""
    # Index n - 1 - t is below the quantile only if at most t samples exceed it.
    if n == 0 or float(bdtr(0, n, 1 - q)) > error:
        return None
    low, high = 0, n  # t = low holds, t = high does not (all n: certain)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if float(bdtr(middle, n, 1 - q)) <= error else (low, middle)
    return n - 1 - low


def _interpolated(values: Floats, q: float) -> float:
    """The q-quantile of sorted values: what ``numpy.quantile`` gives, to the last bit.

    That function cannot know that they are sorted: it copies and partitions millions of them.
    """
    place = q * (len(values) - 1)
    low = math.floor(place)
    before, after = float(values[low]), float(values[min(low + 1, len(values) - 1)])
    weight, step = place - low, after - before
    return before + step * weight if weight < 0.5 else after - step * (1 - weight)


def percentile(values: Floats, q: float, independent: int | None = None) -> Percentile:
    """A percentile with all that its sample allows.

    The value is shown from the sample on that has a 95 % bound (p90: 29, p95: 59, p99: 299), and a
    median always; a claim needs 64, 130 and 662.

    Args:
        values: sorted, ascending.
        independent: how many of them are independent of each other; default: all. With fewer, the
            value needs that many, and there is no interval, bound or claim.
    """
    n = len(values)
    count = n if independent is None else min(independent, n)
    shows = n > 0 and (q <= 0.5 or _rank(count, q, 1 - CONFIDENCE) is not None)
    value = _interpolated(values, q) if shows else None
    if count < n:
        return Percentile(q, value, None, None, None, None, count)
    high = _rank(n, q, (1 - CONFIDENCE) / 2)
    low = _rank(n, 1 - q, (1 - CONFIDENCE) / 2)  # the same, counted from the other end
    has_both = low is not None and high is not None
    return Percentile(
        q,
        value,
        low=float(values[n - 1 - low]) if has_both and low is not None else None,
        high=float(values[high]) if has_both and high is not None else None,
        bound=upper_bound(values, q),
        claim=upper_bound(values, q, CLAIM_CONFIDENCE) if n >= least_sample(q) else None,
        samples=n,
    )


def tail(values: Floats, sources: int) -> Tail | None:
    """The tail of values such as gaps between tokens; None if there are none.

    Args:
        values: sorted, ascending.
        sources: the requests that they come from.
    """
    n = len(values)
    if n == 0:
        return None
    p95, p99 = (_interpolated(values, q) if n * (1 - q) >= 1 - 1e-9 else None
                for q in (0.95, 0.99))  # fmt: skip
    return Tail(p95, p99, float(values[-1]), n, sources)


def least_samples() -> Iterator[tuple[str, int, int]]:
    """For a report's legend: the percentile, the least sample to show it, and that to claim it."""
    for q in (0.90, 0.95, 0.99):
        yield f"p{math.floor(q * 100 + 0.5)}", least_sample(q, CONFIDENCE, 0), least_sample(q)

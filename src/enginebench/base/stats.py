"""Statistics, each with its formula. Pure.

The unit of replication is the trial (one fresh start of an engine): intervals are over trials,
never over the requests of one run, which are not independent of each other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats as scipy_stats

Floats = NDArray[np.float64]
Standing = Literal["apart", "tie", "unclear"]

CONFIDENCE = 0.95
TIE_WITHIN = 1.1
MANY = 100_000  # numbers that are Python objects at one time
P95_MINIMUM = 20  # fewer have no observation above it
P99_MINIMUM = 662  # samples for a p99 claim at 99 % confidence (MLPerf inference early stopping)


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over trials and its interval; the ends are None with fewer than two trials."""

    mean: float
    low: float | None
    high: float | None
    trials: int


def percentile(
    values: Sequence[float] | Floats,
    q: float,
    independent: int | None = None,
    *,
    may_reorder: bool = False,
) -> float | None:
    """The q-th percentile (0 to 100), linear between order statistics; None if empty.

    p95 is None below 20 samples and p99 below 662: with fewer it is the maximum by another name.

    Args:
        independent: how many of the values are independent of each other; default: all. The gaps
            between tokens of one batch are not.
        may_reorder: an array need not be copied.
    """
    count = len(values) if independent is None else independent
    minimum = P99_MINIMUM if q >= 99 else P95_MINIMUM if q >= 95 else 1
    if len(values) == 0 or count < minimum:
        return None
    return float(
        np.percentile(np.asarray(values, dtype=np.float64), q, overwrite_input=may_reorder)
    )


def mean(values: Floats) -> float | None:
    """The exactly rounded mean, the same on every machine; None if empty."""
    parts = (values[k : k + MANY].tolist() for k in range(0, len(values), MANY))
    return math.fsum(chain.from_iterable(parts)) / len(values) if len(values) else None


def quantiles(
    values: "Sequence[float] | NDArray[np.float64]", steps: int, *, may_reorder: bool = False
) -> tuple[float, ...]:
    """The quantiles at 0, 1/steps, 2/steps ... 1, linear between order statistics.

    Args:
        may_reorder: an array of values may be reordered, so that it need not be copied.
    """
    given = np.asarray(values, dtype=np.float64)
    at = np.linspace(0, 1, steps + 1)
    return tuple(np.quantile(given, at, overwrite_input=may_reorder).tolist())


def mean_interval(values: Sequence[float]) -> Interval | None:
    """Mean and Student-t interval: mean ± t(0.975, n-1) · s / sqrt(n). None if empty."""
    if not values:
        return None
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return Interval(mean, None, None, len(values))
    s = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    t = float(scipy_stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    half = t * s / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half, len(values))


def ratio_interval(pairs: Sequence[tuple[float, float]]) -> Interval | None:
    """The ratio a/b over paired trials, with the t-interval of the mean logarithm.

    Pairs are the same trial block, so that what slows the whole machine cancels. Ratios are
    averaged geometrically: then a/b and b/a tell the same story.
    """
    logs = [math.log(a / b) for a, b in pairs if a > 0 and b > 0]
    found = mean_interval(logs)
    if found is None:
        return None
    low, high = (None if end is None else math.exp(end) for end in (found.low, found.high))
    return Interval(math.exp(found.mean), low, high, found.trials)


def standing(ratio: Interval) -> Standing:
    """What the interval of a ratio says of the two: apart if it leaves 1 out; a tie if it has 1 in
    it and lies within 10 % of it; unclear if it has 1 in it and is wider, or if there is none."""
    if ratio.low is None or ratio.high is None:
        return "unclear"
    if not ratio.low <= 1 <= ratio.high:
        return "apart"
    return "tie" if ratio.low >= 1 / TIE_WITHIN and ratio.high <= TIE_WITHIN else "unclear"


def scaled(found: Interval | None, factor: float) -> Interval | None:
    """The same interval in another unit."""
    if found is None:
        return None
    low, high = (None if end is None else end * factor for end in (found.low, found.high))
    return Interval(found.mean * factor, low, high, found.trials)

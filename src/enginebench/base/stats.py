"""Means, quantiles and units: the arithmetic below the statistics. Pure.

Comparisons and their intervals are in ``estimator``, percentiles in ``percentiles``.
"""

import math
from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from enginebench.base.estimator import Interval

Floats = NDArray[np.float64]

MANY = 100_000  # numbers that are Python objects at one time


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


def scaled(found: Interval | None, factor: float) -> Interval | None:
    """The same interval in another unit."""
    if found is None:
        return None
    low, high = (None if end is None else end * factor for end in (found.low, found.high))
    return Interval(found.mean * factor, low, high, found.trials)

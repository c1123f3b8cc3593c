"""The studentized range: how far apart the two ends of k equal means may look. Pure.

Its distribution (Tukey 1953; Copenhaver & Holland, J. Stat. Comput. Simul. 30, 1988) for k means
and a spread known with ``df`` degrees of freedom::

    P(Q < q) = ∫ f(s) · k ∫ φ(z) [Φ(z) - Φ(z - q s)]^(k-1) dz ds,    s² ~ χ²(df) / df

scipy.stats has it too, but takes a second to import and tenths of a second for one quantile.
"""

import math
from functools import lru_cache

import numpy as np
from scipy.special import chdtri, ndtr

from enginebench.base.layout import Floats

NODES, WEIGHTS = np.polynomial.legendre.leggauss(96)
ENDS = 1e-12  # probability left out at either end of the spread's distribution
Z_MOST = 8.5  # normal deviates


def _over(low: float, high: float) -> tuple[Floats, Floats]:
    """Nodes and weights of Gauss-Legendre quadrature over [low, high]."""
    half = (high - low) / 2
    return low + half * (NODES + 1), half * WEIGHTS


def probability(q: float, k: int, df: float) -> float:
    """P(Q < q) of the studentized range of k means; df may be a fraction, and infinite."""
    z, z_weights = _over(-Z_MOST, Z_MOST)
    density = z_weights * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    if math.isinf(df):
        s, s_weights = np.ones(1), np.ones(1)
    else:
        ends = (float(chdtri(df, p)) / df for p in (1 - ENDS, ENDS))
        s, s_weights = _over(*(math.sqrt(end) for end in ends))
        log_density = (
            (df / 2) * math.log(df) - math.lgamma(df / 2) - (df / 2 - 1) * math.log(2)
            + (df - 1) * np.log(s) - df * s * s / 2
        )  # fmt: skip
        s_weights = s_weights * np.exp(log_density)
    inside = np.maximum(ndtr(z) - ndtr(z - q * s[:, None]), 0.0)
    return float(s_weights @ (k * inside ** (k - 1)) @ density)


@lru_cache(maxsize=4096)
def critical(k: int, df: float, confidence: float = 0.95) -> float:
    """The q with P(Q < q) = confidence, to 1e-6 of itself.

    Raises:
        ValueError: fewer than two means, or no degrees of freedom.
    """
    if k < 2 or not df > 0:
        raise ValueError(f"k must be at least 2 and df above 0, found k={k} and df={df}")
    low, high = 0.0, 4.0
    while probability(high, k, df) < confidence:
        low, high = high, high * 2
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if probability(middle, k, df) < confidence else (low, middle)
    return high

"""How many trials a comparison needs, before it is run. Pure."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
MOST_TRIALS = 1000
POINTS = 2000  # power to three digits


@dataclass(frozen=True, slots=True)
class Spread:
    """How much the log of a rate differs between equal runs: 0.05 is about 5 %."""

    sd_log: float
    source: str  # in words: what was measured, and where
    is_between_starts: bool  # otherwise it leaves out what differs from start to start


def trials_needed(
    sd_log: float, variants: int = 2, *, difference: float = 0.10, power: float = 0.8
) -> int | None:
    """Trials (blocks) after which a difference of this size is seen with this probability.

    The engines of a block are compared with each other: the log ratio of two has the standard
    deviation sqrt(2)·sd. Power of the two-sided paired t-test with n − 1 degrees of freedom
    (Cohen, Statistical Power Analysis, 1988, ch. 2); the 5 % are shared by the variants − 1
    comparisons with the reference (Bonferroni). Both are on the safe side: a spread pooled over
    all variants has more degrees of freedom, and Holm's later steps ask for less.

    Args:
        sd_log: of the log of a rate between starts within a block, at least 0.
        variants: compared, at least 2.
        difference: 0.10 is 10 % more.

    Returns:
        at least 2, as one trial has no interval; None: more than MOST_TRIALS.

    Raises:
        ValueError: an argument out of its range.
    """
    if not (0 <= sd_log < math.inf and variants >= 2 and difference > 0 and 0 < power < 1):
        raise ValueError(f"no number of trials for {sd_log=}, {variants=}, {difference=}, {power=}")
    if sd_log == 0:
        return 2
    effect = math.log1p(difference) / (math.sqrt(2) * sd_log)
    alpha = (1 - CONFIDENCE) / (variants - 1)
    low, high = 2, MOST_TRIALS
    if _power(effect, high, alpha) < power:
        return None
    while low < high:  # the power only grows with the trials
        middle = (low + high) // 2
        low, high = (low, middle) if _power(effect, middle, alpha) >= power else (middle + 1, high)
    return low


def _power(effect: float, trials: int, alpha: float) -> float:
    """Of the two-sided one-sample t-test at mean/sd = effect.

    The probability given the sample's standard deviation, averaged over POINTS of its quantiles:
    scipy's noncentral t distribution is NaN in places.
    """
    degrees = trials - 1
    critical = stats.t.ppf(1 - alpha / 2, degrees)
    middles = (np.arange(POINTS) + 0.5) / POINTS
    edge = critical * np.sqrt(stats.chi2.ppf(middles, degrees) / degrees)
    shift = effect * math.sqrt(trials)
    return float(np.mean(stats.norm.sf(edge - shift) + stats.norm.cdf(-edge - shift)))

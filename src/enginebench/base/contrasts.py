"""Further questions to the one fit of a comparison: weighted sums of the logs of means. Pure.

A contrast is ``Σ w · log mean`` over variants, its weights adding up to 0; its exponential is a
factor. Estimate and variance are those of ``fit``, the degrees of freedom Satterthwaite's (1946).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from enginebench.base.estimator import FARTHEST, Comparison, Interval
from enginebench.base.fit import TEST_ERROR, satterthwaite, variance_parts
from enginebench.base.verdicts import ERROR, TIE_ERROR, Verdict, verdict

Weights = Mapping[str, float]  # of the logs of variants' means


@dataclass(frozen=True, slots=True)
class Contrast:
    """A weighted sum of logs: its estimate and how sure it is."""

    log: float
    variance: float | None  # None: one block, or too few cells, so no spread to go by
    df: float
    trials: int  # blocks that all its variants have
    family_error: float  # what the intervals of a family may be wrong together

    def half(self, error: float = ERROR) -> float | None:
        """Half the width of its interval, as a log; None: no spread is known."""
        if self.variance is None:
            return None
        return float(stdtrit(self.df, 1 - error / 2)) * math.sqrt(self.variance)

    def factor(self, error: float = ERROR) -> Interval:
        """Its exponential, with an interval that is wrong with this probability."""
        half = self.half(error)
        if half is None:
            return Interval(_exp(self.log), None, None, self.trials)
        low, high = _exp(self.log - half), _exp(self.log + half)
        return Interval(_exp(self.log), low, high, self.trials)

    def word(self, error: float, margin: float) -> Verdict:
        """What is said of its factor beside 1, by the rules for two variants."""
        together, tie = self.half(error), self.half(2 * TIE_ERROR)
        if together is None or tie is None:
            return "cannot tell"
        return verdict(self.log, together, tie, margin)


def _exp(log: float) -> float:
    return math.exp(min(max(log, -FARTHEST), FARTHEST))


def contrast(found: Comparison, weights: Weights) -> Contrast | None:
    """A contrast of variants; None: one has no estimate, or no trials link them."""
    labels = [label for label, weight in weights.items() if weight]
    group = next((g for g in found.groups if set(labels) <= set(g.labels)), None)
    if group is None:
        return None
    w = np.array([weights.get(label, 0.0) for label in group.labels])
    fit, rows = group.fit, [group.labels.index(label) for label in labels]
    family_error = ERROR - (TEST_ERROR if fit.is_tested else 0.0)
    trials = int(np.array(group.mask, dtype=bool)[rows].all(axis=0).sum())
    log = float(w @ fit.means)
    if not fit.dfs[0] > 0:
        return Contrast(log, None, 0.0, trials, family_error)
    parts = variance_parts(fit, w @ fit.weights)
    df = float(satterthwaite(parts, fit.dfs))
    return Contrast(log, float(parts.sum()), df, trials, family_error)


def added(one: Weights, other: Weights, times: float = 1.0) -> dict[str, float]:
    """``one + times · other``, weight by weight."""
    labels = dict.fromkeys((*one, *other))
    return {label: one.get(label, 0.0) + times * other.get(label, 0.0) for label in labels}


def share(found: Comparison, part: Weights, whole: Weights) -> Interval | None:
    """What share of the log of a whole one part is, with its 95 % interval (Fieller 1954).

    A share s is in the interval if part - s · whole may be 0, by Student's t with the
    degrees of freedom at the estimate. The interval has no ends where the whole itself may be 0:
    then it would have none at one side.
    """
    a, b, both = (contrast(found, w) for w in (part, whole, added(part, whole)))
    if a is None or b is None or both is None or b.log == 0:
        return None
    value = a.log / b.log
    bare = Interval(value, None, None, b.trials)
    rest = contrast(found, added(part, whole, -value))
    if rest is None or rest.variance is None:
        return bare
    if a.variance is None or b.variance is None or both.variance is None:
        return bare
    t2 = float(stdtrit(rest.df, 1 - ERROR / 2)) ** 2
    covariance = (both.variance - a.variance - b.variance) / 2
    square = b.log**2 - t2 * b.variance
    if square <= 0:
        return bare
    middle = a.log * b.log - t2 * covariance
    root = math.sqrt(max(middle**2 - square * (a.log**2 - t2 * a.variance), 0.0))
    return Interval(value, (middle - root) / square, (middle + root) / square, b.trials)

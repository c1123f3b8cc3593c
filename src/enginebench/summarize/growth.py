"""How time and memory grow with length: lines, exponents, and where two curves cross. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats as scipy_stats

MINIMUM_POINTS = 3  # two points lie on every power law


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """value = factor · length ** exponent, fitted on logarithms."""

    exponent: float
    exponent_error: float  # standard error of the fit
    last_exponent: float  # between the two longest lengths alone


@dataclass(frozen=True, slots=True)
class Line:
    """value = constant + slope · length, fitted by ordinary least squares."""

    constant: float
    slope: float
    slope_error: float  # standard error of the fit


def line(points: Sequence[tuple[float, float]]) -> Line | None:
    """The straight line through (length, value) points; None with fewer than three lengths.

    Every point has the same weight in absolute terms, so the longest lengths decide the slope.
    """
    if len({x for x, _ in points}) < MINIMUM_POINTS:
        return None
    x, y = zip(*sorted(points), strict=True)
    constant, slope, error = _fitted(x, y)
    return Line(constant, slope, error)


def _fitted(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """Constant, slope, and the slope's standard error."""
    found = scipy_stats.linregress(x, y)
    error = float(found.stderr)  # NaN where all values are equal, and none is off the line
    return float(found.intercept), float(found.slope), 0.0 if math.isnan(error) else error


def power_law(points: Sequence[tuple[float, float]]) -> PowerLaw | None:
    """Least squares of log value on log length; None with fewer than three points above zero.

    A sum of a constant, a linear and a quadratic part is no power law: its exponent rises with
    length, and the one between the two longest lengths is nearest to where it is going.

    Args:
        points: (length, value).
    """
    # Of several values of one length the last one counts.
    positive = sorted({x: y for x, y in points if x > 0 and y > 0}.items())
    if len(positive) < MINIMUM_POINTS:
        return None
    x, y = ([math.log(point[axis]) for point in positive] for axis in (0, 1))
    _, exponent, error = _fitted(x, y)
    last = (y[-1] - y[-2]) / (x[-1] - x[-2])
    return PowerLaw(exponent, error, last)


def crossover(
    one: Sequence[tuple[float, float]], other: Sequence[tuple[float, float]]
) -> float | None:
    """The length from which ``one`` stays above ``other``; None if it is not above at the end.

    Between two measured lengths the crossing is interpolated on logarithms. If ``one`` is above at
    every length, that is the shortest one: they crossed there or before.
    """
    others = dict(other)
    gaps = sorted((x, math.log(y / others[x])) for x, y in one if y > 0 and others.get(x, 0.0) > 0)
    if not gaps or gaps[-1][1] <= 0:
        return None
    below = [index for index, (_, gap) in enumerate(gaps) if gap <= 0]
    if not below:
        return gaps[0][0]
    (x1, g1), (x2, g2) = gaps[below[-1]], gaps[below[-1] + 1]
    share = -g1 / (g2 - g1)
    return math.exp(math.log(x1) + share * (math.log(x2) - math.log(x1)))

"""Figures, intervals and ratios as text. Pure."""

from enginebench.base.estimator import Interval, Ratio

NOT_MEASURED = "–"
GIB = 1 << 30
SMALL_RATIO = (
    2  # below it a ratio has a second digit, so that 1.03 and its interval are not all 1.0
)
TINY_RATIO = 0.3  # below it a ratio has a third digit


def number(value: float | None, digits: int, factor: float = 1) -> str:
    return NOT_MEASURED if value is None else f"{value * factor:,.{digits}f}"


def interval(found: Interval | None, digits: int) -> str:
    """A mean with its interval, where there is one."""
    if found is None or found.low is None or found.high is None:
        return number(found.mean if found else None, digits)
    return f"{found.mean:,.{digits}f} [{found.low:,.{digits}f}, {found.high:,.{digits}f}]"


def ratio(found: Interval | None) -> str:
    """For a table: 1.44× [1.31, 1.58]."""
    if found is None:
        return NOT_MEASURED
    text = f"{found.mean:.2f}×"
    if found.low is None or found.high is None:
        return text
    return f"{text} [{found.low:.2f}, {found.high:.2f}]"


def verdict(found: Ratio | None) -> str:
    """For a table: the ratio with its interval for all pairs at once, and the word for it."""
    return NOT_MEASURED if found is None else f"{ratio(found.together)} {found.verdict}"


def factor(found: Ratio) -> str:
    """For a sentence: 1.44 (95 % interval 1.31 to 1.58)."""
    return _factor(found, "")


def times(found: Ratio) -> str:
    """For a sentence: 1.44 times (95 % interval 1.31 to 1.58)."""
    return _factor(found, " times")


def _factor(found: Ratio, unit: str) -> str:
    ends = found.together
    places = 2 if ends.mean < SMALL_RATIO else 1
    text = f"{ends.mean:.{places}f}{unit}"
    if ends.low is None or ends.high is None:
        return f"{text} (no interval: too few starts)"
    return f"{text} (95 % interval {ends.low:.{places}f} to {ends.high:.{places}f})"


def bare(found: Interval) -> str:
    """A factor with its interval where other words say what it is: 5.4 [5.0, 5.9]."""
    return interval(found, digits(found.mean))


def digits(factor: float) -> int:
    """Digits after the point that a factor and its interval are told by."""
    return 3 if factor < TINY_RATIO else 2 if factor < SMALL_RATIO else 1


def listed(labels: list[str]) -> str:
    """a; a and b; a, b and c."""
    return " and ".join(filter(None, (", ".join(labels[:-1]), labels[-1])))

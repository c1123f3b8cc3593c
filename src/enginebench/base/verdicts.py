"""What is said of two variants: one of three words, by rules that exclude each other. Pure."""

import math
from collections.abc import Mapping
from typing import Literal

Verdict = Literal["apart", "tie", "cannot tell"]

ERROR = 0.05  # of an interval alone, and of a family of intervals
TIE_ERROR = 0.05  # of each of the two one-sided tests
MARGIN = 0.03  # a smaller difference is of no interest


def verdict(log_ratio: float, together: float, tie: float, margin: float = MARGIN) -> Verdict:
    """The word for one pair; "apart" needs an estimate beyond the margin, "tie" one within it.

    "tie" is an equivalence test (two one-sided t tests, Schuirmann 1987). A difference that is
    sure but smaller than the margin is a tie if it is as surely smaller.

    Args:
        log_ratio: the estimate.
        together: half the width of its 95 % interval for all pairs at once, as a log.
        tie: half the width of its 90 % interval alone, as a log.
        margin: a difference that is too small to care about; 0.03 is from 1/1.03 to 1.03.
    """
    most = math.log1p(margin)
    if abs(log_ratio) > max(together, most):
        return "apart"
    return "tie" if abs(log_ratio) + tie <= most else "cannot tell"


def meanings(margin: float = MARGIN) -> Mapping[Verdict, str]:
    """What each word means, for a report to print where the words are first used."""
    percent = f"{margin * 100:g} %"
    return {
        "apart": f"The two differ by more than {percent} by the estimate, and the interval of "
        "their ratio leaves out 1. It holds for all pairs of a level at once: where all variants "
        "are equal, the chance that any two are called apart is at most 5 %.",
        "tie": f"The two are equal within {percent}: the 90 % interval of their ratio lies within "
        "that margin (two one-sided tests at 5 %).",
        "cannot tell": "Neither is shown. More trials may show it.",
    }

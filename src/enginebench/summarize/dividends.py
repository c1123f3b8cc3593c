"""Shapley values and interactions of switches as weights of the runs that were measured. Pure.

With μ(S) the log mean of the run that has the switches S on, out of the k switches N::

    Shapley         Σ over S without i of |S|! (k - |S| - 1)! / k! · (μ(S + i) - μ(S))
    interaction     mean over S without i, j of μ(S + i + j) - μ(S + i) - μ(S + j) + μ(S)

The Shapley value (1953) is the mean of what i adds over all orders of switching on; the values sum
to μ(N) - μ(∅). The interaction is that of factorial experiments (Yates 1937). Both are sums of
dividends d(T), where μ(S) = Σ over T ⊆ S of d(T) (Harsanyi 1963): Σ d(T) / |T| over T with i, and
Σ d(T) / 2^(|T| - 2) over T with i and j. Where some combinations have no figure, dividends of three
and more switches are taken as 0, and what the rest does not determine has no estimate.

A set of switches is the integer whose bits are its switches.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from enginebench.base.contrasts import Weights
from enginebench.base.layout import Floats

PAIR_ORDER = 2  # switches that may act together where not all combinations were measured
ROUNDING = 1e-9

Runs = Mapping[int, str]  # by the switches that are on


def shapley(index: int, count: int, runs: Runs) -> Weights | None:
    """What a switch of ``count`` adds in the mean over all orders; None: not determined."""
    return _weights([(t >> index & 1) / max(t.bit_count(), 1) for t in range(1 << count)], runs)


def interaction(i: int, j: int, count: int, runs: Runs) -> Weights | None:
    """What two switches give together beyond what each gives; None: not determined."""
    both = 1 << i | 1 << j
    return _weights(
        [2.0 ** (2 - t.bit_count()) if t & both == both else 0.0 for t in range(1 << count)], runs
    )


def _weights(of_dividends: Sequence[float], runs: Runs) -> Weights | None:
    """A sum of dividends as a contrast of runs; None: the runs do not determine it.

    Args:
        of_dividends: the weight of d(T) for every T, in the order of the bits of T.
    """
    if not runs:
        return None
    terms, estimates, known = _dividends(len(of_dividends), tuple(runs))
    wanted = np.array(of_dividends)[terms]
    if np.abs(wanted @ known - wanted).max() > ROUNDING:
        return None
    found = wanted @ estimates
    return {
        label: float(weight)
        for label, weight in zip(runs.values(), found, strict=True)
        if abs(weight) > ROUNDING
    }


@lru_cache(maxsize=64)
def _dividends(count: int, runs: tuple[int, ...]) -> tuple[list[int], Floats, Floats]:
    """The dividends' sets, their estimates as weights of runs, and what of them is determined.

    Least squares over the runs, exact at those of no switch and of all, so that shares sum to what
    was measured between the two.

    Args:
        count: of all combinations.
    """
    switches = count.bit_length() - 1
    order = switches if len(runs) == count else PAIR_ORDER
    terms = [term for term in range(count) if term.bit_count() <= order]
    x = np.array([[float(term & run == term) for term in terms] for run in runs])
    ends = [row for row, run in enumerate(runs) if run in (0, count - 1)]
    exact = _inverse(x[ends]) @ np.eye(len(runs))[ends]
    free = np.eye(len(terms)) - _inverse(x[ends]) @ x[ends]
    estimates = exact + free @ _inverse(x @ free) @ (np.eye(len(runs)) - x @ exact)
    return terms, estimates, _inverse(x) @ x


def _inverse(matrix: Floats) -> Floats:
    return np.asarray(np.linalg.pinv(matrix, rcond=ROUNDING), dtype=np.float64)

"""Which optimization gave what: a ladder's steps, a factorial's shares. Pure.

All of it are contrasts of one comparison (``base.contrasts``), on the log scale. With μ(S) the log
mean of the run that has the switches S on, out of the k switches N::

    step            μ(rung) - μ(rung before)
    first in        μ({i}) - μ(∅)
    last in         μ(N) - μ(N - i)
    Shapley         Σ over S without i of |S|! (k - |S| - 1)! / k! · (μ(S + i) - μ(S))
    interaction     mean over S without i, j of μ(S + i + j) - μ(S + i) - μ(S + j) + μ(S)

The Shapley value (1953) is the mean of what i adds over all orders of switching on; the values sum
to μ(N) - μ(∅). The interaction is that of factorial experiments (Yates 1937). Both are sums of
dividends d(T), where μ(S) = Σ over T ⊆ S of d(T) (Harsanyi 1963): Σ d(T) / |T| over T with i, and
Σ d(T) / 2^(|T| - 2) over T with i and j. Where some combinations have no figure, dividends of three
and more switches are taken as 0, and what the rest does not determine has no estimate.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, pairwise

import numpy as np

from enginebench.base.contrasts import Weights, added, contrast, share
from enginebench.base.estimator import Comparison, Interval, Ratio
from enginebench.base.layout import Floats
from enginebench.base.verdicts import Verdict
from enginebench.record.schema_decomposition import Decomposition, Rung

PAIR_ORDER = 2  # switches that may act together where not all combinations were measured
ROUNDING = 1e-9
UNLINKED = "no trial has it together with the others"

Reason = Callable[[str], str]  # of a variant without a figure


@dataclass(frozen=True, slots=True)
class Gap:
    """A rung or a combination of switches without a figure."""

    name: str
    run: str
    reason: str


@dataclass(frozen=True, slots=True)
class Leader:
    """Which part gave most; several names: the trials cannot tell which of them."""

    names: tuple[str, ...]  # the largest estimate first
    is_most: bool  # the interval of its share lies above one half


@dataclass(frozen=True, slots=True)
class Step:
    """A rung over the last rung below it that has a figure."""

    name: str
    run: str
    skipped: tuple[str, ...]  # rungs without a figure in between: the factor has their changes, too
    factor: Ratio
    share: Interval | None  # of the whole's logarithm


@dataclass(frozen=True, slots=True)
class Ladder:
    """What each change gave; the factors multiply to the whole."""

    first: str  # the names of the lowest and the highest rung with a figure
    last: str
    between: tuple[str, str] | None  # the runs of these two, which the whole compares
    steps: tuple[Step, ...]
    whole: Ratio | None  # None: fewer than two rungs have a figure
    leader: Leader | None  # None: the whole is not apart from 1
    gaps: tuple[Gap, ...]


@dataclass(frozen=True, slots=True)
class Switch:
    """What one switch gives; None: the runs that have a figure do not say."""

    name: str
    first_in: Ratio | None  # on alone, over none
    last_in: Ratio | None  # all on, over all but it
    shapley: Interval | None  # its fair part of the whole, as a factor
    share: Interval | None  # the same, of the whole's logarithm


@dataclass(frozen=True, slots=True)
class Interaction:
    """By how much two switches together give more than what they give one by one."""

    a: str
    b: str
    factor: Interval  # 95 % for all pairs at once
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Factorial:
    """What each switch gives; the Shapley factors multiply to the whole, all on over none."""

    measured: int  # of the 2^k combinations
    combinations: int
    between: tuple[str, str] | None  # the runs of no switch and of all; None: one has no figure
    switches: tuple[Switch, ...]
    interactions: tuple[Interaction, ...]
    whole: Ratio | None  # all on over none
    leader: Leader | None
    gaps: tuple[Gap, ...]


Part = tuple[str, Weights]  # the name of a change, and the contrast that says what it gave


def ladder(rungs: Sequence[Rung], found: Comparison, reason: Reason) -> Ladder:
    """The steps between rungs that have a figure; those in between are named, never guessed."""
    known = _linked(found, [rung.run for rung in rungs])
    up = list({rung.run: rung for rung in rungs if rung.run in known}.values())
    gaps = tuple(
        Gap(rung.name, rung.run, _why(found, rung.run, reason)) for rung in rungs if rung not in up
    )
    if len(up) < 2:
        name = up[0].name if up else ""
        return Ladder(name, name, None, (), None, None, gaps)
    whole_weights = {up[-1].run: 1.0, up[0].run: -1.0}
    whole = found.ratio(up[-1].run, up[0].run)
    steps, parts = [], []
    for below, rung in pairwise(up):
        weights = {rung.run: 1.0, below.run: -1.0}
        factor = found.ratio(rung.run, below.run)
        assert factor is not None  # both are of one group
        skipped = tuple(one.name for one in rungs[rungs.index(below) + 1 : rungs.index(rung)])
        of_whole = share(found, weights, whole_weights)
        steps.append(Step(rung.name, rung.run, skipped, factor, of_whole))
        parts.append((rung.name, weights))
    leader = _leader(found, parts, whole, whole_weights)
    between = (up[0].run, up[-1].run)
    return Ladder(up[0].name, up[-1].name, between, tuple(steps), whole, leader, gaps)


def factorial(decomposed: Decomposition, found: Comparison, reason: Reason) -> Factorial:
    """The switches of a decomposition, as far as its runs have figures."""
    names = decomposed.switches
    planned = {
        sum(1 << names.index(name) for name in set(on)): label
        for label, on in decomposed.runs.items()
        if set(on) <= set(names)
    }
    known = _linked(found, list(planned.values()))
    runs = {mask: label for mask, label in sorted(planned.items()) if label in known}
    gaps = tuple(
        Gap(_combination(names, mask), label, _why(found, label, reason))
        for mask, label in planned.items()
        if mask not in runs
    )
    none, all_on = runs.get(0), runs.get((1 << len(names)) - 1)
    whole = found.ratio(all_on, none) if none and all_on else None
    whole_weights = {all_on: 1.0, none: -1.0} if none and all_on else {}
    fair = _shapley(len(names), runs) if whole_weights else {}
    switches = tuple(
        _switch(name, index, len(names), runs, found, fair.get(index), whole_weights)
        for index, name in enumerate(names)
    )
    parts = [(names[index], weights) for index, weights in fair.items()]
    is_split = len(parts) == len(names)
    return Factorial(
        measured=len(runs),
        combinations=1 << len(names),
        between=(none, all_on) if none and all_on else None,
        switches=switches,
        interactions=tuple(_interactions(names, runs, found)),
        whole=whole,
        leader=_leader(found, parts, whole, whole_weights) if is_split else None,
        gaps=gaps,
    )


def _linked(found: Comparison, labels: Sequence[str]) -> set[str]:
    """Those that trials compare with each other, the most of them; the first ones of equals."""
    groups = [{label for label in labels if label in group.labels} for group in found.groups]
    return max(groups, key=len, default=set())


def _why(found: Comparison, label: str, reason: Reason) -> str:
    return UNLINKED if label in found.means else reason(label)


def _leader(
    found: Comparison, parts: Sequence[Part], whole: Ratio | None, whole_weights: Weights
) -> Leader | None:
    """The largest part, with all that are not shown to be smaller.

    It is compared with every other at 5 % over their number (Bonferroni), so that the chance of
    naming alone a part that is not the largest is at most 2.5 %.
    """
    if whole is None or whole.verdict != "apart":
        return None
    sign = 1.0 if whole.together.mean > 1 else -1.0
    logs = {}
    for name, weights in parts:
        one = contrast(found, weights)
        logs[name] = sign * one.log if one else 0.0
    first, *others = sorted(parts, key=lambda part: -logs[part[0]])
    close = [first[0]]
    for name, weights in others:
        ahead = contrast(found, added(first[1], weights, -1.0))
        half = ahead.half(ahead.family_error / len(others)) if ahead else None
        if ahead is None or half is None or sign * ahead.log <= half:
            close.append(name)
    part = share(found, first[1], whole_weights)
    return Leader(tuple(close), bool(part and part.low is not None and part.low > 0.5))


def _switch(
    name: str,
    index: int,
    count: int,
    runs: Mapping[int, str],
    found: Comparison,
    fair: Weights | None,
    whole: Weights,
) -> Switch:
    bit, full = 1 << index, (1 << count) - 1
    one = contrast(found, fair) if fair else None
    return Switch(
        name=name,
        first_in=_ratio(found, runs.get(bit), runs.get(0)),
        last_in=_ratio(found, runs.get(full), runs.get(full ^ bit)),
        shapley=one.factor() if one else None,
        share=share(found, fair, whole) if fair else None,
    )


def _ratio(found: Comparison, a: str | None, b: str | None) -> Ratio | None:
    return found.ratio(a, b) if a and b else None


def _interactions(
    names: Sequence[str], runs: Mapping[int, str], found: Comparison
) -> Iterator[Interaction]:
    """Of every pair that can be estimated, with intervals for all of them at once (Bonferroni)."""
    estimates = {}
    for i, j in combinations(range(len(names)), 2):
        both = 1 << i | 1 << j
        weights = _weights(
            len(names), runs, lambda t, both=both: 2.0 ** (2 - t.bit_count()) * (t & both == both)
        )
        if weights and (one := contrast(found, weights)):
            estimates[names[i], names[j]] = one
    for (a, b), one in estimates.items():
        error = one.family_error / len(estimates)
        yield Interaction(a, b, one.factor(error), one.word(error, found.margin))


def _shapley(count: int, runs: Mapping[int, str]) -> dict[int, Weights]:
    """Switch -> the contrast of runs that is its Shapley value, where they determine it."""
    made = {}
    for index in range(count):
        weights = _weights(
            count, runs, lambda t, index=index: (t >> index & 1) / max(t.bit_count(), 1)
        )
        if weights:
            made[index] = weights
    return made


def _weights(
    count: int, runs: Mapping[int, str], of_dividend: Callable[[int], float]
) -> Weights | None:
    """A sum of dividends as a contrast of runs; None: the runs do not determine it."""
    if not runs:
        return None
    terms, estimates, known = _dividends(count, tuple(runs))
    wanted = np.array([of_dividend(term) for term in terms])
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
    """
    order = count if len(runs) == 1 << count else PAIR_ORDER
    terms = [term for term in range(1 << count) if term.bit_count() <= order]
    x = np.array([[float(term & run == term) for term in terms] for run in runs])
    ends = [row for row, run in enumerate(runs) if run in (0, (1 << count) - 1)]
    exact = _inverse(x[ends]) @ np.eye(len(runs))[ends]
    free = np.eye(len(terms)) - _inverse(x[ends]) @ x[ends]
    estimates = exact + free @ _inverse(x @ free) @ (np.eye(len(runs)) - x @ exact)
    return terms, estimates, _inverse(x) @ x


def _inverse(matrix: Floats) -> Floats:
    return np.linalg.pinv(matrix, rcond=ROUNDING)


def _combination(names: Sequence[str], mask: int) -> str:
    """The switches of a combination in words."""
    return " + ".join(name for index, name in enumerate(names) if mask >> index & 1) or "none"

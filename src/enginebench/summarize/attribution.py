"""Which optimization gave what: a ladder's steps, a factorial's shares. Pure.

All of it are contrasts of one comparison (``base.contrasts``), on the log scale. With μ(S) the log
mean of the run that has the switches S on, out of the switches N::

    step            μ(rung) - μ(rung before)
    first in        μ({i}) - μ(∅)
    last in         μ(N) - μ(N - i)

Shapley values and interactions are in ``dividends``.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from enginebench.base.contrasts import Weights, added, contrast, share
from enginebench.base.estimator import Comparison, Interval, Ratio
from enginebench.base.verdicts import Verdict
from enginebench.record.schema_decomposition import Decomposition, Rung
from enginebench.summarize import dividends

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

    @property
    def changes(self) -> str:
        """All changes that the factor has, in words."""
        return " + ".join((*self.skipped, self.name))


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
        parts.append((steps[-1].changes, weights))
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
    fair = {
        index: weights
        for index in range(len(names))
        if whole_weights and (weights := dividends.shapley(index, len(names), runs))
    }
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
    runs: dividends.Runs,
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
    names: Sequence[str], runs: dividends.Runs, found: Comparison
) -> Iterator[Interaction]:
    """Of every pair that can be estimated, with intervals for all of them at once (Bonferroni)."""
    estimates = {}
    for i, j in combinations(range(len(names)), 2):
        weights = dividends.interaction(i, j, len(names), runs)
        if weights and (one := contrast(found, weights)):
            estimates[names[i], names[j]] = one
    for (a, b), one in estimates.items():
        error = one.family_error / len(estimates)
        yield Interaction(a, b, one.factor(error), one.word(error, found.margin))


def _combination(names: Sequence[str], mask: int) -> str:
    """The switches of a combination in words."""
    return " + ".join(name for index, name in enumerate(names) if mask >> index & 1) or "none"

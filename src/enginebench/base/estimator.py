"""One estimator for a comparison of k variants over blocks, cells missing or not. Pure.

Every positive figure (a rate, a time, a cost) is compared on the log scale::

    log y = variant + block + error        least squares; see ``layout`` and ``fit``

A block is a trial: every variant is started once in it, so what slows the whole machine cancels.
All that a report says of a comparison comes from this one fit: order, ratios, words, places. The
order is that of the estimates and every ratio is a difference of two, so they never contradict each
other, and a missing cell drops out without turning the order.

- A **ratio** has an interval for all pairs at once (Tukey-Kramer, studentized range; 95 % together)
  and one of its own (95 % alone). Where a variant may be set apart for its spread, 2 % of the 5 %
  goes to that test and 3 % to the ranges, so that the error of the family stays within 5 %.
- A variant's **own figure** is its geometric mean over all blocks, missing cells filled in by the
  model. Its interval holds for new blocks too: it has the spread of starts, pooled over variants,
  and that of blocks, each with its own Student t (Cochran & Cox 1957, 4.61: never too short on
  average, too long with few blocks that differ little). A variant with one start has it as well.
- With one block, or too few cells, there is no spread to go by: no intervals, "cannot tell".
- Equal figures in all starts have a spread of 0 and intervals without width; no floor is put under
  them, as counts are like that. "apart" still needs a difference beyond the margin.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Literal

import numpy as np
from scipy.special import stdtrit

from enginebench.base.fit import TEST_ERROR, Fit, Noisiest, fit, satterthwaite, variance_parts
from enginebench.base.layout import Floats, Mask, components
from enginebench.base.studentized import critical
from enginebench.base.verdicts import ERROR, MARGIN, TIE_ERROR, Verdict, verdict

Better = Literal["higher", "lower"]
Figures = Mapping[int, float | None]  # by block, which is the number of the trial; None: missing

FARTHEST = 700.0  # natural logarithm of figures that a float can hold
DF_STEPS = 5  # fractional degrees of freedom are rounded down to a fifth for the studentized range


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its interval; the ends are None where no spread is known."""

    mean: float
    low: float | None
    high: float | None
    trials: int  # starts behind a mean; blocks that both have behind a ratio


@dataclass(frozen=True, slots=True)
class Ratio:
    """A variant's figure over another's."""

    together: Interval  # 95 % for all pairs of the comparison at once: the one to print
    alone: Interval  # 95 % for this pair, if it were the only one of interest
    verdict: Verdict

    @property
    def inverse(self) -> "Ratio":
        return Ratio(reciprocal(self.together), reciprocal(self.alone), self.verdict)


@dataclass(frozen=True, slots=True)
class Spread:
    """How much the starts of one variant differ, block effects taken out."""

    log_sd: float  # standard deviation of the logs, pooled: 0.03 is 3 %
    df: int
    noisiest: str | None  # the variant with the largest spread; None: too few cells to test
    noisiest_times: float | None  # its spread over that of the others; None: theirs is 0
    apart: tuple[str, ...]  # variants shown to be noisier: they keep a spread of their own

    @property
    def text(self) -> str:
        """In words, for a report: it is what the intervals rest on."""
        sd, noun = 100 * math.expm1(self.log_sd), "degree" if self.df == 1 else "degrees"
        text = f"Starts of one variant vary by {sd:.1f} % (standard deviation, pooled over the "
        text += f"variants; {self.df} {noun} of freedom)"
        if self.apart:
            names = " and ".join(self.apart)
            return f"{text}. {names}: more than chance would have it, so its spread is its own."
        if self.noisiest_times is not None:
            text += f"; {self.noisiest} {self.noisiest_times:.1f} times as much as the rest, which "
            text += "may be chance"
        return text + "."


@dataclass(frozen=True, slots=True, eq=False)
class FittedGroup:
    """Variants that blocks link, in the order of the rows of their fit."""

    labels: tuple[str, ...]
    fit: Fit
    mask: Mask


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the cells of one figure at one level say of the variants."""

    order: tuple[str, ...]  # the best estimate first
    means: Mapping[str, Interval]  # geometric, of every variant in the order
    ratios: Mapping[tuple[str, str], Ratio]  # the earlier in the order over the later
    places: Mapping[str, tuple[int, int]]  # the first and the last place a variant may have
    spreads: tuple[Spread, ...]  # one for each group of variants that blocks link
    excluded: Mapping[str, str]  # variants without an estimate, and why
    margin: float
    #: What further questions are answered from (``contrasts``).
    groups: tuple[FittedGroup, ...] = field(default=(), repr=False, compare=False)

    def ratio(self, a: str, b: str) -> Ratio | None:
        """The figure of a over that of b; None: no block links them, or one has no estimate."""
        if found := self.ratios.get((a, b)):
            return found
        return found.inverse if (found := self.ratios.get((b, a))) else None

    @property
    def is_sole_first(self) -> bool:
        """Whether the first of the order is apart from all others."""
        return len(self.order) > 1 and self.places[self.order[0]] == (1, 1)


def reciprocal(found: Interval, factor: float = 1.0) -> Interval:
    """The interval of factor / figure: a cost from a rate, with the rate's interval."""
    low, high = (None if end is None else factor / end for end in (found.high, found.low))
    return Interval(factor / found.mean, low, high, found.trials)


def compare(
    figures: Mapping[str, Figures], better: Better = "higher", margin: float = MARGIN
) -> Comparison:
    """Compare variants by one positive figure.

    Args:
        figures: of every variant by block. Missing cells (None, or no entry) drop out. A variant
            with a figure that is no positive number is excluded, in words: it has no ratio.
        better: whether more of the figure is better, or less.
        margin: a difference that is too small to care about; 0.03 is 3 %, either way.
    """
    given = {
        label: {block: y for block, y in own.items() if y is not None}
        for label, own in figures.items()
    }
    excluded = {label: why for label, own in given.items() if (why := _unfit(own))}
    labels = [label for label in given if label not in excluded]
    blocks = sorted({block for label in labels for block in given[label]})
    mask = tuple(tuple(block in given[label] for block in blocks) for label in labels)
    means: dict[str, Interval] = {}
    ratios: dict[tuple[str, str], Ratio] = {}
    spreads, groups = [], []
    for rows in components(mask):
        group = [labels[row] for row in rows]
        found, own = _fit_group(group, given)
        groups.append(FittedGroup(tuple(group), found, own))
        means |= dict(zip(group, _means(found, own), strict=True))
        pairs, values = _ratios(found, own, len(labels), margin)
        ratios |= {(group[i], group[j]): value for (i, j), value in zip(pairs, values, strict=True)}
        if found.dfs[0] > 0:
            spreads.append(_spread(found, group))
    # sorted() is stable: equal estimates keep the order that they were given in.
    order = sorted(labels, key=lambda label: means[label].mean, reverse=better == "higher")
    oriented = {
        (a, b): ratios[a, b] if (a, b) in ratios else ratios[b, a].inverse
        for a, b in combinations(order, 2)
        if (a, b) in ratios or (b, a) in ratios
    }
    places = _places(order, oriented)
    return Comparison(
        tuple(order), means, oriented, places, tuple(spreads), excluded, margin, tuple(groups)
    )


def _unfit(own: Mapping[int, float]) -> str:
    """Why a variant has no estimate; empty: it has one."""
    if not own:
        return "no valid cell"
    bad = [(block, y) for block, y in own.items() if not (y > 0 and math.isfinite(y))]
    return f"{bad[0][1]:g} in trial {bad[0][0]}: only positive figures have ratios" if bad else ""


def _fit_group(group: Sequence[str], given: Mapping[str, Mapping[int, float]]) -> tuple[Fit, Mask]:
    blocks = sorted({block for label in group for block in given[label]})
    mask = tuple(tuple(block in given[label] for block in blocks) for label in group)
    values = [given[label][block] for label in group for block in blocks if block in given[label]]
    return fit(mask, np.log(np.array(values))), mask


def _means(found: Fit, mask: Mask) -> list[Interval]:
    """Geometric means with intervals for new blocks and new starts."""
    mean_square, between_df, share = found.between
    parts = variance_parts(found, found.weights)
    # What the mean square between blocks holds of the errors is not counted twice.
    pooled = ((found.weights**2)[:, found.classes == 0]).sum(axis=1) - share
    parts[:, 0] = [found.variances[0] * p if p > 1e-12 else 0.0 for p in pooled]
    parts = np.column_stack([parts, np.full(len(mask), mean_square * share)])
    dfs = np.append(found.dfs, between_df)
    t = np.array([_t(df, ERROR) for df in dfs])
    variances = parts.sum(axis=1)
    weighted = np.where(parts > 0, parts * t, 0.0).sum(axis=1)
    halves = weighted / np.sqrt(np.where(variances > 0, variances, 1.0))
    starts = [sum(own) for own in mask]
    made = _intervals(found.means, halves, starts)
    is_known = ~np.isnan(variances) & (between_df > 0)
    return [one if known else _bare(one) for one, known in zip(made, is_known, strict=True)]


def _t(df: float, error: float) -> float:
    return float(stdtrit(df, 1 - error / 2)) if df > 0 else math.nan


def _intervals(logs: Floats, halves: Floats, trials: Iterable[int]) -> list[Interval]:
    """Back from the log scale. An end too far for a float is the nearest one that is not 0."""
    ends = np.exp(np.clip([logs, logs - halves, logs + halves], -FARTHEST, FARTHEST)).tolist()
    return [
        Interval(mean, low, high, int(n)) for mean, low, high, n in zip(*ends, trials, strict=True)
    ]


def _bare(found: Interval) -> Interval:
    return replace(found, low=None, high=None)


def _ratios(
    found: Fit, mask: Mask, k: int, margin: float
) -> tuple[list[tuple[int, int]], list[Ratio]]:
    """All pairs of a fit; k is the number of variants in the whole comparison."""
    pairs = list(combinations(range(len(mask)), 2))
    if not pairs:
        return [], []
    first, second = np.array(pairs).T
    common = (np.array(mask)[first] & np.array(mask)[second]).sum(axis=1)
    logs = found.means[first] - found.means[second]
    if not found.dfs[0] > 0:
        bare = [_bare(one) for one in _intervals(logs, np.zeros(len(logs)), common)]
        return pairs, [Ratio(one, one, "cannot tell") for one in bare]
    parts = variance_parts(found, found.weights[first] - found.weights[second])
    se, df = np.sqrt(parts.sum(axis=1)), satterthwaite(parts, found.dfs)
    alone = stdtrit(df, 1 - ERROR / 2) * se
    tie = stdtrit(df, 1 - TIE_ERROR) * se
    together = np.maximum(_range(found, k, df) * se, alone)
    words = [verdict(*halves, margin) for halves in zip(logs, together, tie, strict=True)]
    wide, narrow = (_intervals(logs, halves, common) for halves in (together, alone))
    return pairs, [Ratio(*parts) for parts in zip(wide, narrow, words, strict=True)]


def _range(found: Fit, k: int, df: Floats) -> Floats:
    """Standard errors from a difference to the ends of its interval, for all pairs at once."""
    confidence = 1 - ERROR + (TEST_ERROR if found.is_tested else 0.0)
    steps = np.maximum(np.floor(df * DF_STEPS + 1e-9) / DF_STEPS, 1.0)
    return np.array([critical(k, float(step), confidence) for step in steps]) / math.sqrt(2)


def _places(
    order: Sequence[str], ratios: Mapping[tuple[str, str], Ratio]
) -> dict[str, tuple[int, int]]:
    """1 + how many are surely ahead of a variant, to all but those surely behind it."""
    apart = [pair for pair, found in ratios.items() if found.verdict == "apart"]
    return {
        label: (
            1 + sum(b == label for _, b in apart),
            len(order) - sum(a == label for a, _ in apart),
        )
        for label in order
    }


def _spread(found: Fit, group: Sequence[str]) -> Spread:
    noisiest: Noisiest | None = found.noisiest
    times = noisiest.spread / noisiest.others if noisiest and noisiest.others > 0 else None
    return Spread(
        log_sd=math.sqrt(found.variances[0]),
        df=int(found.dfs[0]),
        noisiest=group[noisiest.row] if noisiest else None,
        noisiest_times=times,
        apart=tuple(group[row] for row in found.apart),
    )

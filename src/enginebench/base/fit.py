"""One least-squares fit of logs over variants and blocks, and what its spread is. Pure.

Errors are taken as normal on the log scale and equally spread in all variants, but for variants
that are shown to be noisier: the extra sum of squares of each variant is tested against the others'
(an exact F test if the spreads are equal; Bonferroni over the variants). One that fails keeps its
own spread, and no longer has a say in the effects of the blocks. With few starts a noisy variant is
often not noticed: at 3 starts, 15 % beside 3 % of three others is noticed in about a third of the
studies, at 5 starts in three quarters. If not, the 95 % intervals of its ratios hold in 82 %
(``benchmarks/simulated_studies.py``). ``Fit.noisiest`` is the diagnostic.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc

from enginebench.base.layout import Floats, Layout, Mask, components, layout

TEST_ERROR = 0.02  # chance of setting any variant apart where all spreads are equal
LEAST_STARTS_APART = 3  # with two starts a spread of its own says next to nothing
ROUNDING = 1e-13  # relative error of a logarithm after the sums of a projection


@dataclass(frozen=True, slots=True)
class Noisiest:
    """The variant whose spread is largest beside the others'."""

    row: int
    spread: float  # standard deviation of its log figures, block effects taken out
    others: float  # the same, pooled over the other variants
    is_apart: bool  # shown to be noisier, so that it keeps a spread of its own


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """Of N observations of k connected variants."""

    means: Floats  # (k,) logs, over all blocks
    weights: Floats  # (k, N): means = weights @ observations
    classes: NDArray[np.intp]  # (N,): which spread an observation has; 0 is the pooled one
    variances: Floats  # of each class; the first is nan without degrees of freedom
    dfs: Floats  # of each class
    between: tuple[float, float, float]  # blocks: mean square, df, its share in a mean's variance
    is_tested: bool  # whether the layout lets a variant be set apart
    apart: tuple[int, ...]  # rows that keep a spread of their own
    noisiest: Noisiest | None


@dataclass(frozen=True, slots=True, eq=False)
class _Pool:
    """Variants that share one spread, and the observations of theirs."""

    rows: tuple[int, ...]
    at: NDArray[np.intp]
    layout: Layout
    squares: float  # residual sum of squares

    @property
    def df(self) -> int:
        return self.layout.df

    @property
    def variance(self) -> float:
        return self.squares / self.df if self.df else math.nan


def fit(mask: Mask, logs: Floats) -> Fit:
    """Fit a connected mask; ``logs`` are its N present cells, row by row."""
    whole = layout(mask)
    pool = everyone = _pool(mask, tuple(range(len(mask))), logs)
    apart: list[int] = []
    noisiest, is_tested = None, False
    # Rounded, so that equals come in the order of the rows on every machine.
    while tests := sorted(_tests(mask, pool, logs), key=lambda test: round(test[0], 12)):
        p, row, rest, spread = tests[0]
        fails = p * len(tests) <= TEST_ERROR
        if pool is everyone:
            is_tested = True
            noisiest = Noisiest(row, spread, math.sqrt(rest.variance), fails)
        if not fails:
            break
        pool = rest
        apart.append(row)
    return _fit(whole, pool, apart, logs, is_tested, noisiest)


def _pool(mask: Mask, rows: tuple[int, ...], logs: Floats) -> _Pool:
    at, own = _part(mask, rows)
    return _Pool(rows, at, own, _squares(own.residual, logs[at]))


def _squares(projection: Floats, logs: Floats) -> float:
    """The squared length of a projection; what rounding alone may leave is 0."""
    left = projection @ logs
    found = float(left @ left)
    least = ROUNDING * max(1.0, float(np.abs(logs).max()))
    return found if found > len(logs) * least**2 else 0.0


@lru_cache(maxsize=4096)
def _part(mask: Mask, rows: tuple[int, ...]) -> tuple[NDArray[np.intp], Layout]:
    """Where the observations of these rows are, and their layout."""
    at = np.flatnonzero(np.isin(layout(mask).variant, rows))
    return at, layout(tuple(mask[row] for row in rows))


def _tests(mask: Mask, pool: _Pool, logs: Floats) -> Iterator[tuple[float, int, _Pool, float]]:
    """Every variant of a pool against the rest: p, its row, the rest, and its own spread."""
    for row in candidates(tuple(mask[row] for row in pool.rows)):
        rows = (*pool.rows[:row], *pool.rows[row + 1 :])
        rest = _pool(mask, rows, logs)
        df = pool.df - rest.df
        extra = max(pool.squares - rest.squares, 0.0) / df
        # Beside others that do not vary at all, any spread is larger.
        f = extra / rest.variance if rest.variance > 0 else math.inf if extra > 0 else 0.0
        yield float(fdtrc(df, rest.df, f)), pool.rows[row], rest, math.sqrt(extra)


@lru_cache(maxsize=4096)
def candidates(mask: Mask) -> tuple[int, ...]:
    """The rows that can be set apart: started often enough, and the others stand without them."""
    found = []
    for row, own in enumerate(mask):
        rest = (*mask[:row], *mask[row + 1 :])
        if sum(own) >= LEAST_STARTS_APART and len(rest) > 1:
            covers = all(any(column) for column in zip(*rest, strict=True))
            if covers and len(components(rest)) == 1 and layout(rest).df > 0:
                found.append(row)
    return tuple(found)


def _fit(
    whole: Layout,
    pool: _Pool,
    apart: list[int],
    logs: Floats,
    is_tested: bool,
    noisiest: Noisiest | None,
) -> Fit:
    k, count = whole.means.shape
    weights, classes = np.zeros((k, count)), np.zeros(count, dtype=np.intp)
    weights[np.array(pool.rows)[:, None], pool.at] = pool.layout.means
    variances, dfs = [pool.variance], [float(pool.df)]
    for row in apart:
        at = np.flatnonzero(whole.variant == row)
        beside = np.zeros((len(at), count))  # its figures beside the blocks of the pool
        beside[np.arange(len(at)), at] = 1
        beside[:, pool.at] -= pool.layout.effects[whole.block[at]]
        weights[row] = beside.mean(axis=0)
        classes[at] = len(variances)
        variances.append(float(np.var(beside @ logs, ddof=1)))
        dfs.append(len(at) - 1.0)
    blocks = len(whole.effects)
    mean_square, share = 0.0, 0.0
    if blocks > 1:
        mean_square = _squares(pool.layout.between, logs[pool.at]) / (blocks - 1)
        share = 1 / (blocks * pool.layout.per_block)
    return Fit(
        means=weights @ logs,
        weights=weights,
        classes=classes,
        variances=np.array(variances),
        dfs=np.array(dfs),
        between=(mean_square, blocks - 1.0, share),
        is_tested=is_tested,
        apart=tuple(apart),
        noisiest=noisiest,
    )


def variance_parts(found: Fit, combinations: Floats) -> Floats:
    """What each class of spread adds to the variance of (..., N) combinations: (..., classes)."""
    squares = combinations**2
    share = np.stack(
        [squares[..., found.classes == c].sum(axis=-1) for c in range(len(found.dfs))], axis=-1
    )
    # A class that has no part in a combination adds nothing, even where its spread is unknown.
    return np.where(share > 0, share * found.variances, 0.0)


def satterthwaite(parts: Floats, dfs: Floats) -> Floats:
    """Degrees of freedom of sums of variances (Satterthwaite 1946), over the last axis."""
    total = parts.sum(axis=-1)
    below = (parts**2 / dfs).sum(axis=-1)
    found: Floats = np.where(total > 0, total**2 / np.where(below > 0, below, 1.0), dfs[0])
    return found

"""The linear algebra of variants × blocks with missing cells. Pure.

The model is log y = variant + block + error, the incomplete two-way layout without interaction
(Searle, Linear Models for Unbalanced Data, 1987, chapter 4). All that depends only on which cells
are present is worked out once a layout, as matrices that act on the vector of observations.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = tuple[tuple[bool, ...], ...]  # variants × blocks: the cell is present


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """What a connected layout of k variants, n blocks and N present cells (row by row) allows."""

    variant: NDArray[np.intp]  # (N,) the row of each observation
    block: NDArray[np.intp]  # (N,) the column of each observation
    means: Floats  # (k, N): the mean of each variant over all blocks, missing cells filled in
    effects: Floats  # (n, N): what a block adds; the effects sum to 0
    residual: Floats  # (N, N): observations to residuals
    df: int  # of the residuals: N - k - n + 1
    between: Floats  # (N, N): projection on what blocks explain once variants are taken out
    per_block: float  # E(its squared length) = (n - 1) (error² + per_block · block²)


@lru_cache(maxsize=4096)
def layout(mask: Mask) -> Layout:
    """The layout of a connected mask in which no row and no column is empty."""
    present = np.array(mask, dtype=bool)
    (k, n), (variant, block) = present.shape, np.nonzero(present)
    rows = np.eye(k)[variant]
    # Block effects sum to 0, so that a variant's coefficient is its mean over all blocks.
    to_effects = np.vstack([np.eye(n - 1), -np.ones((1, n - 1))]) if n > 1 else np.zeros((1, 0))
    columns = to_effects[block]
    inverse = np.linalg.pinv(np.hstack([rows, columns]))
    within = np.eye(len(variant)) - rows @ np.linalg.pinv(rows)  # variants alone taken out
    residual = np.eye(len(variant)) - np.hstack([rows, columns]) @ inverse
    blocks = np.eye(n)[block]
    per_block = float(np.trace(blocks.T @ within @ blocks)) / (n - 1) if n > 1 else 0.0
    return Layout(
        variant=variant,
        block=block,
        means=inverse[:k],
        effects=to_effects @ inverse[k:],
        residual=residual,
        df=len(variant) - k - n + 1,
        between=within - residual,
        per_block=per_block,
    )


def components(mask: Mask) -> list[list[int]]:
    """The variants in groups within which blocks link every two; the first variant's group first.

    Variants of different groups share no block, not even through others: nothing compares them.
    """
    left = {i: {j for j, there in enumerate(row) if there} for i, row in enumerate(mask)}
    groups = []
    while left:
        group, blocks = [], set[int]()
        reached = [min(left)]
        while reached:
            group += reached
            for i in reached:
                blocks |= left.pop(i)
            reached = [i for i, own in left.items() if own & blocks]
        groups.append(sorted(group))
    return groups

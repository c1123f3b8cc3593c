"""The order of variants in blocks, balanced for place and for what came before. Pure.

Rows come from Williams designs (E. J. Williams, Aust. J. Sci. Res. A 2, 1949): of k rows where k is
even, and of k rows and their mirror images where it is odd, in which everyone has every place and
follows every other equally often. With fewer blocks than rows, the rows are chosen that keep both
counts as even as they can be.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

T = TypeVar("T")
Order = tuple[int, ...]

RESTARTS = 12  # of the search for rows; each ends where no change of one row makes it better


@dataclass(frozen=True, slots=True)
class Balance:
    """How even an order is: the largest counts, and bounds that no order can be below."""

    same_place: int  # most often that one has the same place; of those in every block
    same_place_least: int
    same_before: int  # most often that one directly follows the same other
    same_before_least: int

    @property
    def is_best(self) -> bool:
        """Whether no order can be more even; not every number of blocks allows one that is."""
        return (
            self.same_place <= self.same_place_least and self.same_before <= self.same_before_least
        )


def williams(k: int) -> tuple[Order, ...]:
    """The rows of a Williams design of 0 to k - 1: k rows if k is even, else 2 k."""
    steps = [(step + 1) // 2 if step % 2 else (k - step // 2) % k for step in range(k)]
    rows = [tuple((start + step) % k for step in steps) for start in range(k)]
    return (*rows, *(row[::-1] for row in rows)) if k % 2 and k > 1 else tuple(rows)


def block_orders(trials: Sequence[int], seed: int | str) -> tuple[Order, ...]:
    """Who runs in each block, in order: indices into ``trials``. The same for the same seed.

    Args:
        trials: in how many blocks each takes part, from 1; from the first block on.
    """
    if not trials:
        return ()
    draw = random.Random(f"blocks/{seed}")
    everyone = draw.sample(range(len(trials)), len(trials))
    candidates = []
    for block in range(max(trials)):
        members = [i for i in everyone if trials[i] > block]
        candidates.append([tuple(members[i] for i in row) for row in williams(len(members))])
    found: list[Sequence[Order]] = [_descend(candidates, trials, draw) for _ in range(RESTARTS)]
    best = min(found, key=lambda rows: _unevenness(rows, trials))
    return tuple(best)


def _descend(
    candidates: Sequence[Sequence[Order]], trials: Sequence[int], draw: random.Random
) -> Sequence[Order]:
    """Change one row at a time for the best one, from random rows, until nothing gets better."""
    orders = [draw.choice(rows) for rows in candidates]
    least = _unevenness(orders, trials)
    is_better = True
    while is_better:
        is_better = False
        for block, rows in enumerate(candidates):
            for row in rows:
                tried = [*orders[:block], row, *orders[block + 1 :]]
                if (score := _unevenness(tried, trials)) < least:
                    orders, least, is_better = tried, score, True
    return orders


def _counts(
    orders: Sequence[Order], trials: Sequence[int]
) -> tuple[Counter[tuple[int, int]], Counter[tuple[int, int]]]:
    """How often each has each place, among those in every block, and each follows each other."""
    most = max(trials, default=0)
    places: Counter[tuple[int, int]] = Counter()
    before: Counter[tuple[int, int]] = Counter()
    for order in orders:
        always = [i for i in order if trials[i] == most]
        places.update(zip(always, range(len(always)), strict=True))
        before.update(pairwise(order))
    return places, before


def _unevenness(orders: Sequence[Order], trials: Sequence[int]) -> tuple[int, int, int]:
    """Sums of squared counts: the smaller, the more even. Among equals places matter first."""
    places, before = _counts(orders, trials)
    uneven = [sum(n * n for n in counts.values()) for counts in (places, before)]
    # From one block to the next: not the same twice in a row, nor the same pair as elsewhere.
    pairs = [(first[-1], second[0]) for first, second in pairwise(orders)]
    repeats = sum(len(before) if a == b else before[a, b] for a, b in pairs)
    return sum(uneven), uneven[0], repeats


def balance(orders: Sequence[Order], trials: Sequence[int]) -> Balance:
    """How even the orders of ``block_orders`` are, for the plan to print."""
    places, before = _counts(orders, trials)
    always = sum(count == max(trials, default=0) for count in trials)
    n = len(orders)
    ordered = sum(max(len(order) - 1, 0) for order in orders)
    pairs = len(trials) * (len(trials) - 1)
    return Balance(
        same_place=max(places.values(), default=0),
        same_place_least=-(-n // always) if always else 0,
        same_before=max(before.values(), default=0),
        same_before_least=-(-ordered // pairs) if pairs else 0,
    )


def level_orders(levels: Sequence[T], starts: int, seed: int | str) -> tuple[tuple[T, ...], ...]:
    """The order of the levels of load in each start, balanced in the same way.

    All variants of a block use the order of that block, so that a level is compared at the same
    time since the start.
    """
    orders = block_orders([starts] * len(levels) if starts > 0 else [], f"levels/{seed}")
    return tuple(tuple(levels[i] for i in order) for order in orders)

"""What the statistics are worth, by studies whose truth is known: ``make bench-statistics``.

Studies are drawn (log-normal starts, log-normal blocks) and go through the estimator that the
report uses. Printed are, each with its Monte Carlo error: how often an interval holds the truth,
how often equal variants are called apart, how often the slower of two is stated or listed as the
faster, and how often a true 10 % is seen. The exit code is 1 if a bound is broken by more than
chance (2.6 Monte Carlo errors, one false alarm in 200 rows).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated

import numpy as np
import typer
from numpy.random import Generator
from scipy.special import ndtr

from enginebench.base.estimator import Comparison, Interval, compare

ALARM = 2.6
COVERAGE = (0.93, 0.97)
FAMILY_MOST = 0.05
WRONG_MOST = 0.025
MISSING = (1, 0)  # the variant and the block of the missing cell


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """A kind of study: what is so, and how noisy it is to see."""

    logs: Sequence[float]  # of the variants
    starts: int
    spreads: Sequence[float]  # sd of the starts' logs, of each variant
    block: float = 0.0  # sd of the blocks' logs
    missing: Sequence[tuple[int, int]] = ()  # (variant, block)

    def study(self, draw: Generator) -> Comparison:
        shape = (len(self.logs), self.starts)
        logs = (
            np.array(self.logs)[:, None]
            + draw.normal(0, 1, shape) * np.array(self.spreads)[:, None]
        )
        figures = np.exp(logs + draw.normal(0, 1, self.starts) * self.block)
        return compare(
            {
                str(v): {b: None if (v, b) in self.missing else float(y) for b, y in enumerate(row)}
                for v, row in enumerate(figures)
            }
        )


@dataclass(slots=True)
class Ledger:
    """What the rows add up to."""

    broken: int = 0
    not_positive: int = 0
    intervals: int = 0

    def count(self, found: Interval) -> None:
        self.intervals += 1
        self.not_positive += found.low is not None and found.low <= 0

    def row(self, text: str, shares: Sequence[float], least: float, most: float) -> None:
        """Print a row and hold it to its bounds."""
        mean = float(np.mean(shares))
        error = float(np.std(shares)) / math.sqrt(len(shares))
        slack = ALARM * error
        is_broken = not least - slack <= mean <= most + slack
        self.broken += is_broken
        print(f"{text}  {mean:7.2%} ± {error:.2%}{'  BROKEN' if is_broken else ''}")


def holds(found: Interval, log_truth: float) -> bool | None:
    if found.low is None or found.high is None:
        return None
    return math.log(found.low) <= log_truth <= math.log(found.high)


def ratio_coverage(truth: Truth, studies: int, draw: Generator, ledger: Ledger) -> list[float]:
    """Of every study, the share of its ratios whose own 95 % interval holds the truth."""
    shares = []
    for _ in range(studies):
        found = truth.study(draw)
        right = []
        for (a, b), ratio in found.ratios.items():
            ledger.count(ratio.alone)
            ledger.count(ratio.together)
            right.append(holds(ratio.alone, truth.logs[int(a)] - truth.logs[int(b)]))
        shares.append(float(np.mean([one for one in right if one is not None])))
    return shares


def own_coverage(truth: Truth, studies: int, draw: Generator, ledger: Ledger) -> list[float]:
    """The same of the variants' own figures, over new blocks."""
    shares = []
    for _ in range(studies):
        found = truth.study(draw)
        for mean in found.means.values():
            ledger.count(mean)
        right = [holds(mean, truth.logs[int(label)]) for label, mean in found.means.items()]
        shares.append(float(np.mean([one for one in right if one is not None])))
    return shares


def share(
    truth: Truth, studies: int, draw: Generator, is_so: Callable[[Comparison], bool]
) -> list[float]:
    return [float(is_so(truth.study(draw))) for _ in range(studies)]


def any_apart(found: Comparison) -> bool:
    return any(ratio.verdict == "apart" for ratio in found.ratios.values())


def any_out(found: Comparison) -> bool:
    """Whether the interval of any ratio leaves out 1, beyond the margin or not."""
    return any(holds(ratio.together, 0.0) not in (True, None) for ratio in found.ratios.values())


def states_wrong(found: Comparison) -> bool:
    """Whether it says that variant 1 is apart from the truly faster variant 0, and ahead."""
    ratio = found.ratio("1", "0")
    return ratio is not None and ratio.verdict == "apart" and ratio.together.mean > 1


def lists_wrong(found: Comparison) -> bool:
    return found.order.index("1") < found.order.index("0")


def grid() -> Iterator[tuple[int, float, float, bool]]:
    return product((2, 3, 5, 10), (0.03, 0.15), (0.0, 0.1), (False, True))


def coverage(studies: int, draw: Generator, ledger: Ledger) -> None:
    print("\nCoverage of 95 % intervals; 4 variants, true ratios 1 to 2 (bounds: 93 to 97 %)")
    logs = [0.0, 0.0, math.log(1.3), math.log(2)]
    for starts, sd, block, missing in grid():
        cells = [MISSING] if missing else []
        truth = Truth(logs=logs, starts=starts, spreads=[sd] * 4, block=block, missing=cells)
        text = f"{starts:3} starts, spread {sd:3.0%}, blocks {block:3.0%}, "
        text += f"{'one cell missing' if missing else 'complete':16}"
        ledger.row(text, ratio_coverage(truth, studies, draw, ledger), *COVERAGE)
    once = [(v, b) for v in (2, 3) for b in (1, 2)]
    truth = Truth(logs=logs, starts=3, spreads=[0.03] * 4, block=0.1, missing=once)
    text = "  3 starts, two variants with one start     "
    ledger.row(f"{text:54}"[:54], ratio_coverage(truth, studies, draw, ledger), *COVERAGE)


def unequal(studies: int, draw: Generator, ledger: Ledger) -> None:
    print("\nThe same where one of 4 variants is 5 times as noisy as the others (bounds from 10")
    print("starts on: with fewer the noise is often not seen, and its intervals are too short)")
    for starts in (3, 5, 10):
        truth = Truth(logs=[0.0] * 4, starts=starts, spreads=[0.03] * 3 + [0.15], block=0.1)
        bounds = COVERAGE if starts >= 10 else (0.0, 1.0)
        for name, pair in (("two quiet ones", ("0", "1")), ("with the noisy one", ("0", "3"))):
            shares = share(truth, studies, draw, lambda c, p=pair: covers_one(c, *p))
            ledger.row(f"{starts:3} starts, {name:42}", shares, *bounds)
        shares = share(truth, studies, draw, any_apart)
        most = FAMILY_MOST if starts >= 10 else 1.0
        ledger.row(f"{starts:3} starts, {'any two equal ones called apart':42}", shares, 0.0, most)
        shares = share(truth, studies, draw, lambda c: "3" in c.spreads[0].apart)
        ledger.row(f"{starts:3} starts, {'the noisy one is set apart':42}", shares, 0.0, 1.0)


def covers_one(found: Comparison, a: str, b: str) -> bool:
    ratio = found.ratio(a, b)
    return ratio is not None and bool(holds(ratio.alone, 0.0))


def own_figures(studies: int, draw: Generator, ledger: Ledger) -> None:
    print("\nCoverage of variants' own figures, for new blocks; 4 variants (bound: at least 93 %)")
    for starts, sd, block, missing in grid():
        if sd == 0.15 and block:
            continue
        cells = [MISSING] if missing else []
        truth = Truth(logs=[0.0] * 4, starts=starts, spreads=[sd] * 4, block=block, missing=cells)
        text = f"{starts:3} starts, spread {sd:3.0%}, blocks {block:3.0%}, "
        text += f"{'one cell missing' if missing else 'complete':16}"
        ledger.row(text, own_coverage(truth, studies // 2, draw, ledger), COVERAGE[0], 1.0)


def family(studies: int, draw: Generator, ledger: Ledger) -> None:
    print("\nEqual variants of which any two are called apart (bound: 5 %);")
    print("in brackets: the interval of any ratio leaves out 1, whatever the margin")
    for k, (starts, sd) in product(range(2, 10), ((3, 0.15), (5, 0.03))):
        truth = Truth(logs=[0.0] * k, starts=starts, spreads=[sd] * k, block=0.1)
        found = [truth.study(draw) for _ in range(2 * studies)]
        out = float(np.mean([any_out(one) for one in found]))
        text = f"{k:3} variants, {starts} starts, spread {sd:3.0%} ({out:5.2%})"
        ledger.row(f"{text:54}", [float(any_apart(one)) for one in found], 0.0, FAMILY_MOST)


def order(studies: int, draw: Generator, ledger: Ledger) -> None:
    print(
        "\nThe slower of two as the faster: 5 % apart, 3 starts, blocks 10 %, its slow cell missing"
    )
    print(
        "(bound: 2.5 %; at 3 % spread and 2 common blocks no order of rows can do better than the"
    )
    print("share in brackets, so only the statement is held to the bound)")
    for others, sd in product((0, 4), (0.01, 0.03)):
        logs = [math.log(1.05), 0.0] + [-1.0] * others
        truth = Truth(logs=logs, starts=3, spreads=[sd] * len(logs), block=0.1, missing=[MISSING])
        best = float(ndtr(-logs[0] / (sd * math.sqrt(1 / 2 + 1 / 2))))
        found = [truth.study(draw) for _ in range(2 * studies)]
        text = f"{len(logs)} variants, spread {sd:3.0%}"
        said = [float(states_wrong(one)) for one in found]
        ledger.row(f"{text + ', stated':54}", said, 0.0, WRONG_MOST)
        listed = [float(lists_wrong(one)) for one in found]
        most = WRONG_MOST if best < WRONG_MOST / 2 else 1.0
        ledger.row(f"{text + f', listed (2 variants: {best:.2%})':54}", listed, 0.0, most)


def power(studies: int, draw: Generator, ledger: Ledger) -> None:
    print("\nPower: how often a true 10 % between two of the variants is called apart")
    for k, sd, starts in product((2, 4), (0.03, 0.15), (3, 5, 10)):
        truth = Truth(logs=[math.log(1.1)] + [0.0] * (k - 1), starts=starts, spreads=[sd] * k)
        shares = share(truth, studies // 2, draw, lambda c: c.ratio("0", "1").verdict == "apart")
        ledger.row(f"{k:3} variants, {starts:2} starts, spread {sd:3.0%}{'':21}", shares, 0.0, 1.0)


def main(
    studies: Annotated[int, typer.Option(help="Simulated studies a row.", min=100)] = 1000,
    seed: Annotated[int, typer.Option(help="Of the random numbers.")] = 16,
) -> None:
    draw, ledger = np.random.default_rng(seed), Ledger()
    for part in (coverage, unequal, own_figures, family, order, power):
        part(studies, draw, ledger)
    print(f"\n{ledger.not_positive} of {ledger.intervals:,} intervals reach 0 (bound: none)")
    print(f"{ledger.broken} bounds broken")
    raise typer.Exit(1 if ledger.broken or ledger.not_positive else 0)


if __name__ == "__main__":
    typer.run(main)

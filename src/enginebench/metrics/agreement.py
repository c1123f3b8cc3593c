"""Whether two variants give the same greedy answers, and if not, where they part. Pure.

Greedy decoding is deterministic in exact arithmetic only. Sums taken in another order differ in
their last bits, and where the two best tokens are nearly equal, another one may win; from there on
the answers are of different texts. So a first difference at a near tie is no fault, and one at a
clear choice is: one of the two did not compute the same model.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from enginebench.record.schema import Request

#: The margin, in nats, up to which the better one of two tokens is a matter of rounding. Logits of
#: these models are of the order of 10; bfloat16 keeps 8 bits of them, float16 11, float32 24, and
#: the error of a whole forward pass is some such steps.
NEAR_TIE_NATS = {"float32": 0.001, "float16": 0.05, "bfloat16": 0.25}


@dataclass(frozen=True, slots=True)
class Difference:
    """One prompt that two variants answered differently."""

    prompt: int
    token: int | None  # number of the first different token, from 1; None: no ids to tell it
    margin: float | None  # by how much its maker preferred it, in nats: the surer one of the two


@dataclass(frozen=True, slots=True)
class Comparison:
    """The answers of one variant beside those of another."""

    label: str
    against: str
    dtypes: tuple[str | None, str | None]
    prompts: int  # answered by both
    unanswered: int  # by either
    differences: tuple[Difference, ...]
    # Over the tokens before the first difference, by how much the two disagree on a margin at most:
    # the rounding of the one beside that of the other, in nats. None: not given.
    margin_error: float | None

    @property
    def is_same_dtype(self) -> bool:
        return self.dtypes[0] is not None and self.dtypes[0] == self.dtypes[1]

    @property
    def identical(self) -> int:
        return self.prompts - len(self.differences)

    @property
    def near_tie_nats(self) -> float:
        """What counts as a near tie here: the coarser one of the two dtypes decides."""
        coarsest, names = max(NEAR_TIE_NATS.values()), [found or "" for found in self.dtypes]
        # Behind the dtype stands what else decides which answers are given, such as other weights.
        return max(NEAR_TIE_NATS.get(name.split(",")[0], coarsest) for name in names)

    @property
    def clear(self) -> tuple[Difference, ...]:
        """Differences at a clear choice, or that cannot be told from one."""
        limit = self.near_tie_nats
        return tuple(d for d in self.differences if d.margin is None or d.margin > limit)

    @property
    def first_token_median(self) -> float | None:
        tokens = [d.token for d in self.differences if d.token is not None]
        return median(tokens) if tokens else None

    @property
    def first_token_worst(self) -> int | None:
        return min((d.token for d in self.differences if d.token is not None), default=None)

    @property
    def margin_largest(self) -> float | None:
        return max((d.margin for d in self.differences if d.margin is not None), default=None)


def comparisons(
    answers: Mapping[str, Sequence[Request]], dtypes: Mapping[str, str | None], reference: str
) -> tuple[Comparison, ...]:
    """Every variant beside the reference's engine in its own dtype, then beside the reference.

    Args:
        answers: by engine/variant, in the study's order.
        reference: the variant that ratios divide by; its engine is the one to agree with.
    """
    engine = reference.split("/")[0]
    found = []
    for label, rows in answers.items():
        same = (
            other
            for other in answers
            if other.split("/")[0] == engine and dtypes[other] == dtypes[label] is not None
        )
        # The first of its kind has nobody to agree with but the reference.
        partners = dict.fromkeys((next(same, reference), reference))
        found += [
            compare(label, rows, other, answers[other], (dtypes[label], dtypes[other]))
            for other in partners
            if other in answers and other != label
        ]
    return tuple(found)


def compare(
    label: str,
    rows: Sequence[Request],
    against: str,
    others: Sequence[Request],
    dtypes: tuple[str | None, str | None],
) -> Comparison:
    """Compare two variants' answers to the same prompts, in the same order."""
    pairs = list(zip(rows, others, strict=True))
    answered = [(a, b) for a, b in pairs if a.error is None and b.error is None]
    assert all(a.prompt_sha256 == b.prompt_sha256 for a, b in answered)
    return Comparison(
        label,
        against,
        dtypes,
        len(answered),
        len(pairs) - len(answered),
        tuple(_differences(answered)),
        max((error for a, b in answered for error in _margin_errors(a, b)), default=None),
    )


def _differences(answered: Sequence[tuple[Request, Request]]) -> Iterator[Difference]:
    for one, other in answered:
        ids, other_ids = one.token_ids, other.token_ids
        if ids is None or other_ids is None:
            if one.text != other.text:
                yield Difference(one.index, None, None)
            continue
        if ids == other_ids:
            continue
        same = _same_tokens(one, other)
        margins = [margin for row in (one, other) if (margin := _margin_at(row, same)) is not None]
        yield Difference(one.index, same + 1, max(margins, default=None))


def _same_tokens(one: Request, other: Request) -> int:
    """How many tokens two answers have in common before they part."""
    pairs = list(zip(one.token_ids or (), other.token_ids or (), strict=False))
    return next((n for n, (a, b) in enumerate(pairs) if a != b), len(pairs))


def _margin_errors(one: Request, other: Request) -> Iterator[float]:
    for position in range(_same_tokens(one, other)):
        margins = _margin_at(one, position), _margin_at(other, position)
        if margins[0] is not None and margins[1] is not None:
            yield abs(margins[0] - margins[1])


def _margin_at(row: Request, position: int) -> float | None:
    margins = row.margins or []
    return margins[position] if position < len(margins) else None

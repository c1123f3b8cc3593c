"""How probable an engine finds a text: exp(−mean of ln p) over its tokens. Pure.

The formula is the usual one: https://huggingface.co/docs/transformers/perplexity, with every prompt
a text of its own, whose first token is not counted.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from enginebench.record.schema import PromptScore


@dataclass(frozen=True, slots=True)
class Perplexity:
    """Of one variant; None: not measured."""

    label: str
    tokens: int | None = None  # that it is the mean over
    perplexity: float | None = None
    ratio: float | None = None  # to that of the reference, on the same prompts
    reason: str | None = None  # why it is not measured


def of_scores(label: str, rows: Sequence[PromptScore]) -> Perplexity:
    """From the scores of all prompts; one that has none leaves the perplexity unknown."""
    if not rows:
        return Perplexity(label, reason="the engine gives none")
    tokens, total = 0, 0.0
    for row in rows:
        if row.logprob_sum is None:
            return Perplexity(label, reason=row.error or "not given")
        tokens += row.tokens
        total += row.logprob_sum
    mean = -total / tokens if tokens else math.inf
    if not abs(mean) < math.log(1e300):  # an exponential that no record could hold
        return Perplexity(label, reason="its log-probabilities have no usable mean")
    return Perplexity(label, tokens, math.exp(mean))

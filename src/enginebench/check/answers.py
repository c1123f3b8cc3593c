"""Whether a variant's greedy answers are those it should give. Pure."""

from collections.abc import Iterator

from enginebench.check.findings import Finding
from enginebench.metrics.agreement import Comparison


def answer_findings(found: Comparison) -> Iterator[Finding]:
    """What a comparison of answers in one dtype says of every cell of its variant."""
    if found.clear:
        text = (
            f"{len(found.clear)} of {found.prompts} greedy answers part from those of "
            f"{found.against} where the choice was clear{_unknown_text(found)}"
        )
        advice = "is it the same model, tokenizer and dtype? see the comparison of answers"
        yield Finding("answers", "suspect", text, None, advice)
    if found.unanswered:
        asked = found.prompts + found.unanswered
        text = f"{found.unanswered} of {asked} answers could not be compared: a request failed"
        yield Finding("answers", "suspect", text, None, "look at agreement.jsonl.gz of the launch")


def _unknown_text(found: Comparison) -> str:
    """Engines that give no margins cannot show that a choice was a near tie."""
    unknown = sum(difference.margin is None for difference in found.clear)
    return f" ({unknown} of them unknown: no margins were given)" if unknown else ""

"""The perplexity of the comparison's prompts by every variant, from the raw files."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from enginebench.metrics import perplexity
from enginebench.metrics.perplexity import Perplexity
from enginebench.record import reading
from enginebench.record.schema import PromptScore
from enginebench.summarize.documents import Documents

FILE = "perplexity.jsonl"


def of_study(directory: Path, read: Documents, reference: str) -> tuple[Perplexity, ...]:
    """One a variant, in the study's order; none if no engine was asked.

    Args:
        read: gets a damage for a file that cannot be read.
        reference: the variant that ratios divide by.
    """
    scores: dict[str, Sequence[PromptScore]] = {}
    for planned in read.study.plan:
        path = f"raw/{planned.id}/{FILE}"
        if planned.id not in read.launches or not (directory / path).exists():
            continue
        try:
            scores[planned.label] = list(reading.read_rows(directory / path, PromptScore))
        except reading.RecordError as error:
            read.damages[path] = error.message
    if not scores:
        return ()
    labels = [variant.label for variant in read.study.study.engines]
    found = {label: perplexity.of_scores(label, scores.get(label, ())) for label in labels}
    base = found[reference].perplexity if reference in found else None
    return tuple(
        replace(one, ratio=one.perplexity / base)
        if base and one.perplexity and _prompts(scores, one.label) == _prompts(scores, reference)
        else one
        for one in found.values()
    )


def _prompts(scores: dict[str, Sequence[PromptScore]], label: str) -> list[str]:
    return [row.prompt_sha256 for row in scores[label]]

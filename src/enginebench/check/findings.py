"""Whether a cell counts: the same work was done, and the counts agree. Pure.

A cell is *valid*, *suspect* (something needs an explanation) or *invalid* (something is wrong),
with reasons and what to do next. Invalid cells are shown, never dropped, and in no average.
``plausible`` asks whether what was measured is possible at all.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from enginebench.metrics import metrics_page
from enginebench.metrics.agreement import Comparison
from enginebench.metrics.request_table import UNKNOWN, Columns
from enginebench.record.schema import Request

Verdict = Literal["valid", "suspect", "invalid"]

EMPTY_TAIL = 3  # tokens of one unfinished character may show nothing; more of them is padding
TEXT_MORE, TEXT_LESS = 1.5, 0.5  # our count of a cell's text over its usage

#: The checks in the order of the report's parity table.
CHECKS: Mapping[str, str] = {
    "record": "every raw file is as it was recorded",
    "complete": "every planned request was recorded and ended without an error",
    "output": "exactly the output tokens asked for",
    "prompt": "exactly the prompt tokens sent",
    "finish": "ended by length, not by a stop",
    "stream": "streamed tokens add up to the usage",
    "text": "the text has about as many tokens as the usage says",
    "different": "different prompts, different answers",
    "cache": "no prompt token from a cache",
    "answers": "greedy answers are the reference engine's in the same dtype, but for near ties",
    "client": "the client's own error could not change what the cell says",
    "counters": "the engine's counters grew by what the client saw",
    "silence": "no time without any token, far longer than the cell's own gaps",
    "machine": "no other process disturbed the cell",
    "clock": "times are in order and two clocks agree",
    "physics": "not faster than the hardware allows",
    "kv": "no more tokens in generation than the KV cache holds",
    "energy": "no more energy than the power limits allow",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a cell."""

    check: str  # a key of CHECKS
    verdict: Verdict  # what it makes of the cell
    text: str
    failed: int | None = None  # requests that failed it, where it is about requests
    advice: str = ""  # what to do next


def verdict(findings: Sequence[Finding]) -> Verdict:
    found = {finding.verdict for finding in findings}
    return "invalid" if "invalid" in found else "suspect" if "suspect" in found else "valid"


@dataclass(slots=True)
class Tally:
    """What the checks need to know of a cell's measured requests, counted row by row.

    A cell may have a million of them: their rows are read once and not kept.
    """

    rows: int = 0
    failed: int = 0
    first_error: str = ""
    bad: list[int] = field(default_factory=lambda: [0] * len(_REQUEST_CHECKS))
    text_tokens: int = 0  # of the requests that have both counts
    usage_tokens: int = 0
    unknown: int = 0  # requests with an event of unknown size
    says_cached: int = 0  # requests whose usage says how many prompt tokens came from a cache
    prompts: set[str] = field(default_factory=set)
    text: str = ""  # of the first answer
    same_text: int = 0  # answers like it

    def add(self, row: Request) -> None:
        self.rows += 1
        self.prompts.add(row.prompt_sha256)
        if row.error is not None:
            if not self.failed:
                self.first_error = row.error.splitlines()[0] if row.error else ""
            self.failed += 1
            return
        for index, (_, is_bad, _, _) in enumerate(_REQUEST_CHECKS):
            if is_bad(row):
                self.bad[index] += 1
        if row.text_tokens is not None and row.output_tokens:
            self.text_tokens += row.text_tokens
            self.usage_tokens += row.output_tokens
        self.unknown += None in row.event_tokens
        self.says_cached += row.cached_tokens is not None
        if self.rows - self.failed == 1:
            self.text = row.text
        self.same_text += bool(row.text) and row.text == self.text


def tally_findings(tally: Tally, asked: int) -> Iterator[Finding]:
    """What the cell's measured requests say by themselves."""
    if tally.rows != asked:
        yield Finding(
            "complete", "invalid", f"{tally.rows} requests were recorded, {asked} planned"
        )
    if tally.failed:
        yield Finding(
            "complete",
            "invalid",
            f"{tally.failed} of {tally.rows} requests failed; the first: "
            f"{tally.first_error or 'no reason given'}",
            tally.failed,
            "read the engine's server.log beside the cell",
        )
    finished = tally.rows - tally.failed
    for bad, (check, _, what, advice) in zip(tally.bad, _REQUEST_CHECKS, strict=True):
        if bad:
            text = f"{bad} of {finished} requests {what}"
            yield Finding(check, "invalid", text, bad, advice)
    yield from _text_findings(tally, finished)
    yield from _difference_findings(tally, finished)


def _output_error(row: Request) -> int | None:
    made = row.output_tokens
    return None if made is None else made - row.output_tokens_asked


def _prompt_error(row: Request) -> int | None:
    seen = row.prompt_tokens
    return None if seen is None else seen - row.prompt_tokens_asked


def _streamed_tokens(row: Request) -> int | None:
    """The sum over a request's events; None where one is of unknown size."""
    if None in row.event_tokens:
        return None
    return sum(row.event_tokens)  # type: ignore[arg-type]


def _empty_tail(row: Request) -> int:
    """Tokens after the last one that showed any text."""
    tail = 0
    for tokens, chars in zip(reversed(row.event_tokens), reversed(row.event_chars), strict=True):
        if chars:
            break
        tail += tokens or 0
    return tail


def _is_out_of_order(row: Request) -> bool:
    times = [row.planned_s, row.sent_s, row.headers_s, *row.event_s, row.end_s]
    known = [time_s for time_s in times if time_s is not None]
    return known != sorted(known)


_REQUEST_CHECKS: tuple[tuple[str, Callable[[Request], Any], str, str], ...] = (
    (
        "output",
        lambda row: _output_error(row) is None,
        "did not say how many tokens they made",
        "make the engine send usage (engine.py, stream_options)",
    ),
    (
        "output",
        lambda row: (_output_error(row) or 0) < 0,
        "did not make exactly the tokens asked for: they stopped early",
        "make the engine ignore the end of sequence",
    ),
    (
        "output",
        lambda row: (_output_error(row) or 0) > 0,
        "did not make exactly the tokens asked for: they made too many",
        "check max_tokens in engine.py",
    ),
    (
        "prompt",
        lambda row: _prompt_error(row) is None,
        "did not say how long their prompt was",
        "make the engine send usage (engine.py, stream_options)",
    ),
    (
        "prompt",
        lambda row: (_prompt_error(row) or 0) > 0,
        "had a longer prompt at the engine than was sent (a second BOS?)",
        "send token ids, or text without special tokens",
    ),
    (
        "prompt",
        lambda row: (_prompt_error(row) or 0) < 0,
        "had a shorter prompt at the engine than was sent (silently cut?)",
        "raise the engine's longest length",
    ),
    (
        "finish",
        lambda row: row.finish_reason != "length",
        "ended for another reason than their length",
        "make the engine ignore stop conditions",
    ),
    (
        "stream",
        lambda row: _streamed_tokens(row) not in (None, row.output_tokens),
        "streamed another number of tokens than their usage says",
        "check how engine.py counts the tokens of an event",
    ),
    (
        "text",
        lambda row: _empty_tail(row) > EMPTY_TAIL,
        "ended in tokens that show nothing (padding counted as output?)",
        "look at `text` in requests.jsonl",
    ),
    (
        "cache",
        lambda row: row.cached_tokens,
        "had prompt tokens served from a cache",
        "turn the prefix cache off in launch.yaml",
    ),
    (
        "clock",
        _is_out_of_order,
        "have times that are not in order",
        "measure again; a clock was set or a machine was paused",
    ),
)


def _text_findings(tally: Tally, finished: int) -> Iterator[Finding]:
    """Usage against our own count of the text's tokens, over the whole cell.

    The two need not be equal: text may be cut into other tokens than it was made of, and gibberish
    into more of them. Half as many again, or less than half, is no such chance.
    """
    ratio = tally.text_tokens / tally.usage_tokens if tally.usage_tokens else 1.0
    if ratio > TEXT_MORE:
        text = f"the text has {ratio:.2f} times as many tokens as the usage says"
        yield Finding("text", "invalid", text, None, "do not trust this engine's usage")
    if ratio < TEXT_LESS:
        text = f"the text has only {ratio:.2f} times as many tokens as the usage says"
        yield Finding("text", "suspect", text, None, "look at `text` in requests.jsonl")
    if tally.unknown:
        text = (
            f"{tally.unknown} of {finished} requests have events of unknown size: no ITL for them"
        )
        yield Finding("stream", "suspect", text, tally.unknown, "ask for usage with every event")


def _difference_findings(tally: Tally, finished: int) -> Iterator[Finding]:
    if len(tally.prompts) != tally.rows:
        text = f"{tally.rows} requests had only {len(tally.prompts)} different prompts"
        yield Finding("different", "invalid", text)
    if tally.same_text == finished > 1:
        text = f"all {finished} answers are the same although their prompts differ"
        yield Finding(
            "different", "suspect", text, finished, "is something answering from a cache?"
        )


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


def warmup_findings(rows: Sequence[Request]) -> Iterator[Finding]:
    """A warm-up that failed has warmed nothing."""
    bad = sum(row.error is not None for row in rows)
    if bad:
        text = f"{bad} of {len(rows)} warm-up requests failed"
        advice = "look at them in requests.jsonl"
        yield Finding("complete", "suspect", text, bad, advice)


def cut_off_findings(has_launch: bool, pages: int) -> Iterator[Finding]:
    """A cell whose counters nobody can check is not as good as one whose counters agree.

    Args:
        has_launch: whether the end of its engine's start was recorded, with the metrics' names.
        pages: readings of the metrics page that were recorded.
    """
    why = None
    if not has_launch:
        why = "its engine's start was cut off (it has no launch.json)"
    elif not pages:
        why = "no reading of its engine's metrics was recorded"
    if why is not None:
        text = f"{why}: the counters were not checked"
        yield Finding("counters", "suspect", text, None, "run it again with --resume")


def counter_findings(
    requests: Columns, first: Mapping[str, Any], last: Mapping[str, Any]
) -> Iterator[Finding]:
    """The engine's own counters, read right before and after the requests.

    A metric that the dialect does not map is not in ``first`` and is skipped; one that is mapped
    and was not read is None, and then the cell is suspect.
    """
    wanted = ("output_tokens_total", "prompt_tokens_total", "prefix_hit_tokens_total")
    unread = [name for name in wanted if name in first]
    unread = [name for name in unread if first[name] is None or last.get(name) is None]
    if unread:
        text = f"the engine's counters could not be read: {', '.join(unread)}"
        yield Finding("counters", "suspect", text, None, "look at scrapes.jsonl.gz of the cell")
    fallen = [n for n in wanted if first.get(n) is not None and (last.get(n) or 0.0) < first[n]]
    if fallen and not unread:
        text = f"the engine's counters fell: {', '.join(fallen)}"
        yield Finding("counters", "suspect", text, None, "was it restarted? see server.log")
    if not requests.is_failed.any():
        for counter, counts in (
            ("output_tokens_total", requests.output_tokens),
            ("prompt_tokens_total", requests.prompt_tokens),
        ):
            grown = metrics_page.difference(first, last, counter)
            if grown is None or (counts == UNKNOWN).any():
                continue
            seen = int(counts.sum(dtype=np.int64))
            if grown != seen:
                text = f"the engine's {counter} grew by {grown:.0f}, the client counted {seen}"
                yield Finding(
                    "counters", "invalid", text, None, "is anybody else using this engine?"
                )
    hits = metrics_page.difference(first, last, "prefix_hit_tokens_total")
    if hits:
        text = f"{hits:.0f} prompt tokens came from a prefix cache that should be off"
        yield Finding("cache", "invalid", text, None, "turn the prefix cache off in launch.yaml")

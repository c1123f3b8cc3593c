"""What a cell's requests say by themselves: the same work was done, and the counts agree. Pure."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from enginebench.check.findings import Finding
from enginebench.record.schema import Request

EMPTY_TAIL = 3  # tokens of one unfinished character may show nothing; more of them is padding
TEXT_MORE, TEXT_LESS = 1.5, 0.5  # our count of a cell's text over its usage


@dataclass(frozen=True, slots=True)
class _RequestCheck:
    """One reason for which a request makes its cell invalid."""

    name: str  # a key of CHECKS
    is_bad: Callable[[Request], bool]
    text: str  # what such requests did
    advice: str


@dataclass(slots=True)
class Tally:
    """What the checks need to know of a cell's measured requests, counted row by row.

    A cell may have a million of them: their rows are read once and not kept.
    """

    cached_permitted: int = 0  # tokens of a prompt that may come from a cache
    rows: int = 0
    failed: int = 0
    first_error: str = ""
    bad: dict[_RequestCheck, int] = field(default_factory=dict)  # requests that failed each
    text_tokens: int = 0  # of the requests that have both counts
    usage_tokens: int = 0
    unknown: int = 0  # requests with an event of unknown size
    says_cached: int = 0  # requests whose usage says how many prompt tokens came from a cache
    cached_beyond: int = 0  # and those of which it is more than permitted
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
        for check in _CHECKS:
            if check.is_bad(row):
                self.bad[check] = self.bad.get(check, 0) + 1
        if row.text_tokens is not None and row.output_tokens:
            self.text_tokens += row.text_tokens
            self.usage_tokens += row.output_tokens
        self.unknown += None in row.event_tokens
        self.says_cached += row.cached_tokens is not None
        self.cached_beyond += (row.cached_tokens or 0) > self.cached_permitted
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
    for check in _CHECKS:
        if bad := tally.bad.get(check):
            text = f"{bad} of {finished} requests {check.text}"
            yield Finding(check.name, "invalid", text, bad, check.advice)
    yield from _cache_findings(tally, finished)
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
    before = [t for t in (row.planned_s, row.sent_s, row.headers_s) if t is not None]
    after = [] if row.end_s is None else [row.end_s]
    times = [*before, *row.event_s, *after]
    return times != sorted(times)


_CHECKS = (
    _RequestCheck(
        "output",
        lambda row: _output_error(row) is None,
        "did not say how many tokens they made",
        "make the engine send usage (engine.py, stream_options)",
    ),
    _RequestCheck(
        "output",
        lambda row: (_output_error(row) or 0) < 0,
        "did not make exactly the tokens asked for: they stopped early",
        "make the engine ignore the end of sequence",
    ),
    _RequestCheck(
        "output",
        lambda row: (_output_error(row) or 0) > 0,
        "did not make exactly the tokens asked for: they made too many",
        "check max_tokens in engine.py",
    ),
    _RequestCheck(
        "prompt",
        lambda row: _prompt_error(row) is None,
        "did not say how long their prompt was",
        "make the engine send usage (engine.py, stream_options)",
    ),
    _RequestCheck(
        "prompt",
        lambda row: (_prompt_error(row) or 0) > 0,
        "had a longer prompt at the engine than was sent (a second BOS?)",
        "send token ids, or text without special tokens",
    ),
    _RequestCheck(
        "prompt",
        lambda row: (_prompt_error(row) or 0) < 0,
        "had a shorter prompt at the engine than was sent (silently cut?)",
        "raise the engine's longest length",
    ),
    _RequestCheck(
        "finish",
        lambda row: row.finish_reason != "length",
        "ended for another reason than their length",
        "make the engine ignore stop conditions",
    ),
    _RequestCheck(
        "stream",
        lambda row: _streamed_tokens(row) not in (None, row.output_tokens),
        "streamed another number of tokens than their usage says",
        "check how engine.py counts the tokens of an event",
    ),
    _RequestCheck(
        "text",
        lambda row: _empty_tail(row) > EMPTY_TAIL,
        "ended in tokens that show nothing (padding counted as output?)",
        "look at `text` in requests.jsonl",
    ),
    _RequestCheck(
        "clock",
        _is_out_of_order,
        "have times that are not in order",
        "measure again; a clock was set or a machine was paused",
    ),
)


def _cache_findings(tally: Tally, finished: int) -> Iterator[Finding]:
    bad, permitted = tally.cached_beyond, tally.cached_permitted
    text, advice = "prompt tokens served from a cache", "turn the prefix cache off in launch.yaml"
    if permitted:
        text = f"more than {permitted} {text}: more than their prompts have in common"
        advice = "look at cached_tokens in requests.jsonl; was a prompt sent twice?"
    if bad:
        text = f"{bad} of {finished} requests had {text}"
        yield Finding("cache", "invalid", text, bad, advice)


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


def warmup_findings(rows: Sequence[Request]) -> Iterator[Finding]:
    """A warm-up that failed has warmed nothing."""
    bad = sum(row.error is not None for row in rows)
    if bad:
        text = f"{bad} of {len(rows)} warm-up requests failed"
        advice = "look at them in requests.jsonl"
        yield Finding("complete", "suspect", text, bad, advice)

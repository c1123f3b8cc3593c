"""From the raw bytes of an exchange to the record of a request."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

from enginebench.base.text import one_line
from enginebench.engines.dialect import Dialect, GenerationRequest, Usage
from enginebench.load.exchange import Exchange, Kind
from enginebench.load.http1 import ProtocolError, ResponseReader
from enginebench.load.sse import events, regular_events

Phase = Literal["warmup", "measured"]
END_OF_STREAM = "[DONE]"  # the OpenAI API ends its streams with it
MOST_TOKENS = 2**31 - 1  # the largest record.schema.Count
_UNKNOWN = "\ufffd"
MOST_CHARS_A_TOKEN, MOST_CHARS = 256, 4096  # of a text, for each token asked for and besides
MOST_TIMES_ASKED, MOST_MORE = 16, 4096  # output tokens that can have been made, alike
ERROR_BODY_LIMIT = 2000  # characters of an error answer that are kept


@dataclass(slots=True)
class RequestRecord:
    """One request as it happened; times are seconds of CLOCK_MONOTONIC."""

    index: int
    phase: Phase
    request_id: str
    prompt_sha256: str
    prompt_tokens_asked: int
    output_tokens_asked: int
    planned_s: float | None = None  # when it was due; None: it was given up before
    sent_s: float | None = None  # right before its last byte was handed to the kernel
    headers_s: float | None = None  # first byte of the answer
    event_s: list[float] = field(default_factory=list)  # arrival of each event with tokens or text
    event_tokens: list[int | None] = field(default_factory=list)  # tokens in each; None: unknown
    event_chars: list[int] = field(default_factory=list)  # characters of text in each
    end_s: float | None = None  # end of the answer
    text: str = ""
    text_tokens: int | None = None  # tokens in the text, by the harness's tokenizer
    prompt_tokens: int | None = None  # this and the next two: the engine's own counts
    output_tokens: int | None = None
    cached_tokens: int | None = None
    finish_reason: str | None = None
    token_ids: list[int] | None = None  # None: not requested, or not given
    margins: list[float | None] | None = None  # of each token over the next best; nats
    status: int | None = None  # HTTP status
    error: str | None = None  # why it does not count; None: it ended as it should
    error_kind: Kind | None = None


@dataclass(frozen=True, slots=True)
class ShortFigures:
    """What a terminal shows of a cell; the report's figures are in ``metrics/latency.py``."""

    requests: int
    failed: int
    output_tokens: int
    window_s: float | None  # first request sent to last token received; None: there is none
    ttft_s_p50: float | None

    @property
    def output_tokens_per_s(self) -> float | None:
        return self.output_tokens / self.window_s if self.window_s else None


def short_figures(records: Sequence[RequestRecord]) -> ShortFigures:
    """The figures that a terminal shows of a cell's measured requests.

    Fast: of each request it reads only the first event with text and the last one.
    """
    sent_s = [record.sent_s for record in records if record.sent_s is not None]
    last_s = [record.event_s[-1] for record in records if record.event_s]
    ttft_s = [
        first_s - record.sent_s
        for record in records
        if record.sent_s is not None and (first_s := _first_text_s(record)) is not None
    ]
    return ShortFigures(
        requests=len(records),
        failed=sum(record.error is not None for record in records),
        output_tokens=sum(record.output_tokens or 0 for record in records),
        window_s=max(last_s) - min(sent_s) if sent_s and last_s else None,
        ttft_s_p50=median(ttft_s) if ttft_s else None,
    )


def _first_text_s(record: RequestRecord) -> float | None:
    times = zip(record.event_s, record.event_chars, strict=True)
    return next((time_s for time_s, chars in times if chars), None)


def read(
    exchange: Exchange,
    dialect: Dialect,
    request: GenerationRequest,
    *,
    phase: Phase,
    request_id: str,
) -> RequestRecord:
    """Parse an exchange. Never raises for what an engine sent: that becomes ``error``."""
    record = RequestRecord(
        index=exchange.index,
        phase=phase,
        request_id=request_id,
        prompt_sha256=request.prompt_sha256,
        prompt_tokens_asked=len(request.prompt_ids),
        output_tokens_asked=request.output_tokens,
        planned_s=exchange.planned_s,
        sent_s=exchange.sent_s,
        headers_s=exchange.arrival_s[0] if exchange.arrival_s else None,
        end_s=exchange.end_s,
        error=exchange.fault,
        error_kind=exchange.kind,
    )
    reader = ResponseReader()
    raw = exchange.raw()
    head_bytes = raw.find(b"\r\n\r\n") + 4
    head_bytes = head_bytes if head_bytes >= 4 else 0  # 0: the head is incomplete
    try:
        reader.feed(raw[:head_bytes])
        timed = _regular(exchange, raw, head_bytes, reader)
        body = [] if timed is not None else list(_body(exchange, raw, head_bytes, reader))
    except ProtocolError as error:
        _fail(record, str(error), "protocol")
        return record
    record.status = reader.status
    if reader.status is not None and reader.status != 200:
        text = b"".join(piece for _, piece in body).decode("utf-8", errors="replace")
        record.error, record.error_kind = f"HTTP {reader.status}: {text[:ERROR_BODY_LIMIT]}", "http"
        return record
    _read_events(record, dialect, events(body) if timed is None else timed)
    if (size := len(record.text)) > MOST_CHARS + MOST_CHARS_A_TOKEN * request.output_tokens:
        asked = request.output_tokens
        _fail(record, f"a text of {size:,} characters for {asked} tokens", "protocol")
    if reader.trailing:
        _fail(record, f"bytes after the end of the answer: {reader.trailing[:80]!r}", "trailing")
    if record.finish_reason is None:
        _fail(record, "the stream ended without a finish reason", "incomplete")
    return record


def _fail(record: RequestRecord, error: str, kind: Kind) -> None:
    """Record why a request does not count; the first reason stays."""
    if record.error is None:
        record.error = _whole(error)[0][:ERROR_BODY_LIMIT]
        record.error_kind = kind


def _regular(
    exchange: Exchange, raw: bytes, head_bytes: int, reader: ResponseReader
) -> list[tuple[float, str]] | None:
    """The events of a complete answer in the form that engines usually send; None for any other.

    The reader has read the head, and reads nothing here.
    """
    if exchange.fault is not None or reader.status != 200 or not reader.is_at_chunk:
        return None
    return regular_events(raw, head_bytes, exchange.arrival_s, exchange.sizes)


def _body(
    exchange: Exchange, raw: bytes, head_bytes: int, reader: ResponseReader
) -> Iterator[tuple[float, bytes]]:
    """The parts of the body, each with the arrival of the piece that it came in."""
    begin = end = 0
    for time_s, size in zip(exchange.arrival_s, exchange.sizes, strict=True):
        begin, end = max(end, head_bytes), end + size
        for part in reader.feed(raw[begin:end]):
            yield time_s, part


def _read_events(
    record: RequestRecord, dialect: Dialect, timed: Iterable[tuple[float, str]]
) -> None:
    # Millions of events go through this loop, so attributes are looked up before it.
    texts: list[str] = []
    ids: list[int] = []
    margins: list[float | None] = []
    event_s, event_tokens, event_chars = record.event_s, record.event_tokens, record.event_chars
    read, total_before = dialect.read, 0
    most = min(MOST_TIMES_ASKED * record.output_tokens_asked + MOST_MORE, MOST_TOKENS)
    is_known = True  # the sizes of all events so far are known
    is_over = False
    half = ""  # the first half of a character, whose second is to come
    for time_s, data in timed:
        if is_over:
            _fail(record, f"an event after the end of the stream: {data[:80]!r}", "trailing")
            break
        is_over = data == END_OF_STREAM
        try:
            delta = read(data)
        except Exception as error:  # an engine.py met something that it did not expect
            reason = _shown(f"{type(error).__name__}: {error}")
            reason = f"an event that cannot be read ({reason}): {data[:80]!r}"
            _fail(record, reason, "protocol")
            break
        text, tokens, usage = delta.text, delta.tokens, delta.usage
        if delta.error is not None:
            _fail(record, f"the engine reported: {delta.error}", "engine")
        total = _note_usage(record, usage, most) if usage is not None else None
        if tokens is not None:
            # One that fixes its own size is not made to fit: the checks compare it with the total.
            if (count := _count(tokens, most)) is None:
                _fail(record, f"an event of {_shown(tokens)} tokens", "protocol")
            tokens, total_before = count, total_before + (count or 0)
        elif total is not None and is_known:
            # A total after events of unknown size says nothing about this event. Never negative:
            # a total that falls makes a sum that is not the last one, which the checks see.
            tokens, total_before = max(total - total_before, 0), total
        if type(text) is not str:
            _fail(record, f"an event whose text is none: {_shown(text)}", "protocol")
            text = ""
        if half or not text.isascii():
            text, half = _whole(half + text)
        if text or tokens:
            event_s.append(time_s)
            event_tokens.append(tokens)
            event_chars.append(len(text))
            texts.append(text)
            is_known = is_known and tokens is not None
        if delta.token_ids:
            ids += _counts(record, delta.token_ids)
        if delta.margins:
            margins += _margins(record, delta.margins)
        if delta.finish_reason:
            record.finish_reason = _reason(record, delta.finish_reason)
    if half and texts:
        texts[-1] += _UNKNOWN
        event_chars[-1] += 1
    record.text, record.token_ids, record.margins = "".join(texts), ids or None, margins or None


def _note_usage(record: RequestRecord, usage: Usage, most: int) -> int | None:
    """Keep the counts of a usage, of output tokens at most so many; the output tokens so far."""
    total = None
    for name in ("output_tokens", "prompt_tokens", "cached_tokens"):
        stated = getattr(usage, name)
        if stated is None:
            continue
        is_output = name == "output_tokens"
        if (count := _count(stated, most if is_output else MOST_TOKENS)) is None:
            reason = f"the engine's usage has {name} = {_shown(stated)}, expected a count"
            _fail(record, reason, "protocol")
            continue
        setattr(record, name, count)
        total = count if is_output else total
    return total


def _counts(record: RequestRecord, stated: tuple[object, ...]) -> list[int]:
    found = [count for item in stated if (count := _count(item)) is not None]
    if len(found) == len(stated):
        return found
    _fail(record, f"token ids that are none: {_shown(stated)}", "protocol")
    return []


def _margins(record: RequestRecord, stated: tuple[float | None, ...]) -> tuple[float | None, ...]:
    if all(m is None or (isinstance(m, int | float) and math.isfinite(m)) for m in stated):
        return stated
    _fail(record, f"log-probabilities that are no numbers: {_shown(stated)}", "protocol")
    return ()


def _reason(record: RequestRecord, stated: object) -> str:
    if isinstance(stated, str):
        return one_line(stated)[:80]
    _fail(record, f"a finish reason that is no text: {_shown(stated)}", "protocol")
    return "unknown"


def _count(value: object, most: int = MOST_TOKENS) -> int | None:
    """A number of tokens, or a token's id, that a record can hold: 4.0 is 4; else None."""
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= most else None


def _whole(text: str) -> tuple[str, str]:
    """A text with the halves of characters joined, and the half that it ends in, if it does.

    JSON of engines that cut a text into UTF-16 units has them as \\ud83d and \\ude00, the second
    in the next event. Half a character without the other is U+FFFD.
    """
    half = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
    units = text[: len(text) - len(half)].encode("utf-16-le", "surrogatepass")
    return units.decode("utf-16-le", "replace"), half


def _shown(value: object) -> str:
    try:
        text = value if isinstance(value, str) else repr(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        text = "a number too long to show"
    return text if len(text) <= 80 else f"{text[:77]}..."

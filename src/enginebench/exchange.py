"""From the kept bytes of an exchange to the record of a request."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from enginebench.dialect import Ask, Dialect, Usage
from enginebench.http1 import ProtocolError, ResponseReader
from enginebench.load import Exchange
from enginebench.sse import events

Phase = Literal["warmup", "measured"]
ERROR_BODY_LIMIT = 2000  # characters of an error answer that are kept


@dataclass(slots=True)
class RequestRecord:
    """One request as it happened; times are seconds of one monotonic clock."""

    index: int
    phase: Phase
    request_id: str
    prompt_sha256: str
    prompt_tokens_asked: int
    output_tokens_asked: int
    planned_s: float | None = None  # when it was due; None: its turn never came
    sent_s: float | None = None  # when it was sent
    headers_s: float | None = None  # first byte of the answer
    event_s: list[float] = field(default_factory=list)  # arrival of each event with tokens or text
    event_tokens: list[int | None] = field(default_factory=list)  # tokens in it; None: not said
    event_chars: list[int] = field(default_factory=list)  # characters of text in it
    end_s: float | None = None  # end of the answer
    text: str = ""
    text_tokens: int | None = None  # tokens of the text by our own tokenizer
    prompt_tokens: int | None = None  # as the engine counts them
    output_tokens: int | None = None
    cached_tokens: int | None = None
    finish_reason: str | None = None
    token_ids: list[int] | None = None  # of the answer; None: not asked for or not given
    margins: list[float | None] | None = None  # of each token over the next best, in nats
    status: int | None = None  # HTTP status
    error: str | None = None  # why this request does not count; None: it ended as it should

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def read(
    exchange: Exchange,
    dialect: Dialect,
    ask: Ask,
    *,
    phase: Phase,
    request_id: str,
) -> RequestRecord:
    """Take an exchange apart. Never raises for what an engine sent: that becomes ``error``."""
    record = RequestRecord(
        index=exchange.index,
        phase=phase,
        request_id=request_id,
        prompt_sha256=ask.prompt_sha256,
        prompt_tokens_asked=len(ask.prompt_ids),
        output_tokens_asked=ask.output_tokens,
        planned_s=exchange.planned_s,
        sent_s=exchange.sent_s,
        headers_s=exchange.pieces[0][0] if exchange.pieces else None,
        end_s=exchange.end_s,
        error=exchange.fault,
    )
    reader = ResponseReader()
    try:
        body = list(_body(exchange, reader))
    except ProtocolError as error:
        record.error = record.error or str(error)
        return record
    record.status = reader.status
    if reader.status is not None and reader.status != 200:
        text = b"".join(piece for _, piece in body).decode("utf-8", errors="replace")
        record.error = f"HTTP {reader.status}: {text[:ERROR_BODY_LIMIT]}"
        return record
    _read_events(record, dialect, body)
    if record.error is None and reader.trailing:
        record.error = f"bytes after the end of the answer: {reader.trailing[:80]!r}"
    if record.error is None and record.finish_reason is None:
        record.error = "the stream ended without a finish reason"
    return record


def _body(exchange: Exchange, reader: ResponseReader) -> Iterator[tuple[float, bytes]]:
    for time_s, data in exchange.pieces:
        for piece in reader.feed(data):
            yield time_s, piece


def _read_events(record: RequestRecord, dialect: Dialect, body: list[tuple[float, bytes]]) -> None:
    texts: list[str] = []
    tokens_so_far = 0
    for time_s, data in events(body):
        delta = dialect.read(data)
        if delta.error is not None:
            record.error = record.error or f"the engine reported: {delta.error}"
        tokens = delta.tokens
        if delta.usage is not None:
            _note_usage(record, delta.usage)
            total = delta.usage.output_tokens
            # A total after events of unknown size says nothing about this event.
            if total is not None and None not in record.event_tokens:
                tokens = total - tokens_so_far
                tokens_so_far = total
        elif tokens is not None:
            tokens_so_far += tokens
        if delta.text or tokens:
            record.event_s.append(time_s)
            record.event_tokens.append(tokens)
            record.event_chars.append(len(delta.text))
            texts.append(delta.text)
        if delta.token_ids:
            record.token_ids = [*(record.token_ids or ()), *delta.token_ids]
        if delta.margins:
            record.margins = [*(record.margins or ()), *delta.margins]
        record.finish_reason = delta.finish_reason or record.finish_reason
    record.text = "".join(texts)


def _note_usage(record: RequestRecord, usage: Usage) -> None:
    if usage.prompt_tokens is not None:
        record.prompt_tokens = usage.prompt_tokens
    if usage.output_tokens is not None:
        record.output_tokens = usage.output_tokens
    if usage.cached_tokens is not None:
        record.cached_tokens = usage.cached_tokens

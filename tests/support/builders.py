"""The values that several tests build: request rows, exchanges, samples, model configs."""

from array import array
from collections.abc import Iterable, Sequence
from typing import Any

from enginebench.check import request_checks
from enginebench.check.findings import Finding
from enginebench.engines.dialect import Dialect, GenerationRequest
from enginebench.load import request_record
from enginebench.load.exchange import Exchange
from enginebench.load.request_record import RequestRecord
from enginebench.record import reading
from enginebench.record.schema import Launch, Model, Request
from enginebench.record.schema_samples import GpuSample

GIB = 1 << 30

#: config.json of two published models, the fields that decide sizes.
LLAMA_2_7B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "intermediate_size": 11008,
    "vocab_size": 32000,
}
LLAMA_3_8B = LLAMA_2_7B | {
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
}


def request(**changes):
    """A line of requests.jsonl of a request that was never sent."""
    empty = {
        "index": 0,
        "phase": "measured",
        "request_id": "0",
        "prompt_sha256": "0",
        "prompt_tokens_asked": 0,
        "output_tokens_asked": 0,
        "planned_s": None,
        "sent_s": None,
        "headers_s": None,
        "event_s": [],
        "event_tokens": [],
        "event_chars": [],
        "end_s": None,
        "text": "",
        "prompt_tokens": None,
        "output_tokens": None,
        "finish_reason": None,
        "status": None,
        "error": None,
    }
    return Request(**(empty | changes))


def gpu_sample(**changes):
    """A line of gpus.jsonl.gz."""
    return GpuSample(**({"t_s": 0.0, "index": 0} | changes))


def launch(**changes):
    """A launch.json of an engine that was given nothing."""
    empty = {"engine": "a", "variant": "b", "trial": 1, "settings": {}, "command": [], "env": {}}
    return Launch(**(empty | changes))


def model(config, **changes):
    """What study.json says of a model."""
    known = {"name": "m", "sha256": "0", "hashed": "every file", "has_random_weights": False}
    return Model(**(known | {"config": config} | changes))


def rows_of(path):
    """The rows of a JSON-lines file of a record as plain data."""
    return list(reading.read_rows(path, Any))


def request_row(index: int = 0, **changes: Any) -> Request:
    """A good request: planned at 9 s, sent at 10; 4 tokens at 11, 12 and 16, the last two in one
    event.
    """
    good = {
        "index": index,
        "planned_s": 9.0,
        "sent_s": 10.0,
        "headers_s": 11.0,
        "event_s": [11.0, 12.0, 16.0],
        "event_tokens": [1, 1, 2],
        "event_chars": [3, 2, 7],
        "end_s": 16.5,
        "text": f"answer {index}",
        "text_tokens": 4,
        "prompt_sha256": f"sha{index}",
        "prompt_tokens_asked": 100,
        "prompt_tokens": 100,
        "output_tokens_asked": 4,
        "output_tokens": 4,
        "cached_tokens": None,
        "finish_reason": "length",
        "error": None,
    }
    return request(**(good | changes))


def findings_of(rows: Iterable[Request], asked: int, cached_permitted: int = 0) -> list[Finding]:
    """What a cell's measured requests say by themselves, of so many that were planned."""
    tally = request_checks.Tally(cached_permitted)
    for row in rows:
        tally.add(row)
    return list(request_checks.tally_findings(tally, asked))


def kv_row(event_s: list[float], event_tokens: list[int | None], prompt: int = 10) -> Request:
    """What a request's share of the KV cache follows from."""
    return request(
        event_s=event_s,
        event_tokens=event_tokens,
        event_chars=[1] * len(event_s),
        prompt_tokens_asked=prompt,
        output_tokens_asked=4,
    )


def record_of(
    pieces: Sequence[bytes],
    dialect: Dialect,
    ask: GenerationRequest,
    fault: str | None = None,
    kind: str | None = None,
    end_s: float = 9.0,
) -> RequestRecord:
    """The record of request 7, planned at 0.25 s and sent at 0.5, whose answer came in these
    pieces at 1, 2, 3 ... s.
    """
    exchange = Exchange(7, planned_s=0.25, sent_s=0.5, end_s=end_s, fault=fault, kind=kind)
    exchange.arrival_s = array("d", range(1, len(pieces) + 1))
    exchange.sizes = array("I", map(len, pieces))
    exchange.kept = b"".join(pieces)
    return request_record.read(exchange, dialect, ask, phase="measured", request_id="r7")


def gpu_row(
    t_s: float,
    index: int = 0,
    used: float | None = 1,
    power: float | None = 100.0,
    load: float | None = 0.5,
    reasons: Sequence[str] | None = (),
    pids: Sequence[int] = (),
    error: str | None = None,
) -> GpuSample:
    """One sample of one GPU; ``used`` in GiB, and each process has 1 GiB."""
    return gpu_sample(
        t_s=t_s,
        index=index,
        memory_used_bytes=None if used is None else used * GIB,
        power_w=power,
        utilisation=load,
        throttle_reasons=None if reasons is None else list(reasons),
        processes={str(pid): GIB for pid in pids},
        error=error,
    )

"""What the hardware allows: lower bounds on time from a model's shape and a device's ceilings.

Every bound is generous: it counts only what no engine can avoid (each decoding step reads once the
weights that it needs and each sequence's keys and values; each token costs two FLOPs a weight), at
the full rate of the data sheet. A figure that beats it is wrong. Roofline model: Williams, Waterman
and Patterson, 2009; decode is bound by memory, prefill by arithmetic.

Speculative decoding gets several tokens of a sequence from one reading of the weights: pass how
many at most as ``tokens_per_read`` (``math.inf`` where that is not known). Pure.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from enginebench.hardware.model_config import shape
from enginebench.hardware.model_shape import ModelShape, UnknownShape

__all__ = [
    "DTYPE_BYTES", "Ceiling", "Dtypes", "ModelShape", "UnknownShape", "batch_s", "cell_s",
    "decode_step_s", "dtype_name", "prefill_s", "request_s", "shape",
]  # fmt: skip

DTYPE_BYTES = {
    "float32": 4.0, "bfloat16": 2.0, "float16": 2.0,
    "fp8": 1.0, "int8": 1.0, "int4": 0.5, "fp4": 0.5,
}  # fmt: skip
DTYPE_ALIASES = {
    "fp32": "float32", "tf32": "float32", "bf16": "bfloat16", "fp16": "float16", "half": "float16",
    "float8": "fp8", "e4m3": "fp8", "e5m2": "fp8", "fp8_e4m3": "fp8", "fp8_e5m2": "fp8",
    "w8a8": "int8", "w8a16": "int8", "awq": "int4", "w4a16": "int4", "4bit": "int4", "8bit": "int8",
    "nvfp4": "fp4", "mxfp4": "fp4", "float4": "fp4",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Dtypes:
    """Names of ``DTYPE_BYTES``."""

    weights: str  # of the weights that the checkpoint does not quantize, and of the products
    kv: str  # of keys and values

    @property
    def weight_bytes(self) -> float:
        return DTYPE_BYTES[self.weights]

    @property
    def kv_bytes(self) -> float:
        return DTYPE_BYTES[self.kv]


def run_dtypes(model: ModelShape, dtype: str, kv_dtype: str | None = None) -> Dtypes:
    """The dtypes of a run: keys and values are as stated, as the checkpoint sets them, or as the
    activations."""
    of_checkpoint = model.quantization.kv_dtype if model.quantization else None
    return Dtypes(dtype, kv_dtype or of_checkpoint or dtype)


@dataclass(frozen=True, slots=True)
class Ceiling:
    """What a device can do at most."""

    name: str
    bandwidth_bytes_per_s: float
    flops_per_s: Mapping[str, float]  # by dtype; a dtype that is not there has no bound
    source: str

    def times(self, count: int) -> "Ceiling":
        """Several devices at once, as if sharing the work cost nothing."""
        flops = {dtype: rate * count for dtype, rate in self.flops_per_s.items()}
        return Ceiling(self.name, self.bandwidth_bytes_per_s * count, flops, self.source)


def dtype_name(name: str) -> str | None:
    """Our name of a dtype or precision, however it is written; None if it is none of ours."""
    key = name.strip().lower().removeprefix("torch.")
    key = DTYPE_ALIASES.get(key, key)
    return key if key in DTYPE_BYTES else None


@dataclass(frozen=True, slots=True)
class Work:
    """The least that one pass of the model does: its arithmetic, and the bytes that it reads."""

    flops: float
    bytes: float

    @property
    def intensity(self) -> float:
        """FLOP/byte: what decides whether arithmetic or memory bounds the pass."""
        return self.flops / self.bytes


def prefill_work(model: ModelShape, dtypes: Dtypes, tokens: int) -> Work:
    """Of reading a prompt: the products of all its tokens, and one read of the weights."""
    return Work(_flops(model, tokens, projected=1), model.read_bytes(dtypes.weight_bytes))


def decode_step_work(model: ModelShape, dtypes: Dtypes, contexts: Sequence[int]) -> Work:
    """Of a step that extends sequences of these lengths by a token each: the weights are read
    once, and the keys and values of every sequence."""
    kept = sum(model.kv_read_bytes(length, length + 1, dtypes.kv_bytes) for length in contexts)
    flops = _flops(model, len(contexts), projected=len(contexts))
    return Work(flops, model.read_bytes(dtypes.weight_bytes) + kept)


def decode_step_s(
    model: ModelShape, ceiling: Ceiling, dtypes: Dtypes, contexts: Sequence[int]
) -> float:
    """Least time of one decoding step that extends sequences of these lengths by a token each.

    Raises:
        UnknownShape: the bytes of the weights are not known; every function here does.
    """
    return _least_s(model, ceiling, dtypes, decode_step_work(model, dtypes, contexts))


def prefill_s(model: ModelShape, ceiling: Ceiling, dtypes: Dtypes, tokens: int) -> float:
    """Least time until the first token of a prompt: its arithmetic, or one read of the weights."""
    return _least_s(model, ceiling, dtypes, prefill_work(model, dtypes, tokens))


def _least_s(model: ModelShape, ceiling: Ceiling, dtypes: Dtypes, work: Work) -> float:
    by_arithmetic = work.flops / peak_flops_per_s(model, ceiling, dtypes)
    return max(work.bytes / ceiling.bandwidth_bytes_per_s, by_arithmetic)


def request_s(
    model: ModelShape,
    ceiling: Ceiling,
    dtypes: Dtypes,
    prompt: int,
    output: int,
    tokens_per_read: float = 1,
    cached: int = 0,
) -> float:
    """Least time of one request from start to last token: its prefill, then output - 1 steps.

    These follow one another, so their times add, whatever else runs at the same time.

    Args:
        cached: tokens of the prompt that a prefix cache may have given: they are not computed,
            and still read in every step.
    """
    steps = output - 1
    prefill = prefill_s(model, ceiling, dtypes, uncached(prompt, cached))
    if not steps:
        return prefill
    # Step k moves prompt + k tokens of the cache: it reads those before its own, and writes that.
    # The mean step, in whole tokens: rounded down.
    moved = sum(
        cache.read_tokens(prompt + 1, prompt + output) // steps * cache.values_per_token()
        for cache in model.caches
    )
    bytes_moved = model.read_bytes(dtypes.weight_bytes) + moved * dtypes.kv_bytes
    by_memory = bytes_moved / ceiling.bandwidth_bytes_per_s / tokens_per_read
    step_s = max(by_memory, _flops_s(model, ceiling, dtypes, 1, projected=1))
    return prefill + steps * step_s


def uncached(prompt: int, cached: int) -> int:
    """Tokens of a prompt that are computed: at least the last, which the first output needs."""
    return max(prompt - cached, 1)


def batch_s(
    model: ModelShape,
    ceiling: Ceiling,
    dtypes: Dtypes,
    batch: int,
    prompt: int,
    output: int,
    tokens_per_read: float = 1,
) -> float:
    """Least time of one batch from start to last token.

    Prefill and decode of different requests may overlap (chunked prefill), so the batch is bound
    by its memory traffic or its arithmetic, whichever takes longer; and by any one request alone.
    """
    requests = {(prompt, output): batch}
    return max(
        cell_s(model, ceiling, dtypes, requests, batch, tokens_per_read),
        request_s(model, ceiling, dtypes, prompt, output, tokens_per_read),
    )


def cell_s(
    model: ModelShape,
    ceiling: Ceiling,
    dtypes: Dtypes,
    requests: Mapping[tuple[int, int], int],
    concurrency: int,
    tokens_per_read: float = 1,
    cached: int = 0,
) -> float:
    """Least time for a cell: all requests, at most ``concurrency`` of them at once.

    Memory: at most ``concurrency`` tokens come of one reading of the weights, and each token reads
    its own context. Arithmetic: every prompt and output token. Whichever takes longer.

    Args:
        requests: (prompt, output tokens) -> how many requests.
        cached: tokens of each prompt that a prefix cache may have given: they are not computed, and
            one reading may serve all requests of a step.
    """
    decoded = sum(count * (output - 1) for (_, output), count in requests.items())
    # Whole steps; with speculation a bound need not be that exact.
    per_read = concurrency * tokens_per_read
    steps = -(-decoded // concurrency) if tokens_per_read == 1 else decoded / per_read
    cached_bytes = cached * model.kv_bytes_per_token(dtypes.kv_bytes)
    contexts = sum(
        count
        * max(
            model.kv_read_bytes(prompt, prompt + output - 1, dtypes.kv_bytes)
            - (output - 1) * cached_bytes,
            0.0,
        )
        for (prompt, output), count in requests.items()
    )
    bytes_read = steps * model.read_bytes(dtypes.weight_bytes) + contexts / tokens_per_read
    processed = decoded + sum(count * uncached(p, cached) for (p, _), count in requests.items())
    projected = decoded + sum(requests.values())
    by_memory = bytes_read / ceiling.bandwidth_bytes_per_s
    return max(by_memory, _flops_s(model, ceiling, dtypes, processed, projected))


def _flops_s(
    model: ModelShape, ceiling: Ceiling, dtypes: Dtypes, tokens: int, projected: int
) -> float:
    """Least time of the products of so many tokens."""
    return _flops(model, tokens, projected) / peak_flops_per_s(model, ceiling, dtypes)


def _flops(model: ModelShape, tokens: int, projected: int) -> int:
    """FLOPs of the products of so many tokens, of which some go through the last matrix."""
    return tokens * model.flops_per_token - (tokens - projected) * model.head_flops


def peak_flops_per_s(model: ModelShape, ceiling: Ceiling, dtypes: Dtypes) -> float:
    """The fastest arithmetic that an engine may use; ``math.inf`` where its rate is not known."""
    kinds = {dtypes.weights}
    if model.quantization is not None and model.quantization.compute is not None:
        kinds.add(model.quantization.compute)
    # The engine may use the fastest of these; where one has no known rate, nothing bounds it.
    return max(ceiling.flops_per_s.get(kind) or math.inf for kind in kinds)


def higher(a: Ceiling, b: Ceiling | None) -> Ceiling:
    """The higher of two measurements of one machine, figure by figure."""
    if b is None:
        return a
    flops = {name: max(rate, b.flops_per_s.get(name, 0.0)) for name, rate in a.flops_per_s.items()}
    bandwidth = max(a.bandwidth_bytes_per_s, b.bandwidth_bytes_per_s)
    return Ceiling(a.name, bandwidth, flops, a.source)

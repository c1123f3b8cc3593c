"""What the hardware allows: lower bounds on time from a model's shape and a device's ceilings.

Every bound is generous: it counts only what no engine can avoid (each decoding step reads the
weights once and each sequence's keys and values once; each token costs two FLOPs a weight), at the
full rate of the data sheet. A figure that beats it is wrong. Roofline model: Williams, Waterman and
Patterson, 2009; decode is bound by memory, prefill by arithmetic. Pure.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DTYPE_BYTES = {
    "float32": 4.0, "bfloat16": 2.0, "float16": 2.0,
    "fp8": 1.0, "int8": 1.0, "int4": 0.5, "fp4": 0.5,
}  # fmt: skip
DTYPE_ALIASES = {
    "fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "half": "float16",
    "float8": "fp8", "w8a8": "int8", "awq": "int4", "gptq": "int4", "w4a16": "int4",
}  # fmt: skip


class UnknownShape(ValueError):
    """The model's architecture is one whose bounds are not worked out here; says which."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a decoder-only transformer that its bounds depend on."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    intermediate: int
    vocabulary: int
    experts_per_token: int = 1  # of a mixture; the fewest that one step must read
    experts: int = 1  # of a mixture, all of them
    is_tied: bool = False  # the embedding table serves as the output projection too
    window: int | None = None  # sliding attention window, in tokens

    @property
    def weights_read(self) -> int:
        """Weights that every decoding step must read: attention, MLP and the output projection.

        The embedding table is left out (a step reads a row of it), norms and biases too.
        """
        attention = self.hidden * self.head_size * (2 * self.heads + 2 * self.kv_heads)
        mlp = 3 * self.hidden * self.intermediate * self.experts_per_token
        return self.layers * (attention + mlp) + self.vocabulary * self.hidden

    @property
    def weights(self) -> int:
        """All weights of a Llama-like model with its norms; biases and routers are left out.

        Llama-2-7B: 6,738,415,616; Llama-3-8B: 8,030,261,248.
        """
        attention = self.hidden * self.head_size * (2 * self.heads + 2 * self.kv_heads)
        mlp = 3 * self.hidden * self.intermediate * self.experts
        tables = (1 if self.is_tied else 2) * self.vocabulary * self.hidden
        return self.layers * (attention + mlp + 2 * self.hidden) + tables + self.hidden

    def kv_bytes_per_token(self, dtype_bytes: float) -> float:
        """Bytes of keys and values that one token adds: 2 · layers · KV heads · head size · dtype.

        Llama-2-7B in float16: 524,288; Llama-3-8B (grouped-query attention): 131,072.
        """
        return 2 * self.layers * self.kv_heads * self.head_size * dtype_bytes

    @property
    def flops_per_token(self) -> int:
        """FLOPs that one token costs at least: two a weight; attention itself is left out."""
        return 2 * self.weights_read


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


def shape(config: Mapping[str, Any]) -> Shape:
    """The shape in a Hugging Face ``config.json``.

    Raises:
        UnknownShape: multi-head latent attention, or sizes that are not stated.
    """
    if config.get("kv_lora_rank"):
        raise UnknownShape("multi-head latent attention is not worked out here")
    try:
        hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        is_mixture = config.get("num_local_experts") or config.get("num_experts")
        window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
        return Shape(
            layers=int(config["num_hidden_layers"]),
            hidden=hidden,
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_size=int(config.get("head_dim") or hidden // heads),
            intermediate=int(config["intermediate_size"]),
            vocabulary=int(config["vocab_size"]),
            experts_per_token=int(config["num_experts_per_tok"]) if is_mixture else 1,
            experts=int(is_mixture) if is_mixture else 1,
            is_tied=bool(config.get("tie_word_embeddings", False)),
            window=int(window) if window else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UnknownShape(f"config.json does not state {error}") from None


def dtype_name(name: str) -> str | None:
    """Our name of a dtype or precision, however it is written; None if it is none of ours."""
    key = name.strip().lower().removeprefix("torch.")
    key = DTYPE_ALIASES.get(key, key)
    return key if key in DTYPE_BYTES else None


def decode_step_s(model: Shape, ceiling: Ceiling, dtype: str, contexts: Sequence[int]) -> float:
    """Least time of one decoding step that extends sequences of these lengths by a token each."""
    size = DTYPE_BYTES[dtype]
    kept = (min(length, model.window) if model.window else length for length in contexts)
    bytes_read = model.weights_read * size + sum(kept) * model.kv_bytes_per_token(size)
    by_memory = bytes_read / ceiling.bandwidth_bytes_per_s
    return max(by_memory, _flops_s(model, ceiling, dtype, len(contexts)))


def prefill_s(model: Shape, ceiling: Ceiling, dtype: str, tokens: int) -> float:
    """Least time until the first token of a prompt: its arithmetic, or one read of the weights."""
    # The output projection is needed for the last position only.
    unprojected = (tokens - 1) * 2 * model.vocabulary * model.hidden
    peak = ceiling.flops_per_s.get(dtype)
    by_flops = (tokens * model.flops_per_token - unprojected) / peak if peak else 0.0
    return max(by_flops, model.weights_read * DTYPE_BYTES[dtype] / ceiling.bandwidth_bytes_per_s)


def batch_s(
    model: Shape, ceiling: Ceiling, dtype: str, batch: int, prompt: int, output: int
) -> float:
    """Least time of one batch from start to last token: its prefill and output - 1 steps."""
    prefill = prefill_s(model, ceiling, dtype, prompt)
    by_flops = _flops_s(model, ceiling, dtype, batch * prompt, projected=batch)
    # The sum over steps of the context lengths is arithmetic: take one step at the mean length.
    steps = output - 1
    mean = prompt + output / 2
    step = decode_step_s(model, ceiling, dtype, [math.floor(mean)] * batch) if steps else 0.0
    return max(prefill, by_flops) + steps * step


def cell_s(
    model: Shape,
    ceiling: Ceiling,
    dtype: str,
    requests: Mapping[tuple[int, int], int],
    concurrency: int,
) -> float:
    """Least time for a cell: all requests, at most ``concurrency`` of them at once.

    Memory: at most ``concurrency`` tokens come of one reading of the weights, and each token reads
    its own context. Arithmetic: every prompt and output token. Whichever takes longer.

    Args:
        requests: (prompt, output tokens) -> how many requests.
    """
    size = DTYPE_BYTES[dtype]
    decoded = sum(count * (output - 1) for (_, output), count in requests.items())
    steps = math.ceil(decoded / concurrency)
    contexts = sum(
        count * _context_tokens(prompt, output, model.window)
        for (prompt, output), count in requests.items()
    )
    bytes_read = steps * model.weights_read * size + contexts * model.kv_bytes_per_token(size)
    processed = sum(count * (prompt + output - 1) for (prompt, output), count in requests.items())
    projected = decoded + sum(requests.values())
    return max(
        bytes_read / ceiling.bandwidth_bytes_per_s,
        _flops_s(model, ceiling, dtype, processed, projected=projected),
    )


def _context_tokens(prompt: int, output: int, window: int | None) -> int:
    """Cached tokens read over a whole generation: step k reads prompt + k of them."""
    lengths = range(prompt, prompt + output - 1)
    return sum(min(length, window) if window else length for length in lengths)


def _flops_s(
    model: Shape, ceiling: Ceiling, dtype: str, tokens: int, projected: int | None = None
) -> float:
    peak = ceiling.flops_per_s.get(dtype)
    if not peak:
        return 0.0
    spared = 0 if projected is None else tokens - projected
    flops = tokens * model.flops_per_token - spared * 2 * model.vocabulary * model.hidden
    return flops / peak


def higher(a: Ceiling, b: Ceiling | None) -> Ceiling:
    """The higher of two measurements of one machine, figure by figure."""
    if b is None:
        return a
    flops = {name: max(rate, b.flops_per_s.get(name, 0.0)) for name, rate in a.flops_per_s.items()}
    bandwidth = max(a.bandwidth_bytes_per_s, b.bandwidth_bytes_per_s)
    return Ceiling(a.name, bandwidth, flops, a.source)

"""What a language model's speed and memory depend on: its weights and its caches, part by part.

A shape is read from a config.json by ``model_config.shape``. Figures that bound a measurement count
the least that any correct execution must do; figures of capacity count everything. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Literal

Part = Literal["embedding", "head", "attention", "mlp", "router", "experts", "vectors"]
MATRICES: tuple[Part, ...] = ("attention", "mlp", "router", "experts", "head")


class UnknownShape(ValueError):
    """The model's form is not one that is worked out here; the message says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One decoder layer, in weights. A layer without a cache has no KV heads."""

    attention: int = 0  # in the matrices that mix tokens: attention, or a state space's projections
    mlp: int = 0  # in the matrices that every token passes: a dense MLP, shared experts
    router: int = 0
    experts: int = 0  # routed ones
    expert: int = 0  # weights of one of them
    experts_per_token: int = 0
    vectors: int = 0  # norms, biases, convolutions: read too, but in no bound and never quantized
    kv_heads: int = 0  # a latent cache is one head
    kv_head_values: int = 0  # that one token adds to one head, keys and values together
    window: int | None = None  # tokens that sliding attention sees, the current one included
    chunk: int | None = None  # chunked attention sees the current chunk of so many tokens
    state_values: int = (
        0  # of constant size, kept for each sequence (state space, linear attention)
    )


@dataclass(frozen=True, slots=True)
class Cache:
    """The keys and values of all layers that cache alike."""

    layers: int
    heads: int
    head_values: int
    window: int | None
    chunk: int | None

    def values_per_token(self, shards: int = 1) -> int:
        """Values of one token on one of ``shards`` tensor-parallel devices: heads are copied
        where there are more devices than heads."""
        return self.layers * -(-self.heads // shards) * self.head_values

    def kept_tokens(self, context: int) -> int:
        """Tokens that the cache of one sequence has to keep."""
        return min(context, self.window or self.chunk or context)

    def read_tokens(self, start: int, stop: int) -> int:
        """Tokens read at least over decoding steps with start, start + 1, ... stop - 1 cached."""
        return self._read_below(stop) - self._read_below(start)

    def _read_below(self, stop: int) -> int:
        if self.chunk is not None:
            whole, rest = divmod(stop, self.chunk)
            return whole * _triangle(self.chunk) + _triangle(rest)
        limit = stop if self.window is None else min(stop, self.window)
        return _triangle(limit) + (stop - limit) * limit


def _triangle(n: int) -> int:
    return n * (n - 1) // 2  # 0 + 1 + ... + (n - 1)


@dataclass(frozen=True, slots=True)
class Quantization:
    """How a checkpoint stores the weights that it quantizes."""

    method: str
    bits: Mapping[Part, float] = field(default_factory=lambda: MappingProxyType({}))
    """Bits a weight with its share of the scales, by part; a part that is not there is not
    quantized."""
    compute: str | None = None  # dtype of the products where activations are quantized as well
    kv_dtype: str | None = None  # of keys and values, where the checkpoint sets it
    unknown: str | None = None  # why its bytes are not known; then ``bits`` means nothing


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """A decoder-only language model."""

    model_type: str
    hidden: int
    vocabulary: int
    layers: tuple[Layer, ...]
    is_tied: bool  # the embedding table serves as the output projection too
    vectors: int = 0  # outside of the layers: last norm, learned positions, the head's bias
    quantization: Quantization | None = None
    left_out: tuple[str, ...] = ()  # parts of the model that no figure here counts, in words
    is_latent: bool = False  # its cache is one latent vector a token and layer

    @cached_property
    def parts(self) -> Mapping[Part, int]:
        """All weights by part. A tied table is an embedding, not a head."""
        table = self.vocabulary * self.hidden
        return {
            "embedding": table,
            "head": 0 if self.is_tied else table,
            "attention": sum(layer.attention for layer in self.layers),
            "mlp": sum(layer.mlp for layer in self.layers),
            "router": sum(layer.router for layer in self.layers),
            "experts": sum(layer.experts * layer.expert for layer in self.layers),
            "vectors": self.vectors + sum(layer.vectors for layer in self.layers),
        }

    @property
    def weights(self) -> int:
        """All parameters."""
        return sum(self.parts.values())

    @cached_property
    def read_parts(self) -> Mapping[Part, int]:
        """Weights that one decoding step reads at least, by part.

        However many sequences a step extends, they may all choose the same experts. The output
        projection is read whole; of the embedding table a step reads rows, which are left out like
        norms and biases.
        """
        chosen = sum(layer.experts_per_token * layer.expert for layer in self.layers)
        return {
            "attention": self.parts["attention"],
            "mlp": self.parts["mlp"],
            "router": self.parts["router"],
            "experts": chosen,
            "head": self.vocabulary * self.hidden,
        }

    @property
    def weights_read(self) -> int:
        """Weights that one decoding step reads at least, whatever its batch."""
        return sum(self.read_parts.values())

    def expected_weights_read(self, batch: int) -> float:
        """Weights that a step reads if every token chooses its experts evenly at random.

        An estimate, not a bound: real routers are uneven. An expert stays unread with
        (1 - k/n)^batch.
        """
        chosen = sum(
            layer.experts
            * layer.expert
            * (1 - (1 - layer.experts_per_token / layer.experts) ** batch)
            for layer in self.layers
            if layer.experts
        )
        return self.weights_read - self.read_parts["experts"] + chosen

    @property
    def flops_per_token(self) -> int:
        """FLOPs that one token costs at least: two for each weight of a matrix that it passes.

        The products of queries with keys and values are left out, and so are state updates.
        """
        return 2 * self.weights_read

    @property
    def head_flops(self) -> int:
        """FLOPs of the output projection, which a prompt needs for its last position only."""
        return 2 * self.vocabulary * self.hidden

    def weights_bytes(self, dtype_bytes: float) -> float:
        """Bytes of all weights, of which those not quantized take ``dtype_bytes`` each.

        Raises:
            UnknownShape: quantized in a way that is not worked out here.
        """
        return self._bytes(self.parts, dtype_bytes)

    def read_bytes(self, dtype_bytes: float) -> float:
        """Bytes of weights that one decoding step reads at least.

        Raises:
            UnknownShape: as ``weights_bytes``.
        """
        return self._bytes(self.read_parts, dtype_bytes)

    def _bytes(self, counts: Mapping[Part, int], dtype_bytes: float) -> float:
        bits: Mapping[Part, float] = {}
        if self.quantization is not None:
            if self.quantization.unknown is not None:
                raise UnknownShape(self.quantization.unknown)
            bits = self.quantization.bits
        return sum(count * bits.get(part, dtype_bytes * 8) / 8 for part, count in counts.items())

    @cached_property
    def caches(self) -> tuple[Cache, ...]:
        """Layers with keys and values, those alike together."""
        kinds: dict[tuple[int, int, int | None, int | None], int] = {}
        for layer in self.layers:
            if layer.kv_heads:
                kind = (layer.kv_heads, layer.kv_head_values, layer.window, layer.chunk)
                kinds[kind] = kinds.get(kind, 0) + 1
        return tuple(Cache(layers, *kind) for kind, layers in kinds.items())

    @property
    def window(self) -> int | None:
        """The shortest stretch of tokens that some layers keep; None: all keep everything."""
        spans = [cache.window or cache.chunk for cache in self.caches]
        return min((span for span in spans if span is not None), default=None)

    def kv_bytes_per_token(self, dtype_bytes: float, shards: int = 1) -> float:
        """Bytes of keys and values that one token adds while every layer still keeps it.

        Llama-2-7B in float16: 2 · 32 layers · 32 heads · 128 · 2 bytes = 524,288.
        """
        return sum(cache.values_per_token(shards) for cache in self.caches) * dtype_bytes

    def kv_bytes(self, context: int, dtype_bytes: float, shards: int = 1, block: int = 1) -> float:
        """Bytes of keys and values that a request of this many tokens keeps, in whole blocks."""
        return dtype_bytes * sum(
            -(-cache.kept_tokens(context) // block) * block * cache.values_per_token(shards)
            for cache in self.caches
        )

    @property
    def state_values(self) -> int:
        """Values of constant size that each sequence keeps beside its keys and values."""
        return sum(layer.state_values for layer in self.layers)

    def state_bytes(self, dtype_bytes: float, shards: int = 1) -> float:
        """Bytes of state that each sequence keeps on one of ``shards`` devices."""
        return self.state_values * dtype_bytes / shards

    def kv_read_bytes(self, start: int, stop: int, dtype_bytes: float) -> float:
        """Bytes of keys and values that one sequence's decoding steps read at least.

        Args:
            start, stop: tokens cached before the first step, and before the one after the last.
        """
        return dtype_bytes * sum(
            cache.read_tokens(start, stop) * cache.values_per_token() for cache in self.caches
        )

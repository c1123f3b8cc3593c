"""Transformer decoders, dense or with experts: which config keys make which weights.

Each form was compared, parameter for parameter, with the class of that model type in
huggingface/transformers 5.19 (src/transformers/models/<model type>/modeling_<model type>.py),
built without memory from a small config.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from enginebench.hardware.config_reader import ConfigReader
from enginebench.hardware.model_shape import Layer, UnknownShape

#: A bias: always there, or where this key says so, with its default.
Flag = bool | tuple[str, bool]
WindowRule = Literal["none", "all", "after", "after_max", "unused", "pattern", "chunks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """A mixture of experts in place of the MLP."""

    counts: tuple[str, ...]
    sizes: tuple[str, ...]
    chosen: tuple[str, ...] = ("num_experts_per_tok",)
    sparse: Literal["all", "step", "first", "interleave", "range"] = "all"  # layers that have it
    shared: tuple[str, ...] = ()  # width of an MLP that every token passes beside its experts
    shared_count: tuple[str, ...] = ()  # that many experts are shared
    has_shared_gate: bool = False
    has_shared_of_same_size: bool = False
    bias: bool = False  # of experts and router
    correction: int = 0  # values of the router's correction bias: one an expert, or none


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a decoder of one model type differs from Llama, whose values are the defaults."""

    gated: bool = True  # an MLP of three matrices; else of two
    inner: tuple[str, ...] = ("intermediate_size",)
    inner_times: int | None = None  # width of the MLP in hidden sizes where no key states it
    norms: int = 2  # of the hidden size, in a layer
    norm_width: int = 1  # vectors of a norm: 0 without weights, 2 with a bias
    qk_norm: Literal["", "head", "heads", "full"] = ""
    qk_norm_flag: Flag = True
    qkv_bias: Flag = False
    output_bias: Flag = False
    mlp_bias: Flag = False
    head_bias: Flag = False
    is_gated_attention: bool = False  # the query projection makes a gate as well
    has_sinks: bool = False
    tied: bool = False  # where the config says nothing
    window: WindowRule = "none"
    window_period: int = 0  # every so many layers one is full; 0: no pattern of its own
    positions: tuple[str, int] | None = None  # key of a learned table's rows, and rows beside those
    has_embedding_norm: bool = False
    is_latent: bool = False  # multi-head latent attention
    experts: Experts | None = None
    defaults: Mapping[str, int | str] | None = None  # of the model type, where a config is silent


def flag(config: ConfigReader, rule: Flag) -> bool:
    """Whether there is this bias or norm."""
    return rule if isinstance(rule, bool) else config.flag(*rule)


@dataclass(frozen=True, slots=True)
class Heads:
    """Sizes of grouped-query attention."""

    queries: int
    kept: int
    size: int


def heads(config: ConfigReader, hidden: int) -> Heads:
    """Query heads, KV heads and their size."""
    queries = config.size("num_attention_heads", "n_head", "num_heads")
    kept = config.optional("num_key_value_heads", "num_kv_heads") or queries
    size = config.optional("head_dim", "attention_head_dim")
    if size is None:
        if hidden % queries:
            raise UnknownShape(f"config.json: {hidden} is not divided by {queries} heads")
        size = hidden // queries
    if kept > queries:
        raise UnknownShape(f"config.json: {kept} KV heads of {queries} heads")
    return Heads(queries, kept, size)


def attention(config: ConfigReader, form: Form, hidden: int, sizes: Heads) -> tuple[int, int]:
    """Weights of grouped-query attention: in matrices, and in biases and norms."""
    queries, keys = sizes.queries * sizes.size, sizes.kept * sizes.size
    matrices = hidden * (2 * queries + 2 * keys)
    if form.is_gated_attention:
        matrices += hidden * queries
    vectors = (queries + 2 * keys) * flag(config, form.qkv_bias)
    vectors += hidden * flag(config, form.output_bias)
    if form.qk_norm and flag(config, form.qk_norm_flag):
        norms = {"head": 2 * sizes.size, "heads": queries + keys, "full": queries + keys}
        vectors += norms[form.qk_norm]
    return matrices, vectors + sizes.queries * form.has_sinks


def mlp(hidden: int, inner: int, gated: bool) -> int:
    """Weights in an MLP's matrices."""
    return (3 if gated else 2) * hidden * inner


def mlp_biases(hidden: int, inner: int, gated: bool) -> int:
    """Weights in an MLP's biases."""
    return (2 if gated else 1) * inner + hidden


def inner_size(config: ConfigReader, form: Form, hidden: int) -> int:
    """Width of a dense MLP."""
    if form.inner_times is None:
        return config.size(*form.inner)
    return config.optional(*form.inner) or form.inner_times * hidden


def expert_layer(config: ConfigReader, rule: Experts, hidden: int, gated: bool) -> Layer:
    """The MLP part of a layer with experts."""
    count, size = config.size(*rule.counts), config.size(*rule.sizes)
    chosen = config.size(*rule.chosen)
    if chosen > count:
        raise UnknownShape(f"config.json: {chosen} experts a token of {count} experts")
    shared = size * config.count(*rule.shared_count, default=0) if rule.shared_count else 0
    shared += config.count(*rule.shared, default=0) if rule.shared else 0
    shared += size * rule.has_shared_of_same_size
    vectors = count * rule.correction
    if rule.bias:
        vectors += count + count * mlp_biases(hidden, size, gated)
    return Layer(
        mlp=mlp(hidden, shared, gated),
        router=hidden * count + hidden * rule.has_shared_gate,
        experts=count,
        expert=mlp(hidden, size, gated),
        experts_per_token=chosen,
        vectors=vectors,
    )


def sparse_layers(config: ConfigReader, rule: Experts, layers: int) -> list[bool]:
    """Which layers have experts."""
    if rule.sparse == "step":
        step = config.count("decoder_sparse_step", default=1)
        dense = set(config.indices("mlp_only_layers") or [])
        return [i not in dense and step > 0 and (i + 1) % step == 0 for i in range(layers)]
    if rule.sparse == "first":
        first, step = config.count("first_k_dense_replace", default=0), _layer_step(config)
        return [i >= first and i % step == 0 for i in range(layers)]
    if rule.sparse == "interleave":
        step = config.count("interleave_moe_layer_step", default=1)
        listed = config.indices("moe_layers")
        if listed is None:
            return [step > 0 and (i + 1) % step == 0 for i in range(layers)]
        return [i in set(listed) for i in range(layers)]
    if rule.sparse == "range":
        first = config.count("moe_layer_start_index", default=0)
        last = config.value("moe_layer_end_index")
        last = layers - 1 if last in (None, -1) else config.count("moe_layer_end_index")
        step = config.size("moe_layer_interval")
        return [first <= i <= last and (i + 1) % step == 0 for i in range(layers)]
    return [True] * layers


def _layer_step(config: ConfigReader) -> int:
    return config.optional("moe_layer_freq") or 1


def latent_attention(config: ConfigReader, hidden: int) -> Layer:
    """Multi-head latent attention (DeepSeek-V2, 2024): what is cached is one vector a token.

    Raises:
        UnknownShape: with biases.
    """
    queries = config.size("num_attention_heads")
    rank, rope = config.size("kv_lora_rank"), config.size("qk_rope_head_dim")
    plain, value = config.size("qk_nope_head_dim"), config.size("v_head_dim")
    config.value("num_key_value_heads", "head_dim", "qk_head_dim")
    if config.flag("attention_bias", False):
        raise UnknownShape("latent attention with biases is not worked out here")
    made, vectors = queries * (plain + rope), rank
    matrices = hidden * (rank + rope) + rank * queries * (plain + value) + queries * value * hidden
    if (query_rank := config.optional("q_lora_rank")) is None:
        matrices += hidden * made
    else:
        matrices += hidden * query_rank + query_rank * made
        vectors += query_rank
    return Layer(attention=matrices, vectors=vectors, kv_heads=1, kv_head_values=rank + rope)


_PERIODS = ("sliding_window_pattern", "_sliding_window_pattern", "layer_switch")


def windows(config: ConfigReader, form: Form, layers: int) -> list[tuple[int | None, int | None]]:
    """Each layer's sliding window and chunk in tokens; None: it sees everything.

    Raises:
        UnknownShape: a kind of layer that is no attention, or a list of another length.
    """
    kinds = config.words("layer_types")
    span = _window(config, form)
    chunk = config.optional("attention_chunk_size") if form.window == "chunks" else None
    if kinds is None:
        kinds = _kinds(config, form, layers, slides=span is not None)
    if len(kinds) != layers:
        raise UnknownShape(f"config.json: {len(kinds)} layer_types for {layers} layers")
    spans: dict[str, tuple[int | None, int | None]] = {
        "full_attention": (None, None),
        "sliding_attention": (span, None),
        "chunked_attention": (None, chunk),
    }
    for kind in sorted(set(kinds)):
        if kind not in spans:
            raise UnknownShape(f"layers of type {kind[:40]} are not worked out here")
        if kind != "full_attention" and spans[kind] == (None, None):
            raise UnknownShape(f"config.json: layers of {kind} without a size of their window")
    return [spans[kind] for kind in kinds]


def _window(config: ConfigReader, form: Form) -> int | None:
    """The sliding window in tokens; None: nothing slides, whatever the config states."""
    if form.window in ("none", "chunks"):
        return None
    found = config.count("sliding_window", default=0) or None
    config.value("max_window_layers", *_PERIODS)
    if form.window in ("after", "unused") and not config.flag("use_sliding_window", False):
        return None
    if form.window == "unused":
        raise UnknownShape("use_sliding_window is not worked out here for this model type")
    return found


def _kinds(config: ConfigReader, form: Form, layers: int, slides: bool) -> list[str]:
    """Kinds of layers of a config that does not list them."""
    if form.window == "chunks":
        ropes = config.indices("no_rope_layers")  # 1 where a layer has rotary positions
        every = config.optional("no_rope_layer_interval") or 4
        ropes = ropes or [int((i + 1) % every != 0) for i in range(layers)]
        return [("chunked" if has_rope else "full") + "_attention" for has_rope in ropes]
    if not slides:
        return ["full_attention"] * layers
    if form.window in ("after", "after_max"):
        first = config.count("max_window_layers")
        return [("sliding" if i >= first else "full") + "_attention" for i in range(layers)]
    if form.window == "pattern":
        every = _period(config, form.window_period)
        return [("sliding" if (i + 1) % every else "full") + "_attention" for i in range(layers)]
    return ["sliding_attention"] * layers


def _period(config: ConfigReader, default: int) -> int:
    """Every so many layers one sees everything; some files write it as LLLG."""
    value = config.value(*_PERIODS)
    if isinstance(value, str) and value == "L" * (len(value) - 1) + "G":
        return len(value)
    return config.optional(*_PERIODS) or default

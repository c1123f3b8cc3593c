"""Layers that keep a state of constant size instead of keys and values: Mamba, Mamba-2, and gated
delta rule, and decoders that mix them with attention.

Sizes compared with huggingface/transformers 5.19, as in ``transformer_forms``.
"""

from dataclasses import replace

from enginebench.hardware.config_reader import ConfigReader
from enginebench.hardware.model_shape import Layer, UnknownShape
from enginebench.hardware.transformer_forms import (
    Experts,
    Form,
    attention,
    expert_layer,
    heads,
    mlp,
    mlp_biases,
)

_LISTED = {"mamba": "state", "linear_attention": "state", "M": "state", "full_attention": "*",
           "attention": "*", "mlp": "-", "moe": "E"}  # fmt: skip


def mamba(config: ConfigReader, hidden: int, inner: int, inner_norms: bool) -> Layer:
    """A Mamba mixer (Gu and Dao, 2023): Falcon-Mamba's, or Jamba's with its three inner norms."""
    state = config.size("mamba_d_state", "state_size")
    taps = config.size("mamba_d_conv", "conv_kernel")
    ranks = ("mamba_dt_rank", "time_step_rank")
    rank = -(-hidden // 16) if config.value(*ranks) == "auto" else config.size(*ranks)
    projected = rank + 2 * state
    matrices = hidden * 2 * inner + inner * projected + rank * inner + inner * hidden
    # Convolution, the step's bias, A and D; the projections' biases where they are switched on.
    vectors = inner * (taps + _conv_bias(config)) + inner + inner * state + inner
    vectors += (2 * inner + hidden) * _projection_bias(config) + projected * inner_norms
    return Layer(attention=matrices, vectors=vectors, state_values=inner * (state + taps - 1))


def mamba2(config: ConfigReader, hidden: int) -> Layer:
    """A Mamba-2 mixer (Dao and Gu, 2024)."""
    count = config.size("mamba_n_heads", "mamba_num_heads", "num_heads")
    size = _head_size(config, hidden, count)
    groups = config.size("mamba_n_groups", "n_groups")
    state = config.size("mamba_d_state", "ssm_state_size", "state_size")
    taps = config.size("mamba_d_conv", "conv_kernel")
    inner = count * size
    convolved = inner + 2 * groups * state
    projected = inner + convolved + count
    vectors = convolved * (taps + _conv_bias(config)) + 3 * count + inner
    vectors += (projected + hidden) * _projection_bias(config)
    return Layer(
        attention=hidden * projected + inner * hidden,
        vectors=vectors,
        state_values=inner * state + convolved * (taps - 1),
    )


def _head_size(config: ConfigReader, hidden: int, count: int) -> int:
    # Some Nemotron-H files state an expansion that their heads do not follow: the heads decide.
    expand = config.optional("mamba_expand", "expand")
    if config.value("mamba_d_head", "mamba_head_dim") == "auto" and expand is not None:
        return hidden * expand // count
    return config.size("mamba_d_head", "mamba_head_dim")


def _conv_bias(config: ConfigReader) -> bool:
    found = [config.flag(name, True) for name in ("mamba_conv_bias", "use_conv_bias")]
    return all(found)


def _projection_bias(config: ConfigReader) -> bool:
    return any(config.flag(name, False) for name in ("mamba_proj_bias", "use_bias"))


def gated_delta(config: ConfigReader, hidden: int) -> Layer:
    """A gated delta rule's mixer (Yang and others, 2024), as in Qwen3-Next and Qwen3.5."""
    keys = config.size("linear_num_key_heads") * config.size("linear_key_head_dim")
    count, size = config.size("linear_num_value_heads"), config.size("linear_value_head_dim")
    taps = config.size("linear_conv_kernel_dim")
    values = count * size
    convolved = 2 * keys + values
    return Layer(
        attention=hidden * (convolved + values + 2 * count) + values * hidden,
        vectors=convolved * taps + 2 * count + size,
        state_values=count * config.size("linear_key_head_dim") * size + convolved * (taps - 1),
    )


def grouped_attention(config: ConfigReader, form: Form, hidden: int) -> Layer:
    """An attention mixer that sees everything."""
    sizes = heads(config, hidden)
    matrices, vectors = attention(config, form, hidden, sizes)
    return Layer(
        attention=matrices,
        vectors=vectors,
        kv_heads=sizes.kept,
        kv_head_values=2 * sizes.size,
    )


def add(mixer: Layer, other: Layer, norms: int = 0) -> Layer:
    """One layer of a mixer and an MLP part with its norms."""
    return replace(
        mixer,
        mlp=other.mlp,
        router=other.router,
        experts=other.experts,
        expert=other.expert,
        experts_per_token=other.experts_per_token,
        vectors=mixer.vectors + other.vectors + norms,
    )


def kinds(config: ConfigReader, layers: int) -> list[str]:
    """Each layer's mixer, "state" or "*" for attention, from layer_types."""
    listed = config.words("layer_types") or config.words("layers_block_type")
    if listed is None:
        raise UnknownShape("config.json does not state layer_types")
    if len(listed) != layers:
        raise UnknownShape(f"config.json: {len(listed)} layer_types for {layers} layers")
    return [_kind(name) for name in listed]


def _kind(name: str) -> str:
    if name not in _LISTED:
        raise UnknownShape(f"layers of type {name[:40]} are not worked out here")
    return _LISTED[name]


def state_space_only(config: ConfigReader, form: Form, hidden: int) -> list[Layer]:
    """Mamba and Falcon-Mamba: no attention, no MLP, one norm a layer."""
    layers = config.layers("num_hidden_layers", "n_layer")
    inner = hidden * config.size("expand")
    if config.optional("intermediate_size") not in (None, inner):
        raise UnknownShape("config.json: intermediate_size and expand contradict each other")
    mixer = mamba(config, hidden, inner, inner_norms=False)
    return [replace(mixer, vectors=mixer.vectors + hidden)] * layers


def jamba(config: ConfigReader, form: Form, hidden: int) -> list[Layer]:
    """Jamba: attention every so many layers, experts every so many."""
    layers, inner = config.layers("num_hidden_layers"), config.size("intermediate_size")
    if config.optional("sliding_window"):
        raise UnknownShape("a sliding window of Jamba's is not worked out here")
    every, first = config.size("attn_layer_period"), config.count("attn_layer_offset")
    sparse_every = config.size("expert_layer_period")
    sparse_first = config.count("expert_layer_offset")
    sparse = Layer(mlp=mlp(hidden, inner, True))
    if config.size("num_experts") > 1:
        rule = Experts(counts=("num_experts",), sizes=("intermediate_size",))
        sparse = expert_layer(config, rule, hidden, True)
    dense = Layer(mlp=mlp(hidden, inner, True))
    expanded = hidden * config.size("mamba_expand")
    state = mamba(config, hidden, expanded, inner_norms=True)
    full = grouped_attention(config, form, hidden)
    return [
        add(
            full if i % every == first else state,
            sparse if i % sparse_every == sparse_first else dense,
            norms=2 * hidden,
        )
        for i in range(layers)
    ]


def granite_hybrid(config: ConfigReader, form: Form, hidden: int) -> list[Layer]:
    """Granite 4 hybrid: Mamba-2 or attention by layer, a shared MLP, experts if there are any."""
    layers = config.layers("num_hidden_layers")
    shared = config.size("shared_intermediate_size")
    other = Layer(mlp=mlp(hidden, shared, True))
    if config.count("num_local_experts", default=0):
        rule = Experts(
            counts=("num_local_experts",),
            sizes=("intermediate_size",),
            shared=("shared_intermediate_size",),
        )
        other = expert_layer(config, rule, hidden, True)
    else:
        config.value("intermediate_size", "num_experts_per_tok")
    return _by_kind(config, form, hidden, layers, other)


def bamba(config: ConfigReader, form: Form, hidden: int) -> list[Layer]:
    """Bamba: Mamba-2, attention at listed layers, a dense MLP."""
    layers, inner = config.layers("num_hidden_layers"), config.size("intermediate_size")
    at = set(config.indices("attn_layer_indices") or [])
    bias = mlp_biases(hidden, inner, True) if config.flag("mlp_bias", False) else 0
    other = Layer(mlp=mlp(hidden, inner, True), vectors=bias)
    state, full = mamba2(config, hidden), grouped_attention(config, form, hidden)
    return [add(full if i in at else state, other, norms=2 * hidden) for i in range(layers)]


def _by_kind(
    config: ConfigReader, form: Form, hidden: int, layers: int, other: Layer
) -> list[Layer]:
    found = kinds(config, layers)
    mixers = {kind: _mixer(config, form, hidden, kind) for kind in sorted(set(found))}
    return [add(mixers[kind], other, norms=2 * hidden) for kind in found]


def _mixer(config: ConfigReader, form: Form, hidden: int, kind: str) -> Layer:
    if kind == "*":
        return grouped_attention(config, form, hidden)
    if kind != "state":
        raise UnknownShape("layers without a mixer are not worked out here")
    is_delta = config.value("linear_num_value_heads") is not None
    return gated_delta(config, hidden) if is_delta else mamba2(config, hidden)


def qwen_next(config: ConfigReader, form: Form, hidden: int) -> list[Layer]:
    """Qwen3-Next and Qwen3.5: gated delta rule, every fourth layer gated attention."""
    layers = config.layers("num_hidden_layers")
    every = config.optional("full_attention_interval") or 4
    found = ["*" if (i + 1) % every == 0 else "state" for i in range(layers)]
    if config.value("layer_types") is not None:
        found = kinds(config, layers)
    if form.experts is not None:
        config.value("intermediate_size")
        if config.count("decoder_sparse_step", default=1) != 1 or config.indices("mlp_only_layers"):
            raise UnknownShape("layers without experts are not worked out here for this type")
        other = expert_layer(config, form.experts, hidden, True)
    else:
        other = Layer(mlp=mlp(hidden, config.size("intermediate_size"), True))
    mixers = {kind: _mixer(config, form, hidden, kind) for kind in sorted(set(found))}
    return [add(mixers[kind], other, norms=2 * hidden) for kind in found]


def nemotron_hybrid(config: ConfigReader, form: Form, hidden: int) -> list[Layer]:
    """Nemotron-H: a pattern of one block a letter, each with one norm.

    M is Mamba-2, * attention, - an MLP of two matrices, E experts of two matrices.
    """
    if config.optional("moe_latent_size"):
        raise UnknownShape("experts in a latent space are not worked out here")
    pattern = config.value("hybrid_override_pattern")
    listed = config.words("layers_block_type") if pattern is None else None
    if isinstance(pattern, str):
        found = ["state" if letter == "M" else letter for letter in pattern]
        layers = config.layers("num_hidden_layers")
    elif listed is not None:
        found = [_kind(name) for name in listed]
        layers = config.optional("num_hidden_layers") or len(found)
    else:
        raise UnknownShape("config.json does not state hybrid_override_pattern")
    if len(found) != layers:
        raise UnknownShape(f"config.json: a pattern of {len(found)} for {layers} layers")
    blocks = {kind: _nemotron_block(config, form, hidden, kind) for kind in sorted(set(found))}
    for key in ("intermediate_size", "n_routed_experts", "n_shared_experts", "num_experts_per_tok",
                "moe_intermediate_size", "moe_shared_expert_intermediate_size"):  # fmt: skip
        config.value(key)
    return [add(blocks[kind], blocks[kind], norms=hidden - blocks[kind].vectors) for kind in found]


def _nemotron_block(config: ConfigReader, form: Form, hidden: int, kind: str) -> Layer:
    if kind == "*":
        return grouped_attention(config, form, hidden)
    if kind == "state":
        return mamba2(config, hidden)
    bias = config.flag("mlp_bias", False)
    if kind == "-":
        inner = config.size("intermediate_size")
        vectors = mlp_biases(hidden, inner, False) if bias else 0
        return Layer(mlp=mlp(hidden, inner, False), vectors=vectors)
    if kind == "E" and not bias:
        rule = Experts(
            counts=("n_routed_experts",),
            sizes=("moe_intermediate_size",),
            shared=("moe_shared_expert_intermediate_size",),
            correction=1,
        )
        return expert_layer(config, rule, hidden, False)
    raise UnknownShape(f"a block of kind {kind[:10]} is not worked out here")

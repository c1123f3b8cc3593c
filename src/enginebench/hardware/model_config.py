"""The shape of a model from its config.json."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from enginebench.base.text import one_line
from enginebench.hardware.config_reader import ConfigReader
from enginebench.hardware.model_shape import Layer, ModelShape, UnknownShape
from enginebench.hardware.model_types import FORMS, HYBRIDS, LEFT_OUT
from enginebench.hardware.quantization import quantization
from enginebench.hardware.transformer_forms import (
    Form,
    attention,
    expert_layer,
    flag,
    heads,
    inner_size,
    latent_attention,
    mlp,
    mlp_biases,
    sparse_layers,
    windows,
)

_NESTED = ("text_config", "llm_config", "language_config")
_HIDDEN = ("hidden_size", "n_embd", "n_embed", "d_model")
#: Models that see or hear whose config.json has its language model's sizes at the top.
_FLAT = {"qwen2_vl": "qwen2_vl_text", "qwen2_5_vl": "qwen2_5_vl_text"}
_BESIDE = re.compile(r"vision|audio|visual|image|video|speech|mm_|projector|perceiver")


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The language model's part of a config: models that see or hear keep it one level down."""
    for key in _NESTED:
        nested = config.get(key)
        if isinstance(nested, Mapping):
            return nested
    return config


def shape(config: Mapping[str, Any]) -> ModelShape:
    """The shape in a Hugging Face ``config.json``.

    Raises:
        UnknownShape: a model type or a form of it that is not worked out here, or sizes that are
            not stated or make no sense. The message says which.
    """
    text = text_config(config)
    model_type = _model_type(config, text)
    form, build = HYBRIDS.get(model_type, (None, None))
    form = form or FORMS.get(model_type)
    if form is None:
        raise UnknownShape(f"models of type {one_line(model_type)[:60]} are not worked out here")
    kept, head_size = LEFT_OUT.get(model_type, (None, None))
    defaults = {"num_key_value_heads": kept, "head_dim": head_size} | dict(form.defaults or {})
    reader = ConfigReader(text, defaults)
    hidden, vocabulary = reader.size(*_HIDDEN), reader.size("vocab_size")
    layers = build(reader, form, hidden) if build else _decoder(reader, form, hidden, model_type)
    vectors = hidden * form.norm_width * (2 if form.has_embedding_norm else 1)
    vectors += vocabulary * flag(reader, form.head_bias)
    if form.positions is not None:
        vectors += hidden * (reader.size(form.positions[0]) + form.positions[1])
    tied = text.get("tie_word_embeddings", config.get("tie_word_embeddings"))
    if not isinstance(tied, bool | None):
        raise UnknownShape("config.json: tie_word_embeddings is neither true nor false")
    reader.value("tie_word_embeddings", "quantization_config", *_NESTED)
    reader.refuse_unread(model_type)
    stored = text.get("quantization_config") or config.get("quantization_config")
    return ModelShape(
        model_type=model_type,
        hidden=hidden,
        vocabulary=vocabulary,
        layers=tuple(layers),
        is_tied=form.tied if tied is None else tied,
        vectors=vectors,
        quantization=quantization(stored, tuple(layers)),
        left_out=_left_out(config, text),
        is_latent=form.is_latent,
    )


def _model_type(config: Mapping[str, Any], text: Mapping[str, Any]) -> str:
    found = text.get("model_type")
    if not isinstance(found, str) or not found:
        raise UnknownShape("config.json does not state model_type")
    return _FLAT.get(found, found) if text is config else found


def _left_out(config: Mapping[str, Any], text: Mapping[str, Any]) -> tuple[str, ...]:
    parts = [str(key) for key, value in config.items() if value and _BESIDE.search(str(key))]
    beside = any(isinstance(config[key], Mapping) for key in parts)
    found = ["the parts that see or hear"] * beside
    return tuple(found + ["multi-token prediction"] * bool(text.get("num_nextn_predict_layers")))


def _decoder(config: ConfigReader, form: Form, hidden: int, model_type: str) -> list[Layer]:
    """The layers of a decoder of attention and MLPs."""
    form = _variant(config, form, model_type)
    layers = config.layers("num_hidden_layers", "n_layer", "n_layers")
    spans = windows(config, form, layers)
    mixer = _mixer(config, form, hidden, model_type)
    dense, sparse = None, None
    is_sparse = [False] * layers
    if form.experts is not None:
        is_sparse = sparse_layers(config, form.experts, layers)
        sparse = expert_layer(config, form.experts, hidden, form.gated)
    if not all(is_sparse):
        dense = _dense(config, form, hidden)
    config.value(*form.inner)
    found = []
    for (window, chunk), has_experts in zip(spans, is_sparse, strict=True):
        other = sparse if has_experts else dense
        assert other is not None
        norms = hidden * form.norms * form.norm_width
        found.append(
            replace(
                other,
                attention=mixer.attention,
                kv_heads=mixer.kv_heads,
                kv_head_values=mixer.kv_head_values,
                vectors=mixer.vectors + other.vectors + norms,
                window=window,
                chunk=chunk,
            )
        )
    return found


def _mixer(config: ConfigReader, form: Form, hidden: int, model_type: str) -> Layer:
    if form.is_latent:
        return latent_attention(config, hidden)
    sizes = heads(config, hidden)
    is_falcon = model_type == "falcon" and not config.flag("new_decoder_architecture", False)
    if model_type in ("gpt_bigcode", "falcon") and config.flag("multi_query", True):
        if model_type == "gpt_bigcode" or is_falcon:
            sizes = replace(sizes, kept=1)
    elif is_falcon:
        sizes = replace(sizes, kept=sizes.queries)
    matrices, vectors = attention(config, form, hidden, sizes)
    return Layer(
        attention=matrices,
        vectors=vectors,
        kv_heads=sizes.kept,
        kv_head_values=2 * sizes.size,
    )


def _dense(config: ConfigReader, form: Form, hidden: int) -> Layer:
    inner = inner_size(config, form, hidden)
    vectors = mlp_biases(hidden, inner, form.gated) if flag(config, form.mlp_bias) else 0
    return Layer(mlp=mlp(hidden, inner, form.gated), vectors=vectors)


def _variant(config: ConfigReader, form: Form, model_type: str) -> Form:
    """The form with what else a config of this type may switch.

    Raises:
        UnknownShape: switched to something that is not worked out here.
    """
    if model_type == "falcon":
        if config.flag("new_decoder_architecture", False):
            is_double = config.optional("num_ln_in_parallel_attn") in (None, 2)
        else:
            is_double = config.optional("num_ln_in_parallel_attn") == 2
        parallel = config.flag("parallel_attn", True)
        return replace(form, norms=2 if is_double or not parallel else 1)
    if model_type == "stablelm":
        return replace(form, norms=1 if config.flag("use_parallel_residual", False) else 2)
    if model_type == "opt":
        width = config.optional("word_embed_proj_dim")
        if width not in (None, config.size("hidden_size")):
            raise UnknownShape("embeddings of another width are not worked out here")
        if not config.flag("do_layer_norm_before", True) or not config.flag("enable_bias", True):
            raise UnknownShape(
                "an OPT without biases or with its norms behind is not worked out here"
            )
    if model_type == "llama4_text":
        config.value("use_qk_norm")  # has no weights
    if model_type == "minimax_m2":
        kinds = config.indices("attn_type_list") or []
        if set(kinds) - {1} or not config.flag("use_qk_norm", True):
            raise UnknownShape("this kind of attention is not worked out here")
    return form

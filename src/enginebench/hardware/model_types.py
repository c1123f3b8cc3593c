"""Model types whose form is known. A model type that is not here is refused, not guessed."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from enginebench.hardware import hybrid_forms as hybrid
from enginebench.hardware.config_reader import ConfigReader
from enginebench.hardware.model_shape import Layer
from enginebench.hardware.transformer_forms import Experts, Form

_LLAMA = Form(
    qkv_bias=("attention_bias", False),
    output_bias=("attention_bias", False),
    mlp_bias=("mlp_bias", False),
)
_ATTENTION_BIAS = Form(qkv_bias=("attention_bias", False), output_bias=("attention_bias", False))
_QWEN2 = Form(qkv_bias=True, window="after")
_QWEN3 = replace(_ATTENTION_BIAS, qk_norm="head", window="after")
_GEMMA = replace(_ATTENTION_BIAS, tied=True)
_GEMMA2 = replace(
    _GEMMA, norms=4, window="pattern", window_period=2, defaults={"sliding_window": 4096}
)
_USE_BIAS = Form(
    qkv_bias=("use_bias", False), output_bias=("use_bias", False), mlp_bias=("use_bias", False)
)
_COHERE = replace(
    _ATTENTION_BIAS,
    norms=1,
    qk_norm="heads",
    qk_norm_flag=("use_qk_norm", False),
    tied=True,
)
_GPT2 = Form(
    gated=False,
    norm_width=2,
    qkv_bias=True,
    output_bias=True,
    mlp_bias=True,
    inner=("n_inner", "ffn_dim", "intermediate_size"),
    inner_times=4,
    tied=True,
)
_COUNTS = ("num_experts", "num_local_experts")
_QWEN_EXPERTS = Experts(counts=_COUNTS, sizes=("moe_intermediate_size",), sparse="step")
_QWEN_SHARED = replace(
    _QWEN_EXPERTS, shared=("shared_expert_intermediate_size",), has_shared_gate=True
)
_LOCAL = Experts(counts=("num_local_experts",), sizes=("intermediate_size",))
_ROUTED = Experts(
    counts=("n_routed_experts",),
    sizes=("moe_intermediate_size",),
    sparse="first",
    shared_count=("n_shared_experts",),
)
_CORRECTED = replace(_ROUTED, correction=1)
_GRANITE_SHARED = replace(_LOCAL, shared=("shared_intermediate_size",))
_MAMBA1: Mapping[str, int | str] = {
    "mamba_d_state": 16,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_dt_rank": "auto",
}
_MAMBA: Mapping[str, int | str] = {
    "state_size": 16,
    "conv_kernel": 4,
    "expand": 2,
    "time_step_rank": "auto",
}
_MLA = {"qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128}
_MLA3 = {**_MLA, "first_k_dense_replace": 3}
_DELTA = Form(
    qk_norm="head",
    is_gated_attention=True,
    qkv_bias=("attention_bias", False),
    output_bias=("attention_bias", False),
)

#: The forms of decoders whose layers are attention and an MLP. What a config leaves out is as the
#: configuration class of the model type has it, where the makers' own files leave it out as well.
FORMS: Mapping[str, Form] = {
    "llama": _LLAMA,
    "mistral": Form(window="all", defaults={"sliding_window": 4096}),
    "ministral": Form(window="all", defaults={"sliding_window": 4096}),
    "qwen2": _QWEN2,
    "qwen2_vl_text": _QWEN2,
    "qwen2_5_vl_text": _QWEN2,
    "qwen3": _QWEN3,
    "qwen3_vl_text": replace(_QWEN3, window="none"),
    "gemma": _GEMMA,
    "gemma2": _GEMMA2,
    "gemma3_text": replace(
        _GEMMA2,
        qk_norm="head",
        window_period=6,
        # google/gemma-3-4b-it: its text_config leaves these out.
        defaults={"num_attention_heads": 8, "vocab_size": 262208, "sliding_window": 4096},
    ),
    "cohere": _COHERE,
    "cohere2": replace(
        _COHERE,
        qk_norm="",
        window="pattern",
        window_period=4,
        defaults={"sliding_window": 4096},
    ),
    "phi": replace(_GPT2, norms=1, head_bias=True, tied=False),
    "phi3": Form(window="all"),
    "granite": _LLAMA,
    "olmo": replace(_ATTENTION_BIAS, norm_width=0),
    "olmo2": replace(_ATTENTION_BIAS, qk_norm="full"),
    "olmo3": replace(
        _ATTENTION_BIAS,
        qk_norm="full",
        window="pattern",
        window_period=4,
        defaults={"sliding_window": 4096},
    ),
    "stablelm": Form(norm_width=2, qkv_bias=("use_qkv_bias", False)),
    "starcoder2": replace(
        _GPT2,
        qkv_bias=("use_bias", True),
        output_bias=("use_bias", True),
        mlp_bias=("use_bias", True),
        window="all",
        inner_times=None,
        inner=("intermediate_size",),
    ),
    "nemotron": replace(_LLAMA, gated=False, norm_width=2),
    "arcee": replace(_LLAMA, gated=False),
    "glm": Form(qkv_bias=("attention_bias", True)),
    "glm4": Form(qkv_bias=("attention_bias", True), norms=4),
    "smollm3": replace(_LLAMA, tied=True, window="unused"),
    "seed_oss": replace(
        _LLAMA, qkv_bias=("attention_bias", True), output_bias=("attention_out_bias", False)
    ),
    "exaone4": Form(
        qk_norm="head", window="pattern", window_period=4, defaults={"sliding_window": 4096}
    ),
    "hunyuan_v1_dense": replace(
        _ATTENTION_BIAS, qk_norm="head", qk_norm_flag=("use_qk_norm", True)
    ),
    "ernie4_5": replace(_USE_BIAS, tied=True),
    "gpt_neox": replace(
        _GPT2, qkv_bias=("attention_bias", True), output_bias=("attention_bias", True), tied=False
    ),
    "gptj": replace(_GPT2, qkv_bias=False, output_bias=False, norms=1, head_bias=True, tied=False),
    "gpt2": replace(_GPT2, positions=("n_positions", 0)),
    "gpt_bigcode": replace(_GPT2, positions=("n_positions", 0)),
    "opt": replace(_GPT2, positions=("max_position_embeddings", 2)),
    "bloom": replace(_GPT2, has_embedding_norm=True),
    "falcon": replace(
        _GPT2,
        qkv_bias=("bias", False),
        output_bias=("bias", False),
        mlp_bias=("bias", False),
        inner=("ffn_hidden_size",),
    ),
    "mixtral": Form(window="all", experts=_LOCAL),
    "qwen2_moe": Form(qkv_bias=("qkv_bias", True), window="unused", experts=_QWEN_SHARED),
    "qwen3_moe": replace(_QWEN3, window="unused", experts=_QWEN_EXPERTS),
    "qwen3_vl_moe_text": replace(_QWEN3, window="none", experts=_QWEN_EXPERTS),
    "olmoe": replace(
        _ATTENTION_BIAS,
        qk_norm="full",
        experts=Experts(counts=_COUNTS, sizes=("intermediate_size",)),
    ),
    "phimoe": replace(
        _ATTENTION_BIAS,
        norm_width=2,
        head_bias=("lm_head_bias", False),
        window="all",
        experts=_LOCAL,
    ),
    "granitemoe": replace(_ATTENTION_BIAS, experts=_LOCAL),
    "granitemoeshared": replace(_ATTENTION_BIAS, experts=_GRANITE_SHARED),
    "glm4_moe": Form(
        qkv_bias=("attention_bias", False),
        qk_norm="head",
        qk_norm_flag=("use_qk_norm", False),
        experts=_CORRECTED,
        defaults={"first_k_dense_replace": 1},
    ),
    "dots1": replace(_ATTENTION_BIAS, qk_norm="head", window="after_max", experts=_CORRECTED),
    "deepseek_v2": Form(is_latent=True, experts=_ROUTED, defaults=_MLA),
    "deepseek_v3": Form(is_latent=True, experts=_CORRECTED, defaults=_MLA3),
    "kimi_k2": Form(is_latent=True, experts=_CORRECTED, defaults=_MLA3),
    "gpt_oss": Form(
        qkv_bias=("attention_bias", True),
        output_bias=("attention_bias", True),
        has_sinks=True,
        window="pattern",
        window_period=2,
        experts=replace(_LOCAL, bias=True, chosen=("num_experts_per_tok", "experts_per_token")),
        defaults={"sliding_window": 128},
    ),
    "llama4_text": replace(
        _ATTENTION_BIAS,
        window="chunks",
        inner=("intermediate_size_mlp",),
        experts=replace(_LOCAL, sparse="interleave", has_shared_of_same_size=True),
        defaults={"attention_chunk_size": 8192},
    ),
    "ernie4_5_moe": replace(
        _USE_BIAS,
        tied=True,
        experts=Experts(
            counts=("moe_num_experts",),
            sizes=("moe_intermediate_size",),
            chosen=("moe_k",),
            sparse="range",
            shared_count=("moe_num_shared_experts",),
            correction=1,
        ),
    ),
    "minimax_m2": Form(qk_norm="full", experts=replace(_LOCAL, correction=1)),
}

#: KV heads and head size of the configuration class, where a config leaves them out; elsewhere they
#: follow from the heads and the hidden size.
LEFT_OUT: Mapping[str, tuple[int | None, int | None]] = {
    "mistral": (8, None), "ministral": (8, None), "qwen2": (32, None), "qwen3": (32, 128),
    "qwen2_vl_text": (8, None), "qwen2_5_vl_text": (8, None),
    "qwen3_vl_text": (32, 128), "qwen3_vl_moe_text": (16, None), "gemma": (16, 256),
    "gemma2": (4, 256), "gemma3_text": (4, 256), "stablelm": (32, None), "starcoder2": (2, None),
    "glm": (2, 128), "glm4": (2, 128), "smollm3": (4, None), "seed_oss": (8, 128),
    "exaone4": (32, None), "ernie4_5": (2, 128), "ernie4_5_moe": (4, None),
    "mixtral": (8, None), "qwen2_moe": (16, None), "qwen3_moe": (4, None), "phimoe": (8, None),
    "glm4_moe": (8, None), "dots1": (32, None), "gpt_oss": (8, 64), "llama4_text": (8, 128),
    "minimax_m2": (8, 128), "jamba": (8, None), "bamba": (8, None), "nemotron_h": (8, 128),
    "qwen3_next": (2, 256), "qwen3_5_text": (4, 256), "qwen3_5_moe_text": (2, 256),
}  # fmt: skip

#: The forms with layers of constant state, and what builds those layers.
HYBRIDS: Mapping[str, tuple[Form, Callable[[ConfigReader, Form, int], list[Layer]]]] = {
    "jamba": (Form(defaults=_MAMBA1), hybrid.jamba),
    "mamba": (Form(tied=True, defaults=_MAMBA), hybrid.state_space_only),
    "falcon_mamba": (Form(tied=True, defaults=_MAMBA), hybrid.state_space_only),
    "bamba": (_ATTENTION_BIAS, hybrid.bamba),
    "granitemoehybrid": (_ATTENTION_BIAS, hybrid.granite_hybrid),
    "nemotron_h": (_ATTENTION_BIAS, hybrid.nemotron_hybrid),
    "qwen3_next": (replace(_DELTA, experts=_QWEN_SHARED), hybrid.qwen_next),
    "qwen3_5_text": (_DELTA, hybrid.qwen_next),
    "qwen3_5_moe_text": (replace(_DELTA, experts=_QWEN_SHARED), hybrid.qwen_next),
}

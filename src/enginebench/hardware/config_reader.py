"""A config.json from outside, read key by key: types, signs and sizes are checked here.

What was read is remembered. A key that was not read, is set, and may change the form of the model
is refused at the end: a form that is not understood must not be computed as another.
"""

import re
from collections.abc import Mapping
from typing import Any

from enginebench.base.text import one_line
from enginebench.hardware.model_shape import UnknownShape

MAX_SIZE = 1 << 31
MAX_LAYERS = 10_000

#: Words in a key that may change what a model computes or stores.
_FORM_WORDS = re.compile(
    r"expert|moe|lora|rank|window|sliding|layer|block|state|ssm|mamba|conv|recurr|linear|head|"
    r"dim|size|width|intermediate|ffn|inner|num_|^n_|shared|attn|attention|mlp|latent|cross|bias|"
    r"tie|embd|norm|gate|share|nextn|encoder|pattern|period|offset|chunk|memory|sparse|indexer|lru|use_cla"
)
#: Keys with such a word that change neither weights nor caches.
_HARMLESS = re.compile(
    r"_?attn_implementation\w*|attention_dropout\w*|attn_pdrop|attn_dropout\w*|embd_pdrop|"
    r"hidden_dropout\w*|\w*_dropout|layerdrop|\w*norm_eps\w*|\w*norm_epsilon|norm_epsilon|"
    r"num_labels|num_beams|num_beam_groups|num_return_sequences|num_logits_to_keep|"
    r"\w*no_repeat_ngram_size|max_window_layers|norm_topk_prob|n_group|topk_group|num_hash_\w+|"
    r"ep_size|num_nextn_predict_layers|query_pre_attn_scalar|attn_logit_softcapping|"
    r"attention_multiplier|attn_scale|attn_temperature_tuning|no_rope_layers|"
    r"no_rope_layer_interval|use_bidirectional_attention|rotary_emb_base|rotary_dim|"
    r"rope_interleave|attention_softmax_in_fp32|scale_attention_softmax_in_fp32|"
    r"scale_attn_weights|scale_attn_by_inverse_layer_idx|reorder_and_upcast_attn|"
    r"apply_residual_connection_post_layernorm|output_hidden_states|output_attentions|"
    r"_?use_flash_attn\w*|use_mamba_kernels|mamba_chunk_size|chunk_size|mamba_ssm_cache_dtype|"
    r"mamba_hidden_act|mlp_hidden_act|moe_aux_loss_coef|moe_router_\w+|"
    r"moe_norm_min|moe_use_aux_free|moe_gate|moe_capacity|input_jitter_noise|"
    r"router_jitter_noise|z_loss_coefficient|"
    r"original_max_position_embeddings|pad_token_id|"
    r"partial_rotary_factor|layer_norm_elementwise_affine|init_\w+|"
    r"moe_shared_expert_overlap|summary_\w+|embedding_multiplier|residual_multiplier|"
    r"n_positions|use_parallel_residual|prefix_allowed_tokens\w*|hidden_act\w*|"
    r"residual_in_fp32|rescale_prenorm_residual|time_step_\w+|clip_qkv|"
    r"attention_probs_dropout_prob|mtp_\w+|num_mtp_modules|n_ctx|bias_dropout_fusion|"
    r"org_vocab_size|cla_share_factor"
)
#: Keys that switch the form, and the one value that is worked out here.
_EXPECTED: Mapping[str, Any] = {
    "mlp_type": "default", "norm_type": "layer_norm", "normalization_function": "rmsnorm",
    "mamba_inner_layernorms": True, "use_gated_activation": True, "use_parallel_block": True,
    "order_of_interleaved_layers": "local_attn_first", "qk_norm_type": "per_layer",
}  # fmt: skip


class ConfigReader:
    """The language model's part of one config.json."""

    def __init__(self, config: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        self._config = config
        self._defaults = defaults
        self._used = {"model_type"}

    def value(self, *names: str) -> Any:
        """The first of these keys that is set, or its default of the model type, else None."""
        self._used.update(names)
        stated = [name for name in names if name in self._config]
        # A key that is stated as null is stated: no window, say, where the default has one.
        source = self._config if stated else self._defaults
        return next((source[name] for name in names if source.get(name) is not None), None)

    def optional(self, *names: str) -> int | None:
        """A whole number above 0; None where no key is set.

        Raises:
            UnknownShape: another type, not above 0, or absurdly large.
        """
        value = self.value(*names)
        return None if value is None else _size(value, names[0])

    def size(self, *names: str) -> int:
        """As ``optional``, but there must be one."""
        found = self.optional(*names)
        if found is None:
            raise UnknownShape(f"config.json does not state {names[0]}")
        return found

    def count(self, *names: str, default: int | None = None) -> int:
        """A whole number that may be 0."""
        value = self.value(*names)
        if value is None and default is not None:
            return default
        is_zero = isinstance(value, int | float) and not isinstance(value, bool) and value == 0
        return 0 if is_zero else self.size(*names)

    def flag(self, name: str, default: bool) -> bool:
        """A truth value."""
        value = self.value(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise UnknownShape(f"config.json: {name} is {_short(value)}, expected true or false")
        return value

    def words(self, name: str) -> list[str] | None:
        """A list of words; None where it is not set."""
        value = self.value(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise UnknownShape(f"config.json: {name} is {_short(value)}, expected a list of words")
        return value

    def indices(self, name: str) -> list[int] | None:
        """A list of layer numbers; None where it is not set."""
        value = self.value(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(type(item) is int for item in value):
            raise UnknownShape(f"config.json: {name} is {_short(value)}, expected layer numbers")
        return value

    def layers(self, *names: str) -> int:
        """The number of layers."""
        found = self.size(*names)
        if found > MAX_LAYERS:
            raise UnknownShape(f"config.json: {names[0]} is {found}, expected at most {MAX_LAYERS}")
        return found

    def refuse_unread(self, model_type: str) -> None:
        """Refuse what was not read but may change the form.

        Raises:
            UnknownShape: there is such a key; the message names it.
        """
        for key, value in self._config.items():
            is_set = value is not None and value not in (False, 0, "", [], {})
            if key in self._used or not is_set or not _FORM_WORDS.search(str(key)):
                continue
            if not _HARMLESS.fullmatch(str(key)) and value != _EXPECTED.get(key):
                name = one_line(str(key))[:60]
                raise UnknownShape(
                    f"config.json sets {name}, which is not worked out here for a model "
                    f"of type {model_type}"
                )


def _size(value: Any, name: str) -> int:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # NaN and infinity fail the comparison, so that int() cannot overflow.
    if not is_number or not 0 < value <= MAX_SIZE or int(value) != value:
        raise UnknownShape(
            f"config.json: {name} is {_short(value)}, expected a whole number above 0"
        )
    return int(value)


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, str | float | bool | int) else type(value).__name__
    return text if len(text) <= 60 else text[:57] + "..."

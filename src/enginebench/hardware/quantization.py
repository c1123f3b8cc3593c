"""How a checkpoint stores its weights, from ``quantization_config`` in its config.json.

Bits a weight are those of the weight and of its share of scales and zero points. What is not
understood is reported as unknown, with the reason; it is never taken for one of these:

- AWQ, GPTQ: groups along the input, a float16 scale and, if asymmetric, a zero point each
  (huggingface/transformers 5.19, src/transformers/utils/quantization_config.py; AutoAWQ).
- FP8: one byte, a float32 scale a block where there are blocks (deepseek-ai/DeepSeek-V3 README).
- MXFP4: 32 values of 4 bits and one scale of 8 bits (OCP Microscaling Formats 1.0); gpt-oss has
  only its experts in it.
- NVFP4: 16 values of 4 bits and one scale of 8 bits (NVIDIA, ModelOpt).
- bitsandbytes: NF4 in blocks of 64 with a float32 scale, or a byte a weight.
- compressed-tensors: one group of settings for all linear layers (vllm-project/compressed-tensors).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from enginebench.hardware.model_shape import Layer, Part, Quantization

_LINEAR: tuple[Part, ...] = ("attention", "mlp", "router", "experts")
_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_MLP = ("gate_proj", "up_proj", "down_proj")
#: Names in lists of what stays as it is that are no weights of the language model's matrices.
_BESIDE = re.compile(r"vision|visual|audio|projector|embed|norm|rotary|mtp|nextn|eh_proj|^$")
_IGNORED = ("modules_to_not_convert", "ignored_layers", "ignore", "llm_int8_skip_modules",
            "exclude_modules")  # fmt: skip
MAX_COMPARED = 5_000_000  # modules times names of a list: seconds


class _Unknown(ValueError):
    pass


def quantization(stored: object, layers: Sequence[Layer]) -> Quantization | None:
    """What ``quantization_config`` states; None where there is none.

    Args:
        stored: that value, of whatever type the file has.
        layers: of the model, for lists that name single layers.
    """
    if not stored:
        return None
    if not isinstance(stored, Mapping):
        return Quantization("unknown", unknown="config.json: quantization_config is no object")
    method = str(stored.get("quant_method") or "").lower()[:40] or "unnamed"
    try:
        bits, compute, kv_dtype = _read(method, stored)
        parts = _converted(method, stored, layers)
    except _Unknown as error:
        reason = f"weights quantized by {method} are not worked out here ({error})"
        return Quantization(method, unknown=reason)
    return Quantization(method, dict.fromkeys(parts, bits), compute, kv_dtype)


def _read(method: str, stored: Mapping[str, Any]) -> tuple[float, str | None, str | None]:
    """Bits a weight, dtype of the products if not the activations', dtype of keys and values."""
    if method in ("awq", "gptq"):
        if stored.get("dynamic") or stored.get("lm_head") is True:
            raise _Unknown("with settings of their own for some layers")
        bits = _number(stored, "bits", (2, 3, 4, 8))
        is_offset = (
            stored.get("zero_point") is True if method == "awq" else stored.get("sym") is False
        )
        return bits + _per_group(stored, 16 + bits * is_offset), None, None
    if method in ("fp8", "fbgemm_fp8"):
        block = stored.get("weight_block_size")
        if block is None:
            return 8.0, "fp8", None
        if not isinstance(block, list) or not all(_is_count(size) for size in block) or not block:
            raise _Unknown("weight_block_size is no list of sizes")
        area = 1
        for size in block:
            area *= size
        return 8 + 32 / area, "fp8", None
    if method == "mxfp4":
        return 4.25, None, None
    if method == "bitsandbytes":
        if stored.get("load_in_8bit") is True:
            return 8.0, "int8", None
        if stored.get("load_in_4bit") is True:
            is_double = stored.get("bnb_4bit_use_double_quant") is True
            return 4 + (8 / 64 + 32 / (64 * 256) if is_double else 32 / 64), None, None
        raise _Unknown("neither load_in_4bit nor load_in_8bit")
    if method == "modelopt":
        return _modelopt(stored)
    if method == "compressed-tensors":
        return _compressed(stored)
    raise _Unknown("the method is not known")


def _modelopt(stored: Mapping[str, Any]) -> tuple[float, str | None, str | None]:
    kv_dtype = "fp8" if str(stored.get("kv_cache_quant_algo") or "").upper() == "FP8" else None
    kv_dtype = "fp8" if isinstance(stored.get("kv_cache_scheme"), Mapping) else kv_dtype
    algorithm = str(stored.get("quant_algo") or "").upper()
    if algorithm == "FP8":
        return 8.0, "fp8", kv_dtype
    if algorithm == "NVFP4":
        return 4.5, "fp4", kv_dtype
    raise _Unknown(f"quant_algo {algorithm[:20] or 'not stated'}")


def _compressed(stored: Mapping[str, Any]) -> tuple[float, str | None, str | None]:
    groups = stored.get("config_groups")
    if not isinstance(groups, Mapping) or len(groups) != 1:
        raise _Unknown("not with exactly one group of settings")
    (group,) = groups.values()
    weights = group.get("weights") if isinstance(group, Mapping) else None
    if not isinstance(weights, Mapping) or group.get("targets") != ["Linear"]:
        raise _Unknown("not for all linear layers")
    if stored.get("sparsity_config") or stored.get("transform_config"):
        raise _Unknown("with sparsity or transforms")
    bits, strategy = _number(weights, "num_bits", (2, 3, 4, 8)), weights.get("strategy")
    extra = 0.0  # a scale a tensor or a row of inputs: at most a few thousandths, left out
    if strategy == "group":
        extra = _per_group(weights, 16 + bits * (weights.get("symmetric") is False))
    elif strategy == "tensor_group":
        extra = 8 / _number(weights, "group_size", (16,))
    elif strategy not in ("tensor", "channel", "block"):
        raise _Unknown(f"strategy {str(strategy)[:20]}")
    compute = None
    if isinstance(group.get("input_activations"), Mapping):
        kinds = {("float", 8): "fp8", ("int", 8): "int8", ("float", 4): "fp4"}
        compute = kinds.get((str(weights.get("type")), int(bits)))
        if compute is None:
            raise _Unknown("activations of an unknown type")
    is_kv = isinstance(stored.get("kv_cache_scheme"), Mapping)
    return bits + extra, compute, "fp8" if is_kv else None


def _per_group(stored: Mapping[str, Any], bits: float) -> float:
    """Bits a weight of what each group has once."""
    size = stored.get("group_size", 128)
    if size in (-1, None):  # one group a column: less than a thousandth of a weight
        return 0.0
    if not _is_count(size):
        raise _Unknown("group_size is no size")
    return bits / int(size)


def _number(stored: Mapping[str, Any], key: str, allowed: Iterable[int]) -> float:
    value = stored.get(key)
    if type(value) is not int or value not in allowed:
        raise _Unknown(f"{key} is {str(value)[:20]}")
    return float(value)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 < value <= 1 << 20


def _converted(method: str, stored: Mapping[str, Any], layers: Sequence[Layer]) -> list[Part]:
    """The parts that are quantized.

    Raises:
        _Unknown: only some modules of a part are, or a name in a list is not understood.
    """
    has_experts = any(layer.experts for layer in layers)
    if method == "mxfp4":
        return ["experts"]
    if method == "bitsandbytes" and has_experts:
        raise _Unknown("experts may be left as they are")
    kept = _kept_names(stored)
    modules = _modules(layers)
    if len(kept) * sum(len(names) for names in modules.values()) > MAX_COMPARED:
        raise _Unknown("the list of what stays as it is is too long")
    hit = {part: [_is_kept(name, kept) for name in names] for part, names in modules.items()}
    for part, found in hit.items():
        if any(found) and not all(found):
            raise _Unknown(f"only some of the {part} matrices")
    for name in kept:
        is_used = any(_matches(module, name) for names in modules.values() for module in names)
        if not is_used and not _BESIDE.search(name) and not _is_absent(name, layers):
            raise _Unknown(f"{name[:60]} stays as it is")
    parts = [part for part in _LINEAR if not any(hit.get(part, [True]))]
    # These two take the output projection for a linear layer like any other.
    has_head = method in ("compressed-tensors", "modelopt") and not _is_kept("lm_head", kept)
    return [*parts, "head"] if has_head else parts


def _is_absent(name: str, layers: Sequence[Layer]) -> bool:
    """Whether a name is of the head, of a router that is not there, or of a later layer (the
    multi-token prediction of some checkpoints)."""
    if re.search(r"lm_head|output|gate$|router", name):
        return True
    found = re.search(r"layers?\.(\d{1,6})(\.|$)", name)
    return found is not None and int(found[1]) >= len(layers)


def _kept_names(stored: Mapping[str, Any]) -> list[str]:
    names: list[str] = []
    for key in _IGNORED:
        value = stored.get(key)
        if value is None:
            continue
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise _Unknown(f"{key} is no list of names")
        names += value
    return [_plain(name) for name in dict.fromkeys(names)]


def _plain(name: str) -> str:
    """A pattern as one with * alone: regular expressions from a file are not run."""
    if name.startswith("re:"):
        name = name[3:].removeprefix("^")
        name = name.replace(r"\.", "\0").replace(".*", "*").replace("\0", ".").rstrip("$")
        if re.search(r"[\\()\[\]{}|+?^$]", name):
            raise _Unknown(f"the pattern {name[:60]}")
    return name


def _matches(module: str, name: str) -> bool:
    if "*" in name:
        return fnmatchcase(module, name) or fnmatchcase(module, f"{name}.*")
    return module == name or f".{name}." in f".{module}."


def _is_kept(module: str, kept: Sequence[str]) -> bool:
    return any(_matches(module, name) for name in kept)


def _modules(layers: Sequence[Layer]) -> dict[Part, list[str]]:
    """Names of the language model's matrices as checkpoints write them, by part."""
    found: dict[Part, list[str]] = {}
    for index, layer in enumerate(layers):
        at = f"model.layers.{index}"
        if layer.kv_heads:
            found.setdefault("attention", []).extend(f"{at}.self_attn.{n}" for n in _ATTENTION)
        elif layer.attention:
            found.setdefault("attention", []).append(f"{at}.mixer.in_proj")
        shared = "mlp.shared_experts." if layer.experts else "mlp."
        if layer.mlp:
            found.setdefault("mlp", []).extend(f"{at}.{shared}{n}" for n in _MLP)
        if layer.experts:
            found.setdefault("experts", []).extend(f"{at}.mlp.experts.0.{n}" for n in _MLP)
            found.setdefault("router", []).append(f"{at}.mlp.gate")
    return found

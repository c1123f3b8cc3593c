"""Copies of a model with other weights: quantized, or made so that a draft model fits them.

``easy`` is the model with what its layers from the third on add damped, and ``draft`` is its first
two layers. The less the later layers add, the more often both choose the same token, so the factor
sets the share of drafts that is accepted without any training. ``easy`` alone has DAMPING;
``easy-0.1`` states another. A real model's answers are
useless after that.

The same model gives the same bytes, whatever the machine.
"""

import hashlib
import json
import math
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from enginebench.base.errors import UserError
from enginebench.plan import model_files, models, tensor_file
from enginebench.plan.tensor_file import BYTES, FLOATS, Form, Stored
from enginebench.plan.weight_formats import FORMATS, WeightFormat

RECIPE = "1"  # part of what names the directory: raise it whenever any byte may change
KINDS = (*FORMATS, "easy", "draft")
DRAFT_LAYERS = 2
DAMPING = 0.02
_EASY = re.compile(r"easy(?:-(0\.\d{1,4}))?")
_COPIED = (".json", ".jinja", ".model", ".txt")
_NOT_COPIED = ("config.json", "model.safetensors.index.json")
_LAYER = re.compile(r"model\.layers\.(\d{1,5})\.")
_MATRIX = re.compile(
    r"model\.layers\.\d+\.(?:self_attn\.[qkvo]_proj|mlp\.(?:gate|up|down)_proj)\.weight"
)
_BESIDE = re.compile(
    r"(?:model\.embed_tokens|model\.norm|lm_head)\.weight"
    r"|model\.layers\.\d+\.(?:(?:input|post_attention)_layernorm\.weight"
    r"|self_attn\.(?:[qkvo]_proj\.bias|[qk]_norm\.weight|rotary_emb\.inv_freq)"
    r"|mlp\.(?:gate|up|down)_proj\.bias)"
)
_ADDS = re.compile(r"\.(?:o_proj|down_proj)\.(?:weight|bias)$")  # to what passes the layer by


@dataclass(frozen=True, slots=True)
class _Source:
    """A Llama-like model."""

    directory: Path
    config: dict[str, Any]
    tensors: Mapping[str, Stored]
    layers: int


def derive(model_dir: Path, kind: str, cache: Path) -> Path:
    """The directory of a derived copy below ``cache``, made now if it is not there yet.

    That takes seconds for the embedded model.

    Args:
        model_dir: a model of safetensors files, in one or in shards.
        kind: one of KINDS, or ``easy-`` and a factor below 1.
        cache: where models are kept; made if missing.

    Raises:
        UserError: the kind is not known, or the model is none that can be converted.
    """
    if kind not in KINDS and not _EASY.fullmatch(kind):
        raise UserError(
            f"derived model: expected one of {', '.join(KINDS)}, found {kind!r}; correct the name"
        )
    source = _source(model_dir)
    digest = hashlib.sha256(f"{RECIPE}\0{kind}\0{_identity(model_dir)}".encode()).hexdigest()
    if kind in FORMATS:
        _require_convertible(source, kind)
    elif source.layers <= DRAFT_LAYERS:
        raise _refusal(model_dir, kind, f"more than {DRAFT_LAYERS} layers", str(source.layers))
    name = f"{model_dir.name}-{kind}-{digest[:12]}"
    return model_files.made_once(cache, name, lambda directory: _write(directory, source, kind))


def _identity(directory: Path) -> str:
    """What tells a model from another one; of large weights their place and times, too, as they are
    not read for it."""
    sha256, hashed = models.fingerprint(directory)
    if hashed == models.EVERY_FILE:
        return sha256
    files = sorted(path for path in directory.iterdir() if path.is_file())
    times = [f"{file.name} {file.stat().st_mtime_ns}" for file in files]
    return "\0".join([sha256, str(directory.resolve()), *times])


def _source(directory: Path) -> _Source:
    config = model_files.read_object(directory / "config.json")
    if config.get("quantization_config"):
        raise UserError(
            f"{directory}: expected weights that are not quantized to derive others from, found "
            "quantization_config in config.json; give the model that it was made of"
        )
    tensors = tensor_file.stored(directory)
    for name, tensor in tensors.items():
        if not _MATRIX.fullmatch(name) and not _BESIDE.fullmatch(name):
            raise UserError(
                f"{directory}: expected the tensors of a Llama-like model to derive others from, "
                f"found {name[:80]}; give a model of plain decoder layers"
            )
        _require_plain(directory, name, tensor)
    layers = len({match[1] for name in tensors if (match := _LAYER.match(name))})
    if config.get("num_hidden_layers") != layers or not layers:
        raise UserError(
            f"{directory}: expected as many layers as config.json states in num_hidden_layers, "
            f"found {layers} of {config.get('num_hidden_layers')}; download it again"
        )
    return _Source(directory, config, tensors, layers)


def _require_plain(directory: Path, name: str, tensor: Stored) -> None:
    """Refuse a dtype that is not of weights, and bytes that are not those of dtype and sizes."""
    dtype, sizes = tensor.form
    if dtype not in FLOATS or tensor.size != BYTES[dtype] * math.prod(sizes):
        raise UserError(
            f"{directory}: expected weights in {', '.join(FLOATS)} to derive others from, found "
            f"{name} of {tensor.size} bytes in {dtype[:20]}; give another model"
        )


def _require_convertible(source: _Source, kind: str) -> None:
    to = FORMATS[kind]
    for name, tensor in source.tensors.items():
        _, sizes = tensor.form
        if not _MATRIX.fullmatch(name):
            continue
        if len(sizes) != 2 or sizes[0] % to.outputs_of or sizes[1] % to.inputs_of:
            expected = f"outputs a multiple of {to.outputs_of}, inputs of {to.inputs_of}"
            raise _refusal(source.directory, kind, expected, f"{name} of {list(sizes)}")


def _refusal(directory: Path, kind: str, expected: str, found: str) -> UserError:
    return UserError(
        f"{directory}: expected {expected} to derive {kind}, found {found}; give another model"
    )


def _write(directory: Path, source: _Source, kind: str) -> None:
    for file in sorted(source.directory.iterdir()):
        if file.suffix in _COPIED and file.name not in _NOT_COPIED:
            shutil.copyfile(file, directory / file.name)
    weights = directory / "model.safetensors"
    config = source.config
    if kind in FORMATS:
        config = config | {"quantization_config": FORMATS[kind].config}
        _write_quantized(weights, source.tensors, FORMATS[kind])
    elif kind == "draft":
        config = _shortened(config, DRAFT_LAYERS)
        _write_copied(
            weights, source.tensors, {n: 1.0 for n in source.tensors if _layer(n) < DRAFT_LAYERS}
        )
    else:
        match = _EASY.fullmatch(kind)
        damping = float(match[1]) if match and match[1] else DAMPING
        _write_copied(weights, source.tensors, _factors(source.tensors, damping))
    text = json.dumps(config, indent=2, sort_keys=True)
    (directory / "config.json").write_text(text + "\n")


def _shortened(config: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """The config of the first layers; lists with an entry a layer are cut with them."""
    shorter = dict(config) | {"num_hidden_layers": layers}
    if isinstance(types := config.get("layer_types"), list):
        shorter["layer_types"] = types[:layers]
    return shorter


def _layer(name: str) -> int:
    """The layer of a tensor; -1: it is in none."""
    match = _LAYER.match(name)
    return int(match[1]) if match else -1


def _factors(names: Mapping[str, object], damping: float) -> dict[str, float]:
    """By name what each tensor is multiplied by."""
    is_damped = {name: _layer(name) >= DRAFT_LAYERS and _ADDS.search(name) for name in names}
    return {name: damping if damped else 1.0 for name, damped in is_damped.items()}


def _write_copied(path: Path, tensors: Mapping[str, Stored], factors: Mapping[str, float]) -> None:
    """The tensors that have a factor, multiplied by it, in the dtype they had."""

    def make(name: str) -> dict[str, np.ndarray]:
        tensor = tensors[name]
        if factors[name] == 1.0:
            return {name: tensor.raw()}
        values = tensor.floats() * np.float32(factors[name])
        dtype = tensor.form[0]
        if dtype == "BF16":
            return {name: tensor_file.bfloat16(values)}
        return {name: values.astype("<f2" if dtype == "F16" else "<f4")}

    tensor_file.write(path, {name: tensors[name].form for name in factors}, factors, make)


def _write_quantized(path: Path, tensors: Mapping[str, Stored], to: WeightFormat) -> None:
    """The matrices of the layers in another form; all other tensors as they are."""
    forms: dict[str, Form] = {}
    for name, tensor in tensors.items():
        if not _MATRIX.fullmatch(name):
            forms[name] = tensor.form
            continue
        outputs, inputs = tensor.form[1]
        ends = to.forms(outputs, inputs).items()
        forms |= {f"{name.removesuffix('weight')}{end}": form for end, form in ends}

    def make(name: str) -> dict[str, np.ndarray]:
        if not _MATRIX.fullmatch(name):
            return {name: tensors[name].raw()}
        made = to.tensors(tensors[name].floats())
        return {f"{name.removesuffix('weight')}{end}": tensor for end, tensor in made.items()}

    tensor_file.write(path, forms, tensors, make)

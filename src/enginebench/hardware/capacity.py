"""What fits on a device before anything is started: weights, KV cache, tokens, requests."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enginebench.base.errors import UserError
from enginebench.hardware import data_sheets
from enginebench.hardware.roofline import DTYPE_BYTES, Shape, UnknownShape, shape

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Fit:
    """How a device's memory divides, in bytes and tokens."""

    kv_bytes_per_token: float
    weights_bytes: float
    usable_bytes: float  # what an engine may take
    kv_bytes: float  # usable - weights; activations and CUDA graphs will take some of it
    tokens: int  # whole tokens that fit into kv_bytes; 0 where the weights alone do not fit
    requests: int  # whole requests of full context

    @property
    def fits(self) -> bool:
        return self.kv_bytes > 0


def fit(model: Shape, dtype: str, kv_dtype: str, usable_bytes: float, context: int) -> Fit:
    """Divide a device's memory.

    Args:
        dtype, kv_dtype: of the weights, and of keys and values; names of ``DTYPE_BYTES``.
        context: tokens of one request, prompt and output together.

    Raises:
        UnknownShape: the model's cache does not grow with its context.
    """
    if model.window is not None and context > model.window:
        raise UnknownShape(
            f"sliding-window attention keeps {model.window} tokens of {context}, "
            "which is not worked out here"
        )
    per_token = model.kv_bytes_per_token(DTYPE_BYTES[kv_dtype])
    weights_bytes = model.weights * DTYPE_BYTES[dtype]
    kv_bytes = usable_bytes - weights_bytes
    tokens = max(int(kv_bytes // per_token), 0)
    return Fit(per_token, weights_bytes, usable_bytes, kv_bytes, tokens, tokens // context)


def requests_that_fit(capacity_tokens: float, request_tokens: int, block_tokens: int = 1) -> int:
    """How many requests of this length a paged cache holds: each takes whole blocks."""
    blocks = -(-request_tokens // block_tokens)
    return int(capacity_tokens // (blocks * block_tokens))


def lines(
    name: str, model: Shape, found: Fit, kv_dtype: str, context: int, source: str
) -> list[str]:
    """A fit in words, a line a step of the calculation."""
    size = DTYPE_BYTES[kv_dtype]
    heads = f"{model.layers} layers · {model.kv_heads} KV heads · {model.head_size}"
    said = [
        f"{name}: KV cache of {found.kv_bytes_per_token:,.0f} bytes a token "
        f"(2 · {heads} · {size:g} bytes, {kv_dtype})",
        f"weights {found.weights_bytes / GIB:,.2f} GiB of the {found.usable_bytes / GIB:,.2f} GiB "
        f"that an engine may take ({source})",
    ]
    if not found.fits:
        return [*said, f"the weights alone are {-found.kv_bytes / GIB:,.2f} GiB too big"]
    return [
        *said,
        f"left for keys and values {found.kv_bytes / GIB:,.2f} GiB, before activations and CUDA "
        "graphs, which take some of it",
        f"so {found.tokens:,} tokens fit: {found.requests:,} requests of {context:,} tokens",
    ]


def device_memory(name: str) -> tuple[float, str]:
    """The memory of one device in bytes, and where that is from.

    Raises:
        UserError: the name fits no device, several with different memory, or names a number of
            them.
    """
    devices = data_sheets.table("devices.yaml")
    count, single = data_sheets.parse_gpu(name)
    found = data_sheets.find_devices(single, devices)
    if found and count is not None and count > 1:
        raise UserError(f"--gpu: expected one GPU, found {name!r}; give {single!r} --gpus {count}")
    sizes = {row["gb"]: data_sheets.memory_bytes(row) for row in found}
    if len(sizes) > 1:
        family = found[0]["name"].partition("-")[0]
        gb = sorted(sizes)
        raise UserError(
            f"--gpu: expected one variant, found {name!r}: {' or '.join(map(str, gb))} GB? "
            f"give {' or '.join(f'{family}-{size}GB' for size in gb)}"
        )
    if found:  # of boards that are sold with the same memory, what the least one shows
        least = min(found, key=data_sheets.memory_bytes)
        return data_sheets.memory_bytes(least), _memory_source(least)
    known = ", ".join(row["name"] for row in devices)
    raise UserError(
        f"--gpu: expected one of {known}, found {name!r}; state its memory with --memory-gib "
        "(nvidia-smi shows it, of a MIG slice too)"
    )


def _memory_source(row: data_sheets.Row) -> str:
    memory = row["memory"]
    seen = f"{memory['mib']:,} MiB as software sees it" if "mib" in memory else "as sold"
    return f"{row['name']}, {seen}: {memory['source']}, {memory['checked']}"


def load_config(model: str) -> tuple[str, Mapping[str, Any]]:
    """A model's ``config.json`` and what to call it: from a path, our table, or the model hub.

    Raises:
        UserError: it is nowhere, or is no JSON object.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        path = path / "config.json"
    if path.exists():
        return str(path.parent.name if path.name == "config.json" else path.name), _read(path)
    for entry in data_sheets.table("models.yaml"):
        if entry["pattern"] in model.lower():
            return entry["pattern"], entry
    return model, _read(_from_hub(model))


def _read(path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: expected a model's config.json, found: {error}; name that file"
        ) from None
    if not isinstance(config, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(config).__name__}")
    # Models that see or hear keep their language model's sizes one level down.
    text = config.get("text_config")
    return text if isinstance(text, dict) and "hidden_size" in text else config


def _from_hub(model: str) -> Path:
    from huggingface_hub import hf_hub_download

    reason = "and it is no Hugging Face id (owner/name)"
    if model.count("/") == 1 and not model.startswith((".", "/", "~")):
        try:
            return Path(hf_hub_download(model, "config.json"))
        except Exception as error:  # many kinds, all of which mean the same here
            reason = f"and the model hub gave none ({type(error).__name__})"
    known = ", ".join(entry["pattern"] for entry in data_sheets.table("models.yaml"))
    raise UserError(
        f"{model}: expected a config.json, its directory or a known model ({known}), found none of "
        f"these, {reason}; name the file"
    )


def known_shape(name: str, config: Mapping[str, Any]) -> Shape:
    """The shape in a config, or one line that says why there is none."""
    try:
        return shape(config)
    except UnknownShape as error:
        raise UserError(f"{name}: {error}; expected a decoder with a plain KV cache") from None

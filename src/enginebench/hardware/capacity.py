"""What fits on a device before anything is started: weights, KV cache, tokens, requests."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enginebench.base import text_file
from enginebench.base.errors import UserError
from enginebench.hardware import data_sheets, model_names
from enginebench.hardware.model_config import shape
from enginebench.hardware.model_shape import ModelShape, UnknownShape
from enginebench.hardware.roofline import Dtypes

GIB = 1 << 30
MOST_CONFIG_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Pool:
    """How an engine divides what is left for keys and values."""

    block_tokens: int = 16
    reserved_blocks: int = 1  # that no request gets: some engines keep a null block back


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How the memory of one device divides, in bytes and tokens."""

    kv_bytes_per_token: float  # on this device, while every layer still keeps the token
    request_bytes: float  # a request of full context: keys, values and states, in whole blocks
    weights_bytes: float  # this device's share
    usable_bytes: float  # what an engine may take
    kv_bytes: float  # usable - weights; activations and CUDA graphs will take some of it
    tokens: int | None  # in whole blocks; None: layers keep different numbers of tokens
    requests: int  # whole requests of full context

    @property
    def fits(self) -> bool:
        return self.kv_bytes > 0


def fit(
    model: ModelShape,
    dtypes: Dtypes,
    usable_bytes: float,
    context: int,
    devices: int = 1,
    pool: Pool = Pool(),
) -> Fit:
    """Divide the memory of each of ``devices`` tensor-parallel devices.

    Weights are shared evenly. KV heads are shared as far as there are any, then copied.

    Args:
        usable_bytes: of one device.
        context: tokens of one request, prompt and output together.

    Raises:
        UnknownShape: the bytes of the weights are not known.
    """
    weights_bytes = model.weights_bytes(dtypes.weight_bytes) / devices
    kv_bytes = usable_bytes - weights_bytes
    per_token = model.kv_bytes_per_token(dtypes.kv_bytes, devices)
    block_bytes = per_token * pool.block_tokens
    free = max(kv_bytes - block_bytes * pool.reserved_blocks, 0.0)
    request = model.kv_bytes(context, dtypes.kv_bytes, devices, pool.block_tokens)
    request += model.state_bytes(dtypes.kv_bytes, devices)
    if model.window is None and not model.state_values and block_bytes:
        blocks = int(free // block_bytes)
        tokens = blocks * pool.block_tokens
        requests = requests_that_fit(tokens, context, pool.block_tokens)
    else:
        tokens = None
        requests = int(free // request)
    return Fit(
        kv_bytes_per_token=per_token,
        request_bytes=request,
        weights_bytes=weights_bytes,
        usable_bytes=usable_bytes,
        kv_bytes=kv_bytes,
        tokens=tokens,
        requests=requests,
    )


def requests_that_fit(
    capacity_tokens: float, request_tokens: int, block_tokens: int = 1, reserved_blocks: int = 0
) -> int:
    """How many requests of this length a paged cache holds: each takes whole blocks.

    Args:
        reserved_blocks: of the capacity, that no request gets.
    """
    blocks = -(-request_tokens // block_tokens)
    free = max(int(capacity_tokens // block_tokens) - reserved_blocks, 0)
    return free // blocks


def lines(
    name: str,
    model: ModelShape,
    found: Fit,
    dtypes: Dtypes,
    context: int,
    source: str,
    devices: int = 1,
    pool: Pool = Pool(),
) -> list[str]:
    """A fit in words, a line a step of the calculation."""
    each = " on each GPU" if devices > 1 else ""
    parts = [_cache_text(model, found, dtypes, devices)]
    if model.state_values:
        state = model.state_bytes(dtypes.kv_bytes, devices)
        parts.append(f"state of {state:,.0f} bytes a request, whatever its length")
    if model.left_out:
        parts.append(f"not counted: {', '.join(model.left_out)}")
    text = [f"{name}: {parts[0]}", *parts[1:]]
    text.append(
        f"weights {found.weights_bytes / GIB:,.2f} GiB{each} of the "
        f"{found.usable_bytes / GIB:,.2f} GiB that an engine may take ({source})"
    )
    if not found.fits:
        return [*text, f"the weights alone are {-found.kv_bytes / GIB:,.2f} GiB too big"]
    text.append(
        f"left for keys and values {found.kv_bytes / GIB:,.2f} GiB{each}, before activations and "
        "CUDA graphs, which take some of it"
    )
    blocks = f"in whole blocks of {pool.block_tokens}, {pool.reserved_blocks} kept back"
    if found.tokens is None:
        text.append(
            f"so {found.requests:,} requests of {context:,} tokens fit, "
            f"{found.request_bytes:,.0f} bytes each ({blocks})"
        )
        if model.window is not None and context > model.window:
            whole = found.kv_bytes_per_token * -(-context // pool.block_tokens) * pool.block_tokens
            text.append(
                f"an engine that keeps the whole context in every layer needs {whole:,.0f} bytes "
                "a request"
            )
    else:
        text.append(
            f"so {found.tokens:,} tokens fit: {found.requests:,} requests of {context:,} tokens "
            f"({blocks})"
        )
    return text


def _cache_text(model: ModelShape, found: Fit, dtypes: Dtypes, devices: int) -> str:
    if not model.caches:
        return "no KV cache"
    terms = []
    for cache in model.caches:
        held = -(-cache.heads // devices)
        heads = f"{held} KV head{'s' * (held != 1)}"
        size = f"2 · {cache.layers} layers · {heads} · {cache.head_values // 2}"
        if cache.heads == 1 and model.is_latent:
            size = f"{cache.layers} layers · a latent of {cache.head_values}"
        if (span := cache.window or cache.chunk) is not None:
            size += f", for the last {span:,} tokens at most"
        terms.append(size)
    each = " on each GPU" if devices > 1 else ""
    inner = terms[0] if len(terms) == 1 else "(" + "; ".join(terms) + ")"
    return (
        f"KV cache of {found.kv_bytes_per_token:,.0f} bytes a token{each} "
        f"({inner} · {dtypes.kv_bytes:g} bytes, {dtypes.kv})"
    )


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

    Our table answers for a bare name, and for an id of the account whose model it is.

    Raises:
        UserError: it is nowhere, is no JSON object, or the name leaves a version open.
    """
    if (path := _local(model)) is not None:
        return str(path.parent.name if path.name == "config.json" else path.name), _read(path)
    named = model_names.find(model, data_sheets.table("models.yaml"))
    owner = model.split("/")[0].lower() if "/" in model else None
    rows = [row for row in named.rows if owner in (None, *(name.lower() for name in row["owners"]))]
    if named.is_quantized or not rows:
        return model, _read(_from_hub(model))
    if len(rows) > 1:
        versions = ", ".join(row["name"] for row in rows)
        raise UserError(f"{model}: expected one version ({versions}), found none; name one of them")
    return rows[0]["name"], rows[0]


def _local(model: str) -> Path | None:
    """The file of this name, or the config of the directory of this name, if there is one."""
    try:
        path = Path(model).expanduser()
        path = path / "config.json" if path.is_dir() else path
        return path if path.exists() else None
    except (OSError, RuntimeError, ValueError):  # too long; no home of that user; a NUL
        return None


def _read(path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(text_file.read_text(path, MOST_CONFIG_BYTES))
    except (text_file.UnreadableFile, ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: expected a model's config.json, found: {error}; name that file"
        ) from None
    if not isinstance(config, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(config).__name__}")
    return config


def _from_hub(model: str) -> Path:
    from huggingface_hub import hf_hub_download

    reason = "and it is no Hugging Face id (owner/name)"
    if model.count("/") == 1 and not model.startswith((".", "/", "~")):
        try:
            return Path(hf_hub_download(model, "config.json"))
        except Exception as error:  # many kinds, all of which mean the same here
            reason = f"and the model hub gave none ({type(error).__name__})"
    known = ", ".join(entry["name"] for entry in data_sheets.table("models.yaml"))
    raise UserError(
        f"{model}: expected a config.json, its directory or a known model ({known}), found none of "
        f"these, {reason}; name the file"
    )


def known_shape(name: str, config: Mapping[str, Any]) -> ModelShape:
    """The shape in a config, or one line that says why there is none."""
    try:
        return shape(config)
    except UnknownShape as error:
        raise UserError(
            f"{name}: {error}; nothing is computed for a form that is not known here"
        ) from None

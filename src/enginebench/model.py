"""Which model a study runs: the embedded one, a local directory, or a Hugging Face id."""

import hashlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enginebench import embedded
from enginebench.errors import UserError

FULL_HASH_LIMIT_BYTES = 2 << 30  # above this, hashing the weights takes longer than it tells
_WANTED = ("*.json", "*.safetensors", "tokenizer*", "*.model", "*.jinja", "*.txt")


@dataclass(frozen=True, slots=True)
class Model:
    name: str  # as the study names it
    path: Path
    sha256: str
    hashed: str  # what the hash covers
    has_random_weights: bool
    config: dict[str, Any]  # config.json
    parameters: int | None = None  # weights in its files; None: they are not safetensors

    @property
    def context(self) -> int | None:
        """The longest sequence the model was made for, in tokens; None if it does not say."""
        value = self.config.get("max_position_embeddings")
        return int(value) if value is not None else None


def resolve(name: str, texts: list[str], cache: Path) -> Model:
    """Find or make the model.

    Args:
        name: "embedded", a path to a model directory, or a Hugging Face id ``owner/name``.
        texts: the study's prompts, which train the embedded model's tokenizer.
        cache: where the embedded model is kept.
    """
    if name == "embedded":
        try:
            path = embedded.make(texts, cache)
        except OSError as error:
            raise UserError(
                f"{cache}: cannot keep the embedded model there ({error.strerror}); "
                "make it writable or give another directory with --cache"
            ) from None
    elif Path(name).expanduser().exists():
        path = Path(name).expanduser().resolve()
    elif name.count("/") == 1 and not name.startswith((".", "/", "~")):
        path = _download(name)
    else:
        raise UserError(
            f"model: expected 'embedded', a model directory or a Hugging Face id (owner/name), "
            f"found {name!r}, and no such path exists; correct `model` in the study"
        )
    config_file = path / "config.json"
    if not config_file.is_file():
        raise UserError(
            f"{path}: expected a model directory with config.json, found none there; "
            "correct `model` in the study"
        )
    sha256, hashed = _hash(path)
    try:
        config = json.loads(config_file.read_text())
    except ValueError as error:
        raise UserError(f"{config_file}: expected JSON, found: {error}; mend that file") from None
    return Model(name, path, sha256, hashed, name == "embedded", config, _parameters(path))


def _download(name: str) -> Path:
    """Fetch a model from the hub into its cache, before any engine's clock runs."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(_WANTED)))
    except Exception as error:  # the hub client's errors are of many kinds, all end the same way
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
        token = "set" if os.environ.get("HF_TOKEN") else "not set"
        raise UserError(
            f"model {name!r}: no such path here, and the model hub gave none "
            f"({type(error).__name__}: {reason[:160]}; HF_TOKEN is {token}); "
            "check the name, the network and your access, or give a local path"
        ) from None


def _parameters(path: Path) -> int | None:
    """Weights in the model's safetensors files, from their headers.

    The format: eight bytes of length, little-endian, and so many of JSON, with a shape a tensor.
    """
    count = 0
    for file in path.glob("*.safetensors"):
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        count += sum(math.prod(t["shape"]) for n, t in header.items() if n != "__metadata__")
    return count or None


def _hash(path: Path) -> tuple[str, str]:
    """sha256 over every file of the model, or over names and sizes where the weights are big."""
    files = sorted(p for p in path.iterdir() if p.is_file())
    whole = sum(p.stat().st_size for p in files) <= FULL_HASH_LIMIT_BYTES
    digest = hashlib.sha256()
    for file in files:
        is_weights = file.suffix in (".safetensors", ".bin")
        digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
        if whole or not is_weights:
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest(), "every file" if whole else "every file; weights by name and size"

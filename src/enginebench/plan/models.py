"""Which model a study runs: a generated one, a local directory, or a Hugging Face id."""

import hashlib
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enginebench.base.errors import UserError
from enginebench.hardware import data_sheets
from enginebench.hardware.model_config import text_config
from enginebench.plan import model_files, random_model
from enginebench.plan.random_model import EMBEDDED, Design, Shape

FULL_HASH_LIMIT_BYTES = 2 << 30  # above this, hashing the weights takes longer than it is worth
EVERY_FILE = "every file"
RANDOM = "random:"
_WANTED = ("*.json", "*.safetensors", "tokenizer*", "*.model", "*.jinja", "*.txt")


@dataclass(frozen=True, slots=True)
class Model:
    name: str  # as the study names it
    path: Path
    sha256: str
    hashed: str  # what the hash covers
    has_random_weights: bool
    config: dict[str, Any]  # config.json
    parameters: int | None = None  # in its files; None: not safetensors, or packed several to one
    weights_bytes: int | None = None  # of the tensors in its files; None: not safetensors

    @property
    def context(self) -> int | None:
        """The longest sequence the model was made for, in tokens; None if it does not say."""
        value = text_config(self.config).get("max_position_embeddings")
        is_count = isinstance(value, int) and not isinstance(value, bool) and value > 0
        return value if is_count else None


def design(name: str) -> Design | None:
    """The design of a generated model by its name in a study; None: it is not generated.

    Raises:
        UserError: ``random:`` and a name of no known Llama's shape.
    """
    if name == EMBEDDED.name:
        return EMBEDDED
    if not name.startswith(RANDOM):
        return None
    # What has no rope_theta there is no plain Llama: experts, windows or biases.
    known = {row["name"]: row for row in data_sheets.table("models.yaml") if "rope_theta" in row}
    row = known.get(name.removeprefix(RANDOM))
    if row is None:
        raise UserError(
            f"model: expected {RANDOM} with one of {', '.join(known)}, found {name!r}; "
            "correct `model` in the study"
        )
    title = name.replace(":", "-")
    hidden, heads = row["hidden_size"], row["num_attention_heads"]
    sizes = Shape(
        row["num_hidden_layers"],
        hidden,
        heads,
        row["num_key_value_heads"],
        hidden // heads,
        row["intermediate_size"],
        row["vocab_size"],
    )
    return Design(title, sizes, row["max_position_embeddings"], row["rope_theta"])


def resolve(
    name: str, texts: list[str], cache: Path, log: Callable[[str], None] = lambda text: None
) -> Model:
    """Find or make the model.

    Args:
        name: "embedded", "random:" and the name of a shape, a path to a model directory, or a
            Hugging Face id ``owner/name``.
        texts: the study's prompts, which train the tokenizer of a generated model.
        cache: where generated models are kept.
        log: gets a line before each step that takes long.
    """
    if (generated := design(name)) is not None:
        if generated is not EMBEDDED:
            size = 2 * generated.shape.weights / 1e9
            log(f"model {name}: {size:.1f} GB of random weights, generated unless in the cache ...")
        path = random_model.make(texts, cache, generated)
    elif (local := _local(name)) is not None:
        path = local
    elif name.count("/") == 1 and not name.startswith((".", "/", "~")):
        path = _download(name)
    else:
        raise UserError(
            f"model: expected 'embedded', '{RANDOM}' and a known shape, a model directory or a "
            f"Hugging Face id (owner/name), "
            f"found {name!r}, and no such path exists; correct `model` in the study"
        )
    config_file = path / "config.json"
    if not config_file.is_file():
        raise UserError(
            f"{path}: expected a model directory with config.json, found none there; "
            "correct `model` in the study"
        )
    try:
        model_files.require_files(path)
        config = model_files.read_object(config_file)
        counted = _weights(path)
        sha256, hashed = fingerprint(path)
    except OSError as error:
        raise UserError(
            f"{error.filename or path}: expected a file of the model that can be read, found "
            f"{error.strerror}; correct its permissions, or `model` in the study"
        ) from None
    return Model(name, path, sha256, hashed, generated is not None, config, *counted)


def _local(name: str) -> Path | None:
    """The path of this name, if there is one."""
    try:
        path = Path(name).expanduser()
        return path.resolve() if path.exists() else None
    except (OSError, RuntimeError, ValueError):  # too long; no home of that user; a NUL
        return None


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


def _weights(path: Path) -> tuple[int | None, int | None]:
    """Parameters and bytes of the model's safetensors files, from their headers.

    Where there is an index, only the files that it names count: some models come with the same
    weights a second time in one file. Parameters are None where whole numbers are packed several to
    an element (AWQ, GPTQ): their elements are no parameters.

    Raises:
        UserError: a file is no safetensors file, such as a pointer of Git LFS.
    """
    parameters, size, is_packed = 0, 0, False
    for file in model_files.weight_files(path):
        for tensor in model_files.header(file).values():
            start, end = tensor["data_offsets"]
            size += end - start
            parameters += math.prod(tensor["shape"])
            is_packed |= tensor["dtype"] in ("I32", "U8") and math.prod(tensor["shape"]) > 1
    return None if is_packed or not parameters else parameters, size or None


def fingerprint(path: Path) -> tuple[str, str]:
    """sha256 over every file of the model, or over names and sizes where the weights are big."""
    files = sorted(p for p in path.iterdir() if p.is_file())
    is_complete = sum(p.stat().st_size for p in files) <= FULL_HASH_LIMIT_BYTES
    digest = hashlib.sha256()
    for file in files:
        is_weights = file.suffix in (".safetensors", ".bin")
        digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
        if is_complete or not is_weights:
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return (
        digest.hexdigest(),
        EVERY_FILE if is_complete else f"{EVERY_FILE}; weights by name and size",
    )

"""The files of a model directory: its weights, what their headers say, and making one."""

import json
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from enginebench.base import text_file
from enginebench.base.errors import UserError

MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors library
MOST_JSON_BYTES = 256 << 20
#: Weights that come beside the ones that engines load: the same a second time, or additions.
_BESIDE = ("consolidated", "adapter_model")


def require_files(path: Path) -> None:
    """Refuse a directory in which a file that engines load is only a pointer of Git LFS."""
    for file in sorted(path.iterdir()):
        loads = file.suffix in (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".json", ".model")
        if loads and file.is_file() and file.stat().st_size < 1024:
            with file.open("rb") as stream:
                if stream.read(len(text_file.LFS_HEAD)) == text_file.LFS_HEAD:
                    raise UserError(_pointer(file))


def _pointer(file: Path) -> str:
    return f"{file}: expected a file of the model, found a pointer of Git LFS; run `git lfs pull`"


def read_object(file: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        UserError: it does not, or cannot be read.
    """
    try:
        value = json.loads(text_file.read_text(file, MOST_JSON_BYTES))
    except text_file.UnreadableFile as error:
        raise UserError(
            f"{error.where(file)}: expected JSON, found {error.reason}; download it again"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: expected JSON, found: {error}; download it again") from None
    if not isinstance(value, dict):
        raise UserError(f"{file}: expected a JSON object, found another; download it again")
    return value


def weight_files(path: Path) -> list[Path]:
    """The safetensors files that engines load: those of the index, or the one, or all shards.

    Raises:
        UserError: the index is none, or names a file that is not there.
    """
    index = path / "model.safetensors.index.json"
    if index.exists():
        return _indexed(path, index)
    if (single := path / "model.safetensors").is_file():
        return [single]
    found = sorted(path.glob("*.safetensors"))
    return [file for file in found if not file.name.startswith(_BESIDE)] or found


def _indexed(path: Path, index: Path) -> list[Path]:
    shards = read_object(index).get("weight_map")
    names = set(shards.values()) if isinstance(shards, dict) and _are_names(shards) else set()
    if not names:
        raise UserError(
            f"{index}: expected an index of weights (weight_map with a file beside it for each "
            "tensor), found none; download that file again"
        )
    files = [path / name for name in sorted(names)]
    if gone := next((file for file in files if not file.is_file()), None):
        raise UserError(f"{gone}: expected this file of weights, found none; download it again")
    return files


def _are_names(shards: dict[str, Any]) -> bool:
    """Names of files in the same directory, and nothing that leads elsewhere."""
    return all(
        isinstance(name, str) and re.fullmatch(r"[^/\0]+\.safetensors", name)
        for name in shards.values()
    )


def header(file: Path) -> dict[str, Any]:
    """The tensors of a safetensors file by name, each with dtype, shape and place.

    The format (github.com/huggingface/safetensors, README): eight bytes of length, little-endian,
    and so many of JSON, then the tensors.

    Raises:
        UserError: it is no such file, or not the whole of one.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        if start == text_file.LFS_HEAD[:8]:
            raise UserError(_pointer(file))
        length = int.from_bytes(start, "little")
        try:
            if len(start) < 8 or length > min(MAX_HEADER_BYTES, size - 8):
                raise ValueError
            found = json.loads(stream.read(length))
            tensors = {n: t for n, t in found.items() if n != "__metadata__"}
            whole = 8 + length + max((_end(tensor) for tensor in tensors.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise UserError(
                f"{file}: expected a safetensors file, found another or an incomplete one; "
                "download it again"
            ) from None
    if size < whole:
        raise UserError(
            f"{file}: expected {whole} bytes by its header, found {size}: the file is cut off; "
            "download it again"
        )
    return tensors


def _end(tensor: dict[str, Any]) -> int:
    """Where a tensor's bytes end.

    Raises:
        ValueError, KeyError, TypeError: it is none.
    """
    begin, end = tensor["data_offsets"]
    sizes = (begin, end - begin, *tensor["shape"])
    if not all(type(n) is int and n >= 0 for n in sizes) or not isinstance(tensor["dtype"], str):
        raise ValueError
    return int(end)


def made_once(cache: Path, name: str, write: Callable[[Path], None]) -> Path:
    """The directory ``name`` below ``cache``, written by ``write`` if it is not there yet.

    It appears whole or not at all; a second process waits for the first.

    Raises:
        UserError: there is no place for it.
    """
    target = cache / name
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"{name}.lock"):
            if not target.exists():
                for left in cache.glob(f"{name}.*/"):  # by a process that was killed
                    shutil.rmtree(left, ignore_errors=True)
                work = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=cache))
                try:
                    write(work)
                    work.chmod(0o755)  # a container's user must be able to read it
                    work.replace(target)
                except BaseException:
                    shutil.rmtree(work, ignore_errors=True)
                    raise
    except OSError as error:
        raise UserError(
            f"{cache}: cannot keep the model {name} there ({error.strerror}); "
            "free some space, make it writable or give another directory with --cache"
        ) from None
    return target

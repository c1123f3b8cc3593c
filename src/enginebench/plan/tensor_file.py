"""Tensors in safetensors files: read one at a time, written in a given order.

The format (github.com/huggingface/safetensors, README): eight bytes of length, little-endian, and
so many of JSON, then the tensors without gaps. NumPy has no bfloat16: such values are raw uint16
here, converted by ``bfloat16`` and ``float32``.
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from enginebench.plan import model_files

T = TypeVar("T")
Form = tuple[str, tuple[int, ...]]  # a tensor's dtype, as safetensors names it, and its sizes
BYTES = {"BF16": 2, "F16": 2, "F32": 4, "I8": 1, "I32": 4, "I64": 8}
FLOATS = ("BF16", "F16", "F32")
MOST_THREADS = 8  # each holds a tensor some times in float32: 6 GB for Llama-3-8B's largest


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor in a file."""

    file: Path
    form: Form
    start: int  # in the file
    size: int  # bytes

    def raw(self) -> np.ndarray:
        """Its bytes."""
        return np.fromfile(self.file, np.uint8, self.size, offset=self.start)

    def floats(self) -> np.ndarray:
        """Its values in float32; its dtype must be one of FLOATS."""
        dtype, shape = self.form
        if dtype == "BF16":
            return float32(self.raw().view("<u2")).reshape(shape)
        values = self.raw().view("<f2" if dtype == "F16" else "<f4")
        return values.astype(np.float32).reshape(shape)


def stored(directory: Path) -> dict[str, Stored]:
    """The tensors of a model directory by name, in one file or in shards.

    Raises:
        UserError: a file is none of safetensors, or is missing.
    """
    found = {}
    for file in model_files.weight_files(directory):
        tensors = model_files.header(file)
        with file.open("rb") as stream:
            first = 8 + int.from_bytes(stream.read(8), "little")
        for name, tensor in tensors.items():
            start, stop = tensor["data_offsets"]
            form = (tensor["dtype"], tuple(tensor["shape"]))
            found[name] = Stored(file, form, first + start, stop - start)
    return found


def write(
    path: Path,
    forms: Mapping[str, Form],
    sources: Iterable[T],
    make: Callable[[T], Mapping[str, np.ndarray]],
) -> None:
    """Write one file, several threads at a time.

    Args:
        forms: every tensor in the order of the file.
        sources: what the tensors are made from; each is passed to ``make`` once.
        make: the tensors that come of one source, by name.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    spans, offset = {}, 0
    for name, (dtype, shape) in forms.items():
        end = offset + BYTES[dtype] * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        spans[name], offset = (offset, end), end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of eight
    head = len(text).to_bytes(8, "little") + text
    with path.open("wb") as file:
        file.write(head)
        file.flush()

        def write_all(source: T) -> None:
            for name, tensor in make(source).items():
                start, end = spans[name]
                left, place = memoryview(tensor.tobytes()), len(head) + start
                assert len(left) == end - start, name
                while left:  # one call writes at most 2 GiB
                    count = os.pwrite(file.fileno(), left, place)
                    left, place = left[count:], place + count

        threads = min(len(os.sched_getaffinity(0)), MOST_THREADS)
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(write_all, sources))


def bfloat16(values: np.ndarray) -> np.ndarray:
    """float32 to bfloat16, rounded to nearest even, as raw uint16."""
    raw = values.view("<u4")
    rounded = raw + np.uint32(0x7FFF) + ((raw >> np.uint32(16)) & np.uint32(1))
    return (rounded >> np.uint32(16)).astype("<u2")


def float32(raw: np.ndarray) -> np.ndarray:
    """bfloat16 as raw uint16 to float32."""
    return (raw.astype("<u4") << np.uint32(16)).view("<f4")

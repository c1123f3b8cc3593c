"""A model by its name in a table of shapes: only where the name leaves no doubt.

A name is taken apart into words. Words that change neither shape nor precision (``chat``, ``hf``)
are skipped, words of a precision are read, and any other word makes it another model: a fine-tuned
model or another version is not taken for its base. Pure.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

#: Words of a name that say nothing about its shape or precision.
_PLAIN = frozenset(("meta", "chat", "hf", "instruct", "it", "base", "text", "fp16", "bf16"))
#: Words of a quantized checkpoint, and the precision of its weights; None: the word leaves it open.
_QUANTIZED: Mapping[str, str | None] = {
    "awq": "int4", "w4a16": "int4", "w4a8": "int4", "int4": "int4", "4bit": "int4",
    "fp8": "fp8", "int8": "int8", "w8a8": "int8", "w8a16": "int8", "8bit": "int8",
    "nvfp4": "fp4", "mxfp4": "fp4", "fp4": "fp4",
    "gptq": None, "gguf": None, "ggml": None, "exl2": None, "exl3": None, "bnb": None, "hqq": None,
    "quantized": None, "quant": None, "autoround": None, "smoothquant": "int8", "marlin": None,
    "aqlm": None, "dynamic": None, "nf4": "int4", "q4": None, "q8": None,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Named:
    """What a name says."""

    rows: tuple[Mapping[str, Any], ...]  # of the table: several where a version is not named
    is_quantized: bool = False
    precision: str | None = None  # of the weights, if the name states it


def words(name: str) -> list[str]:
    """A name's words: ``Meta-Llama-3-8B`` and ``Llama 3 8B`` are the same but for ``meta``."""
    text = name.rsplit("/", 1)[-1].lower()
    text = re.sub(r"(llama|mistral|mixtral|qwen)(?=\d)", r"\1-", text)
    text = re.sub(r"\b(int|float|bfloat|fp)[ -](?=\d)", r"\1", text)
    text = re.sub(r"\b([48])[ -]?bits?\b", r"\1bit", text)
    return [word for word in re.split(r"[\s_\-:()]+|(?<!\d)\.|\.(?!\d)", text) if word]


def find(name: str, table: Iterable[Mapping[str, Any]]) -> Named:
    """The rows of the table that a name may mean.

    A row with a version (``mistral-7b-v0.1``) is meant by a name without one as well, and then all
    versions are returned.
    """
    found = words(name)
    quantized = [
        word for word in found if word in _QUANTIZED or re.fullmatch(r"i?q\d\w*|\d+g", word)
    ]
    plain = [word for word in found if word not in _PLAIN and word not in quantized]
    rows = []
    for row in table:
        wanted = words(row["name"])
        if sorted(plain) == sorted(wanted):
            rows = [row]
            break
        if re.fullmatch(r"v\d[\d.]*", wanted[-1]) and sorted(plain) == sorted(wanted[:-1]):
            rows.append(row)
    stated = {_QUANTIZED.get(word) for word in quantized} - {None}
    precision = stated.pop() if len(stated) == 1 else None
    return Named(tuple(rows), bool(quantized), precision)

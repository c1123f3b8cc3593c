"""Prompts: where they come from, and how they become prompts of an exact token length.

Every engine gets the same prompts, so they are made once per study, by the model's own tokenizer,
from a seed. A prompt's text re-tokenizes to exactly its ids (checked), so an engine that takes ids
and an engine that takes text do the same work. Each prompt starts with a tag of its own: no two
share a first block, so no prefix cache can help.
"""

import hashlib
import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from enginebench.base.errors import UserError
from enginebench.plan.study_file import PromptFormat

ATTEMPTS = 200  # different texts tried for one prompt before giving up


@dataclass(frozen=True, slots=True)
class Prompt:
    ids: tuple[int, ...]
    text: str
    sha256: str  # of the ids, as little-endian 32-bit numbers


def read_sources(path: Path, fmt: PromptFormat = "auto") -> list[str]:
    """The prompts of a file.

    Formats: ``blocks`` (each prompt after a line ``%% KIND``, as in prompts.txt), ``lines`` (one a
    line), ``jsonl`` (a ``prompt`` or ``text`` key a line), ``sharegpt`` (JSON list of
    conversations; the first human turn), ``dialogues`` (JSON list or JSONL with ``dialogue``, as
    SAMSum has it; an instruction to summarize is put before each).

    Raises:
        UserError: the file cannot be read, does not have the format, or holds no prompt.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UserError(
            f"{path}: expected a file of prompts, found none ({reason}); "
            "name one with prompts.path in the study"
        ) from None
    if fmt == "auto":
        fmt = _guess(path, text)
    try:
        found = [prompt.strip() for prompt in _READERS[fmt](text)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: expected prompts in the format {fmt!r}, found: {error}; "
            "set prompts.format in the study"
        ) from None
    prompts = [prompt for prompt in found if prompt]
    if not prompts:
        raise UserError(
            f"{path}: expected at least one prompt in the format {fmt!r}, found none; "
            "add prompts or name another file with prompts.path in the study"
        )
    return prompts


def _guess(path: Path, text: str) -> PromptFormat:
    if path.suffix == ".jsonl":
        return "dialogues" if '"dialogue"' in text[:4096] else "jsonl"
    if path.suffix == ".json":
        return "dialogues" if '"dialogue"' in text[:4096] else "sharegpt"
    return "blocks" if text.lstrip().startswith(("%%", "#")) else "lines"


def _blocks(text: str) -> Iterable[str]:
    block: list[str] | None = None  # None: the comment lines before the first prompt
    for line in text.splitlines():
        if line.startswith("%%"):
            if block is not None:
                yield "\n".join(block)
            block = []
        elif block is not None:
            block.append(line)
    if block is not None:
        yield "\n".join(block)


def _json_items(text: str) -> list[Any]:
    if text.lstrip().startswith("["):
        items = json.loads(text)
        return list(items)
    # Not splitlines(): JSON strings may hold U+2028 and its like as they are.
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def _jsonl(text: str) -> Iterable[str]:
    return (item["prompt"] if "prompt" in item else item["text"] for item in _json_items(text))


def _sharegpt(text: str) -> Iterable[str]:
    for item in _json_items(text):
        turns = item["conversations"]
        human = [turn["value"] for turn in turns if turn["from"] in ("human", "user")]
        yield from human[:1]


def _dialogues(text: str) -> Iterable[str]:
    return (f"Summarize this dialogue:\n\n{item['dialogue']}" for item in _json_items(text))


_READERS: Mapping[str, Callable[[str], Iterable[str]]] = {
    "blocks": _blocks,
    "lines": str.splitlines,
    "jsonl": _jsonl,
    "sharegpt": _sharegpt,
    "dialogues": _dialogues,
}


def load_tokenizer(model: Path) -> Tokenizer:
    """The tokenizer of a local model directory."""
    file = model / "tokenizer.json"
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception for every failure
        raise UserError(
            f"{file}: expected a tokenizer in tokenizer.json, found: {error}; "
            "convert the model's tokenizer with transformers (save_pretrained) first"
        ) from None


def make_set(
    tokenizer: Tokenizer, sources: Sequence[str], length: int, count: int, seed: str
) -> list[Prompt]:
    """``count`` different prompts of exactly ``length`` tokens each, the same for the same seed.

    A prompt is a tag of its own and then source texts in a seeded order, cut at ``length`` tokens.
    A cut inside a word may tokenize otherwise on the way back; then another order is tried. What
    the tokenizer puts in front of any text (a beginning of sequence) counts: an engine that is sent
    the text puts it there itself, an engine that is sent the ids is sent it.

    Raises:
        UserError: the tokenizer cannot give such prompts.
    """
    prompts: dict[tuple[int, ...], Prompt] = {}
    head = tokenizer.encode("").ids
    for index in range(count):
        prompt = _make_one(tokenizer, head, sources, length, f"{seed}/{index}")
        if prompt is None or prompt.ids in prompts:
            reason = "none re-tokenizes to its own ids" if prompt is None else "two are the same"
            raise UserError(
                f"prompt_tokens: expected {count} different prompts of exactly {length} tokens, "
                f"found that {reason}; ask for a longer prompt or name other prompts in the study"
            )
        prompts[prompt.ids] = prompt
    return list(prompts.values())


def _make_one(
    tokenizer: Tokenizer, head: list[int], sources: Sequence[str], length: int, seed: str
) -> Prompt | None:
    for attempt in range(ATTEMPTS):
        draw = random.Random(f"{seed}/{attempt}")
        tag = hashlib.sha256(f"{seed}/{attempt}".encode()).hexdigest()[:8]
        body = _fill(tokenizer, sources, length, tag, draw)[: max(length - len(head), 0)]
        text = tokenizer.decode(body, skip_special_tokens=False)
        ids = head + body
        if tokenizer.encode(text).ids == ids and len(ids) == length:
            raw = b"".join(token.to_bytes(4, "little") for token in ids)
            return Prompt(tuple(ids), text, hashlib.sha256(raw).hexdigest())
    return None


def _fill(
    tokenizer: Tokenizer, sources: Sequence[str], length: int, tag: str, draw: random.Random
) -> list[int]:
    """The ids of a text of at least ``length`` tokens: the tag, then sources as drawn."""
    text = tag
    ids: list[int] = []
    while len(ids) < length:
        before = len(text)
        # Several at a time: a long prompt must not cost one tokenizer call for each short source.
        missing = max(length - len(ids), 1)
        while len(text) - before < missing * 4:
            text += "\n\n" + draw.choice(sources)
        ids = list(tokenizer.encode(text, add_special_tokens=False).ids)
    return ids


def file_sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

"""Files of prompts, in the forms that data sets have.

An entry without a prompt (null, empty, a conversation in which no human speaks) is left out and
counted. One of another form than the file's is refused, with its number and its keys.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enginebench.base import text_file
from enginebench.base.errors import UserError
from enginebench.base.text import one_line
from enginebench.plan.study_file import PromptFormat

MOST_BYTES = 2 << 30
_HUMAN = ("human", "user")


@dataclass(frozen=True, slots=True)
class Sources:
    """The prompts of a file, and how many of its entries have none."""

    texts: tuple[str, ...]
    left_out: int = 0


class _Odd(ValueError):
    """An entry of another form, in words that follow "found"."""


def read(path: Path, fmt: PromptFormat = "auto") -> Sources:
    """The prompts of a file.

    Formats: ``blocks`` (each prompt after a line ``%% KIND``, as in prompts.txt), ``lines`` (one a
    line), ``jsonl`` (a ``prompt`` or ``text`` key a line), ``sharegpt`` (JSON list of
    conversations; the first human turn), ``dialogues`` (JSON list or JSONL with ``dialogue``, as
    SAMSum has it; an instruction to summarize is put before each). ``auto``: by the first entry's
    keys in .json and .jsonl, by the first line in others. Half a character (a lone surrogate) in
    JSON becomes U+FFFD.

    Raises:
        UserError: the file cannot be read, does not have the format, or holds no prompt.
    """
    try:
        text = text_file.read_text(path, MOST_BYTES)
    except text_file.UnreadableFile as error:
        raise UserError(
            f"{error.where(path)}: expected a file of prompts, found none ({error.reason}); "
            "name one with prompts.path in the study"
        ) from None
    asked = fmt
    try:
        is_json = path.suffix.lower() in (".json", ".jsonl") if fmt == "auto" else fmt in _ENTRIES
        items = _json_items(text) if is_json else []
        if fmt == "auto":
            fmt = _guess(path, text, items)
        found = list(_texts(fmt, text, items))
    except _Odd as error:
        advice = "set prompts.format in the study" if asked == "auto" else "correct the file"
        raise UserError(
            f"{path}: expected prompts in the format {_name(fmt, path)!r}, found: "
            f"{one_line(str(error))[:300]}; {advice}"
        ) from None
    prompts = [_whole(prompt.strip()) for prompt in found if prompt and prompt.strip()]
    if not prompts:
        raise UserError(
            f"{path}: expected at least one prompt in the format {fmt!r}, found none; "
            "add prompts or name another file with prompts.path in the study"
        )
    left_out = len(found) - len(prompts) if fmt in _ENTRIES else 0  # empty lines are no entries
    return Sources(tuple(prompts), left_out)


def _name(fmt: PromptFormat, path: Path) -> str:
    """A format, before it could be guessed too."""
    return fmt if fmt != "auto" else path.suffix.lower().removeprefix(".")


def _guess(path: Path, text: str, items: list[tuple[str, Any]]) -> PromptFormat:
    suffix = path.suffix.lower()
    if suffix not in (".json", ".jsonl"):
        return "blocks" if text.lstrip().startswith(("%%", "#")) else "lines"
    for _, item in items:
        keys = set(item) if isinstance(item, dict) else set()
        for key, fmt in _BY_KEY.items():
            if key in keys:
                return fmt
    return "jsonl" if suffix == ".jsonl" else "sharegpt"


def _texts(fmt: PromptFormat, text: str, items: list[tuple[str, Any]]) -> Iterator[str | None]:
    """A text an entry; None where it has none."""
    if fmt == "lines":
        yield from text.split("\n")
    elif fmt == "blocks":
        yield from _blocks(text)
    else:
        for where, item in items:
            try:
                yield None if item is None else _ENTRIES[fmt](item)
            except _Odd as error:
                raise _Odd(f"{where}: {error}") from None


def _blocks(text: str) -> Iterator[str]:
    block: list[str] | None = None  # None: the comment lines before the first prompt
    for line in text.split("\n"):
        if line.startswith("%%"):
            if block is not None:
                yield "\n".join(block)
            block = []
        elif block is not None:
            block.append(line)
    if block is not None:
        yield "\n".join(block)


def _json_items(text: str) -> list[tuple[str, Any]]:
    """The entries of a JSON list, or of JSON lines, each with its place for messages."""
    if text.lstrip().startswith("["):
        return [(f"entry {k}", item) for k, item in enumerate(_json(text, 0), 1)]
    # Not splitlines(): JSON strings may hold U+2028 and its like as they are.
    lines = enumerate(text.split("\n"), 1)
    return [(f"line {k}", _json(line, k)) for k, line in lines if line.strip()]


def _json(text: str, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise _Odd(f"line {line or error.lineno}: {error.msg}, column {error.colno}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; nested deeply
        raise _Odd(f"line {line}: {error}" if line else str(error)) from None


def _field(item: Any, names: tuple[str, ...], kind: type = str) -> Any:
    """The first of these keys that an entry has, as this type, or None where it is null."""
    if not isinstance(item, dict):
        raise _Odd(f"{_shown(item)}; wanted: an object with {' or '.join(map(repr, names))}")
    name = next((name for name in names if name in item), None)
    if name is None:
        keys = ", ".join(map(repr, list(item)[:8])) or "none"
        raise _Odd(f"the keys {keys}; wanted: {' or '.join(map(repr, names))}")
    value = item[name]
    if value is not None and not isinstance(value, kind):
        raise _Odd(f"{name!r} is {_shown(value)}; wanted: a {'text' if kind is str else 'list'}")
    return value


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"[:80]


def _plain(item: Any) -> str | None:
    found: str | None = _field(item, ("prompt", "text"))
    return found


def _conversation(item: Any) -> str | None:
    """What a human says first."""
    turns = _field(item, ("conversations", "conversation"), list) or []
    for number, turn in enumerate(turns, 1):
        if turn is None:
            continue
        try:
            speaker = _field(turn, ("from",))
            value: str | None = _field(turn, ("value",))
        except _Odd as error:
            raise _Odd(f"turn {number}: {error} (a turn has 'from' and 'value')") from None
        if speaker in _HUMAN:
            return value
    return None


def _dialogue(item: Any) -> str | None:
    found = _field(item, ("dialogue",))
    return f"Summarize this dialogue:\n\n{found}" if found and found.strip() else None


_ENTRIES: Mapping[str, Callable[[Any], str | None]] = {
    "jsonl": _plain,
    "sharegpt": _conversation,
    "dialogues": _dialogue,
}
_BY_KEY: Mapping[str, PromptFormat] = {
    "conversations": "sharegpt",
    "prompt": "jsonl",
    "dialogue": "dialogues",
    "text": "jsonl",
    "conversation": "sharegpt",
}


def _whole(text: str) -> str:
    """A text whose halves of characters are joined, or U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

"""How a row becomes a line of JSON: secrets blanked, non-finite numbers refused, nothing copied.

Redaction works on the encoded line. Only where a secret occurs in it is the row taken apart, and
then only its free text is changed: names that the harness gives (ids, labels, phases, steps) stay
even where a secret happens to be the same word, as an API key of "default" or "measured".
"""

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, get_type_hints

import msgspec
import numpy as np

from enginebench.base.errors import UserError
from enginebench.base.redaction import changed_texts, hide_home, redact
from enginebench.record.json_schema import RAW_FILES
from enginebench.record.schema import IDENTIFIER

_encode = msgspec.json.Encoder().encode


class Encoder:
    """Encodes rows and documents for a record."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = tuple(secrets)
        self._needles = tuple(dict.fromkeys(_escaped(self._secrets)))

    def line(self, row: Any, where: str) -> bytes:
        """One row as a line of JSON.

        Args:
            row: plain data, a dataclass or a msgspec.Struct.
            where: names the row in messages.

        Raises:
            UserError: it has a number that JSON has not (NaN, infinity).
        """
        require_finite(row, where)
        line = _json(row)
        if self._may_hold_a_secret(line):
            line = _json(_cleaned(row, self._redact))
        return line + b"\n"

    def document(self, value: Any, where: str) -> bytes:
        """One indented JSON document; raises like ``line``."""
        require_finite(value, where)
        return json.dumps(self.redacted(value), indent=2, allow_nan=False).encode() + b"\n"

    def redacted(self, value: Any) -> Any:
        """The same as plain data, without secrets and without the home directory in its free
        text."""
        return _cleaned(value, lambda text: hide_home(self._redact(text)))

    def _redact(self, text: str) -> str:
        return redact(text, self._secrets)

    def _may_hold_a_secret(self, line: bytes) -> bool:
        if b"://" in line and b"@" in line:
            return True
        return any(needle in line for needle in self._needles)


def _cleaned(value: Any, clean: Callable[[str], str], name: str = "") -> Any:
    """A value of a field with its free text changed."""
    value = _plain(value)
    if isinstance(value, str):
        return value if name in identifiers() else clean(value)
    if isinstance(value, Mapping):
        if name in identifiers():
            return _all_plain(value)
        if name in free_objects():
            return changed_texts(_all_plain(value), clean)
        return {key: _cleaned(item, clean, key) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(v, clean, name if isinstance(v, str) else "") for v in value]
    return value


@functools.cache
def identifiers() -> frozenset[str]:
    """The names of all fields whose text the harness gives itself, by the schema."""
    return frozenset(name for name, hint in _fields() if _is_identifier(hint))


@functools.cache
def free_objects() -> frozenset[str]:
    """The names of all fields that hold an object of anybody's making, as an environment."""
    return frozenset(
        name
        for name, hint in _fields()
        if not _is_identifier(hint) and ("dict[" in str(hint) or "typing.Any" in str(hint))
    )


def _fields() -> Iterator[tuple[str, Any]]:
    for struct in structs():
        yield from get_type_hints(struct, include_extras=True).items()


def structs() -> set[type[msgspec.Struct]]:
    """All types that raw files are made of."""
    found: set[type[msgspec.Struct]] = set()
    waiting: list[Any] = list(RAW_FILES.values())
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            if kind not in found:
                found.add(kind)
                waiting += get_type_hints(kind).values()
        else:
            waiting += getattr(kind, "__args__", ())
    return found


def _is_identifier(hint: Any) -> bool:
    marks = getattr(hint, "__metadata__", ())
    if any(getattr(mark, "extra", None) == IDENTIFIER for mark in marks):
        return True
    return any(_is_identifier(part) for part in getattr(hint, "__args__", ()))


def _escaped(secrets: Sequence[str]) -> Iterator[bytes]:
    """The forms that a secret has inside of JSON: as UTF-8, and with escapes for non-ASCII."""
    for secret in secrets:
        yield json.dumps(secret)[1:-1].encode()
        try:
            yield _encode(secret)[1:-1]
        except UnicodeEncodeError:  # a byte of the environment that is not UTF-8
            continue


def _json(row: Any) -> bytes:
    try:
        return _encode(row)
    except (TypeError, UnicodeEncodeError):  # half a character (a lone surrogate), a numpy number
        return json.dumps(_plain(row), allow_nan=False, default=_required_plain).encode()


def _required_plain(value: Any) -> Any:
    plain = _plain(value)
    if plain is value:
        raise TypeError(f"{type(value).__name__} has no form in JSON")
    return plain


def _plain(value: Any) -> Any:
    """Structs and dataclasses as dicts of their fields, numpy's numbers as Python's; not deep."""
    if isinstance(value, np.generic):
        return value.item()
    kind: Any = type(value)
    names = _field_names(kind)
    if names is None:
        return value
    fields = ((name, getattr(value, name)) for name in names)
    return {name: item for name, item in fields if item is not msgspec.UNSET}


def _all_plain(value: Any) -> Any:
    """``_plain`` at every depth."""
    value = _plain(value)
    if isinstance(value, Mapping):
        return {key: _all_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_all_plain(item) for item in value]
    return value


@functools.cache
def _field_names(kind: type) -> tuple[str, ...] | None:
    """The fields of a struct or a dataclass; None of anything else."""
    if issubclass(kind, msgspec.Struct):
        return kind.__struct_fields__
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    return None


def require_finite(value: Any, where: str) -> None:
    """Refuse NaN and infinity, which an encoder would silently write as null.

    Raises:
        UserError: names the field.
    """
    place = _not_finite(value)
    if place is not None:
        raise UserError(
            f"{where}: expected finite numbers, found NaN or infinity in {place.lstrip('.')}; "
            "nothing was written: this is a fault of the harness or of the engine's answer"
        )


def with_finite_numbers(value: Any) -> Any:
    """The same with null in place of NaN and infinity."""
    value = _plain(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: with_finite_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [with_finite_numbers(item) for item in value]
    return value


def _not_finite(value: Any) -> str | None:
    """Where a value has a number that is not finite, as ``.field[index]``; None: nowhere."""
    kind: Any = type(value)
    if kind is str or kind is int or value is None:  # most values of a row
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else ""
    items: Iterable[tuple[Any, Any]]
    if kind is list or kind is tuple:
        if _is_surely_finite(value):
            return None
        items = enumerate(value)
    elif isinstance(value, Mapping):
        items = value.items()
    else:
        items = ((name, getattr(value, name)) for name in _field_names(kind) or ())
    for name, item in items:
        place = _not_finite(item)
        if place is not None:
            return (f"[{name}]" if isinstance(name, int) else f".{name}") + place
    return None


def _is_surely_finite(values: Sequence[Any]) -> bool:
    """A sum is finite only if every term is; of anything but numbers there is none."""
    try:
        return math.isfinite(sum(values))
    except (TypeError, OverflowError):
        return False

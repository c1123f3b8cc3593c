"""Secrets stay out of everything that is written down."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SECRET_WORDS = {"TOKEN", "KEY", "APIKEY", "SECRET", "PASSWORD", "PASSWD"}
SHORTEST = 6  # a shorter value would blank out ordinary text
MASK = "***"


def values() -> list[str]:
    """The values of all environment variables whose name says that they are secret."""
    found = {
        value
        for name, value in os.environ.items()
        if SECRET_WORDS & set(name.upper().split("_")) and len(value) >= SHORTEST
    }
    return sorted(found, key=len, reverse=True)


def redact(text: str) -> str:
    return str(_without(text, values()))


def redact_values(value: Any) -> Any:
    """Redact every string in plain data, before it becomes JSON and its quotes are escaped."""
    return _without(value, values())


def _without(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, MASK)
        return value
    if isinstance(value, Mapping):
        return {_without(key, secrets): _without(item, secrets) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without(item, secrets) for item in value]
    return value


def redact_file(path: Path) -> None:
    """Blank out secrets in a finished file; a file without any is left untouched."""
    with contextlib.suppress(OSError):
        text = path.read_text(errors="surrogateescape")
        clean = redact(text)
        if clean != text:
            path.write_text(clean, errors="surrogateescape")

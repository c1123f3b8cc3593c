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
    for value in values():
        text = text.replace(value, MASK)
    return text


def redact_values(value: Any) -> Any:
    """Redact every string in plain data, before it becomes JSON and its quotes are escaped."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redact_values(key): redact_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact_values(item) for item in value]
    return value


def redact_file(path: Path) -> None:
    """Blank out secrets in a finished file; a file without any is left untouched."""
    with contextlib.suppress(OSError):
        text = path.read_text(errors="surrogateescape")
        clean = redact(text)
        if clean != text:
            path.write_text(clean, errors="surrogateescape")

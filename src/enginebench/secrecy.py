"""Secrets stay out of everything that is written down."""

import contextlib
import os
from pathlib import Path

SECRET_WORDS = ("TOKEN", "KEY", "SECRET", "PASSWORD")
SHORTEST = 6  # a shorter value would blank out ordinary text
MASK = "***"


def values() -> list[str]:
    """The values of all environment variables whose name says that they are secret."""
    found = {
        value
        for name, value in os.environ.items()
        if any(word in name.upper() for word in SECRET_WORDS) and len(value) >= SHORTEST
    }
    return sorted(found, key=len, reverse=True)


def redact(text: str) -> str:
    for value in values():
        text = text.replace(value, MASK)
    return text


def redact_file(path: Path) -> None:
    """Blank out secrets in a finished file; a file without any is left untouched."""
    with contextlib.suppress(OSError):
        text = path.read_text(errors="surrogateescape")
        clean = redact(text)
        if clean != text:
            path.write_text(clean, errors="surrogateescape")

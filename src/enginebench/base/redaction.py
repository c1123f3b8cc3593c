"""Secrets stay out of everything that is written down.

A secret is the value of an environment variable whose name marks it as one, or the userinfo of a
URL (``https://user:password@host``), in the environment or in the text itself.
"""

import contextlib
import functools
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

#: Words of a variable's name, between underscores, that mark a secret. TOKENS is not one of them:
#: MAX_NUM_BATCHED_TOKENS is a number.
SECRET_WORDS = {
    *("TOKEN", "KEY", "KEYS", "APIKEY", "SECRET", "SECRETS", "PASSWORD", "PASSWORDS", "PASSWD"),
    *("PASS", "SSHPASS", "PASSPHRASE", "CREDENTIAL", "CREDENTIALS", "CREDS", "PAT", "AUTH"),
    *("AUTHORIZATION", "BEARER", "COOKIE", "JWT"),
}
#: Ends of such a word, as in PGPASSWORD or HFTOKEN.
SECRET_ENDS = ("TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "APIKEY", "ACCESSKEY")
SHORTEST = 6  # a shorter value would blank out ordinary text
MASK = "***"

#: Userinfo in a URL, up to and with its @. Its length is bounded, so that a search stays linear.
_USERINFO = re.compile(r"""(?<=://)[^\s/?#@"'<>\\]{1,1024}@""")


def is_secret_name(name: str) -> bool:
    """Whether an environment variable of this name holds a secret."""
    words = re.split(r"[_\W]+", name.upper())
    if "PWD" in words and len(words) > 1:  # MYSQL_PWD; PWD alone is a directory
        return True
    return any(word in SECRET_WORDS or word.endswith(SECRET_ENDS) for word in words)


def is_secret(name: str, value: str) -> bool:
    """Whether a variable is a secret, by its name or as its value is a URL with a password."""
    return is_secret_name(name) or any(_passwords(value))


def values(environment: Mapping[str, str] | None = None) -> list[str]:
    """All secrets of the environment (default: of this process), the longest first."""
    found = set()
    for name, value in (os.environ if environment is None else environment).items():
        if is_secret_name(name):
            found |= {value, value.strip()}
        found |= set(_passwords(value))
    return sorted((v for v in found if len(v) >= SHORTEST), key=lambda v: (-len(v), v))


def _passwords(text: str) -> Iterator[str]:
    """The passwords of URLs in a text, or their users where they have no password."""
    for word in re.split(r"[\s,;]+", text) if "://" in text and "@" in text else ():
        with contextlib.suppress(ValueError):
            parts = urlsplit(word)
            secret = parts.password or (parts.username if parts.password is None else None)
            if secret:
                yield from (secret, unquote(secret))


def redact(text: str, secrets: Sequence[str] | None = None) -> str:
    """A text without secrets (default: those of this process's environment, read now)."""
    for secret in values() if secrets is None else secrets:
        text = text.replace(secret, MASK)
    return _USERINFO.sub(f"{MASK}@", text) if "://" in text else text


def redact_values(value: Any, secrets: Sequence[str] | None = None) -> Any:
    """Redact every string in plain data; the keys of objects stay."""
    known = values() if secrets is None else secrets
    return changed_texts(value, lambda text: redact(text, known))


def changed_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Plain data with every string changed; the keys of objects stay."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: changed_texts(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [changed_texts(item, change) for item in value]
    return value


def home() -> str:
    """The home directory of this user; empty where there is none that could be told from others."""
    path = os.environ.get("HOME", "").rstrip("/")
    return path if path.startswith("/") else ""


class Redactor:
    """Redacts the lines of a log, and shortens the home directory to ``~``.

    A secret of several lines, as a private key, is blanked line by line too: a log is read so.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        parts = {part.strip() for secret in secrets for part in secret.splitlines()}
        found = {*secrets, *(part for part in parts if len(part) >= SHORTEST)}
        self._secrets = sorted(found, key=lambda value: (-len(value), value))

    def bytes(self, line: bytes) -> bytes:
        """A line, or several whole ones, as they may be written."""
        text = line.decode(errors="surrogateescape")
        return hide_home(redact(text, self._secrets)).encode(errors="surrogateescape")


def hide_home(text: str, path: str | None = None) -> str:
    """A text with ``~`` in place of the home directory (default: this user's)."""
    path = home() if path is None else path
    return _home_pattern(path).sub("~", text) if path and path in text else text


@functools.cache
def _home_pattern(path: str) -> re.Pattern[str]:
    """The directory where a path begins with it, not within a longer path or name."""
    return re.compile(rf"(?<![\w.~-]){re.escape(path)}(?![\w-]|\.\w)")

"""Secrets stay out of everything that is written down.

A secret is the value of an environment variable whose name marks it as one, or the userinfo of a
URL (``https://user:password@host``), in the environment or in the text itself.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
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
    secrets = values() if secrets is None else secrets
    if isinstance(value, str):
        return redact(value, secrets)
    if isinstance(value, Mapping):
        return {key: redact_values(item, secrets) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact_values(item, secrets) for item in value]
    return value


def redact_file(path: Path) -> None:
    """Blank out secrets in a finished file; a file without any is left untouched."""
    with contextlib.suppress(OSError):
        text = path.read_bytes().decode(errors="surrogateescape")
        clean = redact(text)
        if clean != text:
            path.write_bytes(clean.encode(errors="surrogateescape"))

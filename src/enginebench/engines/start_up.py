"""What an engine's log says of its own start: the patterns of ``x-start-up``, applied. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

#: What a pattern may give the seconds of. ``init`` is all that follows the weights until the engine
#: serves; it contains ``compile`` and ``capture``.
PARTS = ("weights", "compile", "capture", "init")
CACHES = ("cache_found", "cache_new")  # patterns that say whether there was a compile cache


@dataclass(frozen=True, slots=True)
class StartUp:
    """A start by the engine's own account; None: its log does not say."""

    weights_s: float | None = None
    compile_s: float | None = None
    capture_s: float | None = None  # of CUDA graphs
    init_s: float | None = None
    compile_cache: Literal["found", "new"] | None = None  # found: from an earlier start


def patterns(data: object) -> dict[str, str]:
    """The patterns of a launch file, by name.

    Raises:
        ValueError: they are not as they must be; in words that follow "found".
    """
    if not isinstance(data, dict):
        raise ValueError(f"a {type(data).__name__} in place of the patterns of x-start-up")
    for name, pattern in data.items():
        if name not in (*PARTS, *CACHES):
            known = ", ".join((*PARTS, *CACHES))
            raise ValueError(f"x-start-up: {name!r}, which is none of {known}")
        try:
            groups = re.compile(pattern).groups
        except (re.error, OverflowError, RecursionError, TypeError) as error:
            raise ValueError(f"x-start-up.{name}: {pattern!r}, no pattern ({error})") from None
        if groups != (wanted := int(name in PARTS)):
            raise ValueError(f"x-start-up.{name}: {groups} groups in place of {wanted}")
    return data


def read(found: Mapping[str, str], log: str) -> StartUp:
    """What a log says.

    Args:
        found: as ``patterns`` gives them.
        log: all that the engine printed until it was ready.
    """
    is_found, is_new = (
        name in found and re.search(found[name], log) is not None for name in CACHES
    )
    return StartUp(
        weights_s=_seconds(found.get("weights"), log),
        compile_s=_seconds(found.get("compile"), log),
        capture_s=_seconds(found.get("capture"), log),
        init_s=_seconds(found.get("init"), log),
        compile_cache="found" if is_found else "new" if is_new else None,
    )


def _seconds(pattern: str | None, log: str) -> float | None:
    """The sum over all lines: a model and its draft are loaded one after the other."""
    texts = re.findall(pattern, log) if pattern else []
    if not texts or not all(re.fullmatch(r"\d{1,7}(\.\d{1,12})?", text) for text in texts):
        return None
    return sum(map(float, texts))

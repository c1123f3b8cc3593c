"""What an engine's options change in the bound on its time: quantization, speculation, KV dtype.

Read from how the engine was started, by words that all engines' options share. Pure.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_SPECULATION = re.compile(r"speculat|draft|assist|num.?lookahead|ngram", re.I)
_QUANTIZATION = re.compile(r"quantiz|load.?in.?[48].?bit", re.I)
_KV_DTYPE = re.compile(r"kv.?cache.?dtype", re.I)
_OFF = frozenset(("", "none", "no", "off", "false", "0", "auto", "null"))


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options of a run; None: left to the engine."""

    kv_dtype: str | None = None  # as it is written there
    is_quantized: bool = False  # the options state how to quantize, or how the checkpoint is
    is_speculative: bool = False  # several tokens may come of one reading of the weights


def run_options(facts: Mapping[str, Any]) -> RunOptions:
    """The options in the command line and environment of a recorded launch."""
    pairs = [*_flags(facts.get("command") or ()), *(facts.get("env") or {}).items()]
    on = [(str(name), str(value)) for name, value in pairs if str(value).lower() not in _OFF]
    return RunOptions(
        next((value for name, value in on if _KV_DTYPE.search(name)), None),
        any(_QUANTIZATION.search(name) for name, _ in on),
        any(_SPECULATION.search(name) for name, _ in on),
    )


def _flags(argv: Sequence[str]) -> Iterable[tuple[str, str]]:
    """Flags and their values: ``--name=value``, ``--name value`` or ``--name`` alone."""
    for word, after in zip(argv, [*argv[1:], "-"], strict=False):
        if word.startswith("-"):
            name, equals, value = word.partition("=")
            yield name, value if equals else ("on" if after.startswith("-") else after)

"""What an engine's ``engine.py`` tells the harness: how to ask, how to read, which names.

``engine.py`` defines one constant, ``DIALECT``. Everything else about an engine is in its
``launch.yaml``.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One generation wanted from an engine: this prompt, exactly this many greedy tokens."""

    prompt_ids: tuple[int, ...]
    prompt_text: str  # re-tokenizes to prompt_ids (checked when the prompt set is made)
    output_tokens: int
    seed: int = 0
    prompt_sha256: str = ""  # of the ids
    wants_ids: bool = False  # ask for the answer's token ids and margins too, if it can be asked


@dataclass(slots=True)  # made for every event: frozen, it would take three times as long
class Usage:
    """Token counts as the engine states them; None where it does not."""

    prompt_tokens: int | None = None
    output_tokens: int | None = None  # so far, if the engine sends usage with every event
    cached_tokens: int | None = None  # prompt tokens served from a prefix cache


@dataclass(slots=True)
class Delta:
    """What one event of the stream said."""

    text: str = ""
    tokens: int | None = None  # tokens in this event, where the protocol fixes it
    usage: Usage | None = None
    finish_reason: str | None = None
    error: str | None = None
    token_ids: tuple[int, ...] = ()  # of the tokens in this event, where they were asked for
    # Natural-logarithm probability of each token above that of the next best one, or None.
    margins: tuple[float | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one engine is spoken to."""

    generate_path: str
    body: Callable[
        [GenerationRequest], Mapping[str, Any]
    ]  # the JSON body for exactly N greedy tokens
    read: Callable[[str], Delta]  # the data of one event -> what it said
    # Our metric name -> the engine's names for it, the first one present is read. Series of one
    # name that differ in their labels (engines side by side, ranks) are added up, but for SHARE
    # and SAME below. ``name[label]`` reads a number that stands in a label, ``a*b`` the product of
    # two; fields of a JSON page are named ``outer.inner``.
    metrics: Mapping[str, tuple[str, ...]]
    health_path: str = "/health"
    metrics_path: str = "/metrics"
    version_path: str = "/version"
    # For an engine that only logs how many tokens its KV cache holds: a pattern whose groups are
    # numbers to be multiplied.
    capacity_in_log: str = ""
    # Blocks of its KV cache that an engine keeps for itself: ``kv_capacity_tokens`` has them, and
    # ``kv_used_ratio`` is a share of the others.
    kv_blocks_kept_back: int = 0


#: The metric names that a dialect may map, each with its meaning and unit.
METRIC_NAMES: Mapping[str, str] = {
    "requests_running": "requests being generated now",
    "requests_waiting": "requests accepted but not started",
    "prompt_tokens_total": "prompt tokens processed since start",
    "output_tokens_total": "tokens generated since start",
    "kv_used_ratio": "share of the KV cache in use, 0 to 1",
    "kv_used_tokens": "tokens of KV cache in use, with the padding or the rest of blocks",
    "kv_reserved_bytes": "bytes set aside for keys and values",
    "kv_capacity_tokens": "tokens that the KV cache can hold; absent: it grows as needed",
    "kv_block_tokens": "tokens of a block, the unit in which the cache is given out",
    "preemptions_total": "requests pushed out of the KV cache since start",
    "prefix_hit_tokens_total": "prompt tokens found in a prefix cache since start",
    "prefix_query_tokens_total": "prompt tokens looked up in a prefix cache since start",
}

#: Of several series the mean, each weighted with its own capacity.
SHARE = "kv_used_ratio"
#: The same in every series, or not known.
SAME = "kv_block_tokens"


def capacity_in_log(pattern: str, log: str) -> int | None:
    """Tokens of KV cache as an engine's log states them: the product of the pattern's groups."""
    found = re.search(pattern, log) if pattern else None
    return math.prod(int(number) for number in found.groups()) if found else None

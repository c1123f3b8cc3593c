"""The types of an engine's ``engine.py``: how to send a request, how to read events, metric names.

``engine.py`` defines one constant, ``DIALECT``. All else about an engine is in its ``launch.yaml``.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One request: this prompt, and exactly this many tokens of greedy decoding."""

    prompt_ids: tuple[int, ...]
    prompt_text: str  # re-tokenizes to prompt_ids (checked when the prompt set is made)
    output_tokens: int
    seed: int = 0
    prompt_sha256: str = ""  # hash of prompt_ids
    wants_ids: bool = False  # request token ids and margins too, if the engine can give them


@dataclass(slots=True)  # one per event: frozen, it would take three times as long
class Usage:
    """Token counts as the engine states them; None: not stated."""

    prompt_tokens: int | None = None
    output_tokens: int | None = None  # so far, if the engine sends usage with every event
    cached_tokens: int | None = None  # prompt tokens served from a prefix cache


@dataclass(slots=True)
class Delta:
    """The content of one event of the stream."""

    text: str = ""
    tokens: int | None = None  # tokens in this event, if the protocol fixes it
    usage: Usage | None = None
    finish_reason: str | None = None
    error: str | None = None
    token_ids: tuple[int, ...] = ()  # of the tokens in this event, if requested
    #: Log probability of each token minus that of the next best one, in nats; None: unknown.
    margins: tuple[float | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Scoring:
    """How an engine is asked for the log-probabilities of a prompt's tokens, without a stream."""

    path: str
    body: Callable[[GenerationRequest], Mapping[str, Any]]  # the JSON body
    #: From the whole answer: the natural logarithm of the probability of every token of the prompt
    #: but the first, in order. Raises ValueError for an answer without them.
    read: Callable[[GenerationRequest, str], Sequence[float]]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the harness talks to one engine."""

    generate_path: str
    body: Callable[[GenerationRequest], Mapping[str, Any]]  # the JSON body of a request
    read: Callable[[str], Delta]  # from the data of one event
    #: A name of METRIC_NAMES -> the engine's names for it; the first one present is read. Series
    #: that differ only in their labels (replicas, ranks) are summed, except SHARE and SAME below.
    #: ``name[label]`` reads the number in a label, ``a*b`` is the product of two; fields of a JSON
    #: page are named ``outer.inner``.
    metrics: Mapping[str, tuple[str, ...]]
    health_path: str = "/health"
    metrics_path: str = "/metrics"
    version_path: str = "/version"
    #: For an engine that only logs the capacity of its KV cache: a pattern. The product of its
    #: groups is the number of tokens.
    capacity_in_log: str = ""
    #: Blocks of the KV cache that the engine keeps for itself: ``kv_capacity_tokens`` includes
    #: them, ``kv_used_ratio`` is a share of the others.
    kv_blocks_kept_back: int = 0
    scoring: Scoring | None = None  # None: it gives no log-probabilities of a prompt


#: The metric names that a dialect may map, each with its meaning and unit.
METRIC_NAMES: Mapping[str, str] = {
    "requests_running": "requests being generated now",
    "requests_waiting": "requests accepted but not started",
    "prompt_tokens_total": "prompt tokens processed since start",
    "output_tokens_total": "tokens generated since start",
    "kv_used_ratio": "share of the KV cache in use, 0 to 1",
    "kv_used_tokens": "tokens of KV cache in use, with padding and unused parts of blocks",
    "kv_reserved_bytes": "bytes set aside for keys and values",
    "kv_capacity_tokens": "tokens that the KV cache can hold; absent: it grows as needed",
    "kv_block_tokens": "tokens per block, the unit in which the cache is allocated",
    "preemptions_total": "requests evicted from the KV cache since start",
    "prefix_hit_tokens_total": "prompt tokens found in a prefix cache since start",
    "prefix_query_tokens_total": "prompt tokens looked up in a prefix cache since start",
    "drafts_total": "drafts of speculative decoding that were checked since start",
    "draft_tokens_total": "tokens of these drafts since start",
    "draft_tokens_accepted_total": "of these, tokens that the model accepted since start",
}

#: Several series of this metric give their mean, weighted by capacity.
SHARE = "kv_used_ratio"
#: Several series of this metric must be equal; else it is unknown.
SAME = "kv_block_tokens"


def capacity_in_log(pattern: str, log: str) -> int | None:
    """Tokens of KV cache in an engine's log: the product of the pattern's groups, if it matches.

    None, too, where that is no number of tokens that a record could hold.
    """
    match = re.search(pattern, log) if pattern else None
    texts = match.groups() if match else ()
    if not texts or not all(text and text.isdecimal() and len(text) <= 18 for text in texts):
        return None
    tokens = math.prod(map(int, texts))
    return tokens if tokens < 2**53 else None

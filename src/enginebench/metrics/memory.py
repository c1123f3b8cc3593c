"""Where the memory of an engine goes in a cell, from its scrapes and the client's own log. Pure.

One set of names for every engine::

    total = weights + KV reserved + other

``total`` is what the machine shows (GPU memory, or on a CPU the PSS of the processes); ``other`` is
the remainder, stated and not explained: runtime, activations, graphs, allocator, and on a CPU minus
the pages of a reserved pool that nobody has touched yet.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from enginebench.metrics import kv_in_flight
from enginebench.metrics.request_table import Columns

#: Fewer samples than these have likely missed the peaks of a cell.
LEAST_SAMPLES = 10

Page = Mapping[
    str, float | None
]  # our metrics from one scrape, by the names of dialect.METRIC_NAMES


@dataclass(frozen=True, slots=True)
class Sample:
    """The KV cache at one moment; None is "not measured"."""

    t_s: float
    used_tokens: float | None  # as the engine counts, with padding or the rest of blocks
    held_tokens: int  # what requests in generation must hold, by the client's log
    held_in_blocks: int  # the same, each request rounded up to whole blocks
    running: float | None
    waiting: float | None
    preemptions: float | None  # since the engine's start


def samples(
    times_s: Sequence[float], pages: Sequence[Page], requests: Columns
) -> tuple[Sample, ...]:
    """One sample a scrape, the client's account read at the same moment."""
    block = next((int(tokens) for p in pages if (tokens := p.get("kv_block_tokens"))), 1)
    held = kv_in_flight.at(times_s, requests)
    in_blocks = held if block == 1 else kv_in_flight.at(times_s, requests, block)
    return tuple(
        Sample(
            time_s,
            used_tokens(page),
            int(now),
            int(now_in_blocks),
            page.get("requests_running"),
            page.get("requests_waiting"),
            page.get("preemptions_total"),
        )
        for time_s, page, now, now_in_blocks in zip(times_s, pages, held, in_blocks, strict=True)
    )


def used_tokens(page: Page) -> float | None:
    """Tokens in use, stated as such or as a share of the capacity."""
    if (stated := page.get("kv_used_tokens")) is not None:
        return float(stated)
    ratio, capacity = page.get("kv_used_ratio"), capacity_tokens(page)
    return None if ratio is None or capacity is None else float(ratio * capacity)


def capacity_tokens(page: Page) -> float | None:
    """Tokens that requests can have: without the blocks that an engine keeps for itself."""
    stated = page.get("kv_capacity_tokens")
    return None if stated is None else float(stated - (page.get("kv_kept_back_tokens") or 0.0))


def figures(
    pages: Sequence[Page], found: Sequence[Sample], requests: Columns
) -> dict[str, float | None]:
    """The KV figures of a cell; None is "not measured"."""
    used = [sample.used_tokens for sample in found if sample.used_tokens is not None]
    is_followed = len(found) >= LEAST_SAMPLES
    return {
        "kv_capacity_tokens": _capacity(pages),
        "kv_block_tokens": _peak(pages, "kv_block_tokens"),
        "kv_reserved_bytes": _peak(pages, "kv_reserved_bytes"),
        "kv_used_tokens_peak": max(used, default=None) if is_followed else None,
        "kv_bytes_per_token_measured": _bytes_per_token(pages),
        "waiting_for_room_peak": _waiting_for_room(pages, found, requests),
        "kv_waste": _waste(found) if is_followed else None,
        "kv_follow_error": _follow_error(found) if is_followed else None,
        "requests_running_peak": _peak(pages, "requests_running"),
        "requests_waiting_peak": _peak(pages, "requests_waiting"),
    }


def account(
    total_bytes: float | None, weights_bytes: float | None, kv_reserved_bytes: float | None
) -> dict[str, float | None]:
    """The parts of what the machine shows, and the remainder; None where a part is not known."""
    parts = (total_bytes, weights_bytes, kv_reserved_bytes)
    known = None if None in parts else float(parts[0] - parts[1] - parts[2])  # type: ignore[operator]
    return {"weights_bytes": weights_bytes, "other_bytes": known}


def _capacity(pages: Sequence[Page]) -> float | None:
    return max((c for page in pages if (c := capacity_tokens(page)) is not None), default=None)


def _peak(pages: Sequence[Page], name: str) -> float | None:
    values = [float(value) for page in pages if (value := page.get(name)) is not None]
    return max(values, default=None)


def _bytes_per_token(pages: Sequence[Page]) -> float | None:
    """Reserved bytes over the tokens that they hold, where a page states both.

    A pool's tokens are its capacity, with blocks kept back; a growing cache's those in it.
    """
    for page in sorted(pages, key=lambda p: p.get("kv_reserved_bytes") or 0.0, reverse=True):
        reserved = page.get("kv_reserved_bytes")
        tokens = page.get("kv_capacity_tokens") or page.get("kv_used_tokens")
        if reserved and tokens:
            return float(reserved / tokens)
    return None


def _waiting_for_room(
    pages: Sequence[Page], found: Sequence[Sample], requests: Columns
) -> float | None:
    """The most requests that waited while the cache had no room for one more of them.

    A request also waits for its turn at the arithmetic; that is not counted.
    """
    capacity = _capacity(pages)
    waiting = [s.waiting for s in found if s.waiting is not None]
    if capacity is None or not waiting or not len(requests):
        return None
    block = _peak(pages, "kv_block_tokens") or 1.0
    shortest = int((requests.prompt_tokens_asked + requests.output_tokens_asked).min())
    needed = -(-shortest // block) * block
    return max(
        (
            s.waiting
            for s in found
            if s.waiting and s.used_tokens is not None and capacity - s.used_tokens < needed
        ),
        default=0.0,
    )


def _steady(found: Sequence[Sample]) -> list[Sample]:
    """The samples at which both the engine and the client have tokens."""
    return [s for s in found if s.used_tokens and s.held_tokens]


def _waste(found: Sequence[Sample]) -> float | None:
    """Share of the used tokens that no request in generation needs: padding, finished rows, the
    rest of blocks. The median over the samples, as a prompt in the works counts as waste."""
    shares = [1 - s.held_tokens / s.used_tokens for s in _steady(found) if s.used_tokens]
    return float(np.median(shares)) if shares else None


def _follow_error(found: Sequence[Sample]) -> float | None:
    """Median distance between the engine's curve and the client's, rounded to blocks, as a share
    of the engine's peak."""
    steady = _steady(found)
    if not steady:
        return None
    distances = [abs((s.used_tokens or 0.0) - s.held_in_blocks) for s in steady]
    return float(np.median(distances)) / max(s.used_tokens or 0.0 for s in steady)

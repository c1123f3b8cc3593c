"""Whether a cell counts: the same work was done, and the counts agree. Pure.

A cell is valid or invalid with reasons. Invalid cells are shown, never dropped.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from enginebench import prometheus
from enginebench.measure import Row


def problems(
    rows: Sequence[Row],
    asked: int,
    first: Mapping[str, Any],
    last: Mapping[str, Any],
) -> list[str]:
    """Why a cell's measured requests do not count; empty: they do.

    Args:
        rows: the measured requests.
        asked: how many there should be.
        first, last: our metrics, read right before and right after the requests.
    """
    found: list[str] = []
    if len(rows) != asked:
        found.append(f"{len(rows)} requests were recorded, {asked} were planned")
    errors = [row["error"] for row in rows if row["error"] is not None]
    if errors:
        first_line = errors[0].splitlines()[0] if errors[0] else "no reason given"
        found.append(f"{len(errors)} of {len(rows)} requests failed; the first: {first_line}")
    finished = [row for row in rows if row["error"] is None]
    found += _count(
        finished,
        lambda row: row["output_tokens"] != row["output_tokens_asked"],
        "did not make exactly the tokens asked for",
    )
    found += _count(
        finished,
        lambda row: row["prompt_tokens"] not in (None, row["prompt_tokens_asked"]),
        "had another prompt length at the engine than was sent",
    )
    found += _count(
        finished,
        lambda row: row["finish_reason"] != "length",
        "ended for another reason than their length",
    )
    found += _count(
        finished,
        lambda row: (
            None not in row["event_tokens"] and sum(row["event_tokens"]) != row["output_tokens"]
        ),
        "streamed another number of tokens than their usage says",
    )
    found += _count(
        finished, lambda row: bool(row["cached_tokens"]), "had prompt tokens served from a cache"
    )
    hashes = {row["prompt_sha256"] for row in rows}
    if len(hashes) != len(rows):
        found.append(f"{len(rows)} requests had only {len(hashes)} different prompts")
    if not errors:
        found += _counters(finished, first, last)
    return found


def _count(rows: Sequence[Row], is_bad: Any, what: str) -> list[str]:
    bad = sum(bool(is_bad(row)) for row in rows)
    return [f"{bad} of {len(rows)} requests {what}"] if bad else []


def _counters(rows: Sequence[Row], first: Mapping[str, Any], last: Mapping[str, Any]) -> list[str]:
    """The engine's own counters must have grown by what the client saw; absent ones are skipped."""
    found = []
    for counter, field in (
        ("output_tokens_total", "output_tokens"),
        ("prompt_tokens_total", "prompt_tokens"),
    ):
        grown = prometheus.difference(first, last, counter)
        if any(row[field] is None for row in rows):
            continue  # the engine does not say: there is nothing to compare with
        seen = sum(row[field] for row in rows)
        if grown is not None and grown != seen:
            found.append(f"the engine's {counter} grew by {grown:.0f}, the client counted {seen}")
    hits = prometheus.difference(first, last, "prefix_hit_tokens_total")
    if hits:
        found.append(f"{hits:.0f} prompt tokens came from a prefix cache that should be off")
    return found

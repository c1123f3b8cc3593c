"""The OpenAI completions stream, which several engines speak with small differences.

An engine's ``engine.py`` starts from these two functions and adds what is its own.
"""

from typing import Any

import orjson

from enginebench.dialect import Ask, Delta, Usage


def completions_body(ask: Ask, model: str) -> dict[str, Any]:
    """The fields that every completions server understands, for a greedy stream with usage."""
    return {
        "model": model,
        "prompt": list(ask.prompt_ids),
        "max_tokens": ask.output_tokens,
        "ignore_eos": True,
        "temperature": 0,
        "seed": ask.seed,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }


def read_completions_event(data: str) -> Delta:
    """Read one event of a completions stream.

    Usage may come with every event, in the last token's event, or in an event of its own with no
    choices. An error may come inside a 200 answer.
    """
    try:
        event = orjson.loads(data)
    except ValueError:
        if data.strip() == "[DONE]":
            return Delta()
        return Delta(error=f"an event is not JSON: {data[:200]}")
    if not isinstance(event, dict):
        return Delta(error=f"an event is not a JSON object: {data[:200]}")
    if event.get("error") is not None:
        return Delta(error=_error_text(event["error"]))
    try:
        (choice,) = event.get("choices") or [{}]
        text, reason = choice.get("text") or "", choice.get("finish_reason")
        if isinstance(text, str):
            return Delta(text, None, _usage(event.get("usage")), reason)
    except (TypeError, ValueError, AttributeError):
        pass
    return Delta(error=f"an event has not the form of a completion: {data[:200]}")


def _error_text(error: object) -> str:
    return str(error.get("message", error)) if isinstance(error, dict) else str(error)


def _usage(usage: dict[str, Any] | None) -> Usage | None:
    if not usage:
        return None
    details = usage.get("prompt_tokens_details")
    return Usage(
        usage.get("prompt_tokens"),
        usage.get("completion_tokens"),
        details.get("cached_tokens") if details else None,
    )

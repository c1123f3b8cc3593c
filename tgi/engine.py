"""TGI's dictionary: its own stream, which gives one token an event with its id.

The OpenAI routes of the same server are not used: they sample unless told otherwise, take other
errors for 422, and give neither token ids nor the logprobs of the runner-up.
"""

import json
from typing import Any

from enginebench.dialect import Ask, Delta, Dialect, Usage


def body(ask: Ask) -> dict[str, Any]:
    """No field makes it ignore the end of sequence: launch.yaml has it serve a model without one.

    Without ``parameters`` it would sample; with them it is greedy unless asked otherwise.
    """
    parameters: dict[str, Any] = {
        "max_new_tokens": ask.output_tokens,
        "do_sample": False,
        "details": True,
    }
    if ask.wants_ids:
        parameters["top_n_tokens"] = 2
    return {"inputs": ask.prompt_text, "parameters": parameters}


def read(data: str) -> Delta:
    """One token, and in the last event how many there were; or an error inside a 200 answer."""
    try:
        event = json.loads(data)
    except ValueError:
        return Delta(error=f"an event is not JSON: {data[:200]}")
    try:
        if "error" in event:
            return Delta(error=f"{event['error']} ({event.get('error_type')})")
        token, details = event["token"], event.get("details") or {}
        return Delta(
            text="" if token["special"] else token["text"],
            tokens=1,
            usage=Usage(details["input_length"], details["generated_tokens"]) if details else None,
            finish_reason=details.get("finish_reason"),
            token_ids=(token["id"],),
            margins=_margin(event.get("top_tokens") or ()),
        )
    except (KeyError, TypeError, AttributeError):
        return Delta(error=f"an event has not the form of a token: {data[:200]}")


def _margin(top: list[dict[str, Any]]) -> tuple[float | None, ...]:
    """How far the best token stood above the next one; nothing where they were not asked for."""
    best = sorted((token["logprob"] for token in top), reverse=True)
    return (best[0] - best[1],) if len(best) > 1 else (None,) if best else ()


DIALECT = Dialect(
    generate_path="/generate_stream",
    body=body,
    read=read,
    metrics={
        "requests_running": ("tgi_batch_current_size",),
        "requests_waiting": ("tgi_queue_size",),
        "prompt_tokens_total": ("tgi_request_input_length_sum",),
        "output_tokens_total": ("tgi_request_generated_tokens_sum",),
        # Given out, not filled: it sets aside every request's longest output when it is admitted.
        "kv_used_tokens": ("tgi_batch_current_max_tokens",),
        "kv_capacity_tokens": ("tgi_batch_max_total_tokens",),
    },
    version_path="/info",
)

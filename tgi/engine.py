"""TGI's dictionary: how N tokens are asked for, how its own stream is read, its metrics.

Its own route, not the OpenAI one: it streams exactly one token an event, with its id, and says how
many prompt tokens it saw.
"""

from typing import Any

from enginebench.engines import event_json
from enginebench.engines.dialect import Delta, Dialect, GenerationRequest, Usage

FINISH = {"length": "length", "eos_token": "stop", "stop_sequence": "stop"}


def body(request: GenerationRequest) -> dict[str, Any]:
    """Greedy, because ``parameters`` is there and does not say ``do_sample``.

    Nothing here can make it ignore the end of sequence: launch.yaml has it given a model without.
    """
    parameters: dict[str, Any] = {
        "max_new_tokens": request.output_tokens,
        "do_sample": False,
        "details": True,
    }
    if request.wants_ids:
        parameters["top_n_tokens"] = 2
    return {"inputs": request.prompt_text, "parameters": parameters}


def read(data: str) -> Delta:
    """One token an event; counts and reason in the last one; an error comes inside a 200 answer."""
    try:
        event = event_json.parse(data)
        if event.get("error") is not None:
            return Delta(error=f"{event['error']} ({event.get('error_type', 'of no kind')})")
        token = event["token"]
        found = Delta("" if token["special"] else token["text"], 1, token_ids=(token["id"],))
        if details := event.get("details"):
            found.usage = Usage(details.get("input_length"), details["generated_tokens"])
            found.finish_reason = FINISH.get(details["finish_reason"], details["finish_reason"])
        if top := event.get("top_tokens"):
            best = sorted((entry["logprob"] for entry in top), reverse=True)
            found.margins = (best[0] - best[1] if len(best) > 1 else None,)
        return found
    except (ValueError, TypeError, KeyError, AttributeError):
        return Delta(error=f"an event has not the form of a token: {data[:200]}")


DIALECT = Dialect(
    generate_path="/generate_stream",
    body=body,
    read=read,
    version_path="/info",
    metrics={
        "requests_running": ("tgi_batch_current_size",),
        "requests_waiting": ("tgi_queue_size",),
        "prompt_tokens_total": ("tgi_request_input_length_sum",),
        "output_tokens_total": ("tgi_request_generated_tokens_sum",),
        # Reserved by the running requests for all they may become, not used: TGI tells no more.
        "kv_used_tokens": ("tgi_batch_current_max_tokens",),
    },
    # It exports no capacity; it logs blocks and tokens a block once, at start.
    capacity_in_log=r"KV-cache blocks: (\d+), size: (\d+)",
)

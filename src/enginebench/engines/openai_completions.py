"""The OpenAI completions stream, which several engines speak with small differences.

An engine's ``engine.py`` starts from these two functions and adds what is its own.
"""

from typing import Any

from enginebench.engines import event_json
from enginebench.engines.dialect import Delta, GenerationRequest, Scoring, Usage

_NO_CHOICE: list[dict[str, Any]] = [{}]


def completions_body(request: GenerationRequest, model: str) -> dict[str, Any]:
    """The fields that every completions server understands, for a greedy stream with usage."""
    return {
        "model": model,
        "prompt": list(request.prompt_ids),
        "max_tokens": request.output_tokens,
        "ignore_eos": True,
        "temperature": 0,
        "seed": request.seed,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }


def ids_wanted(request: GenerationRequest) -> dict[str, Any]:
    """The further fields by which some servers give token ids and the two best logprobs."""
    if not request.wants_ids:
        return {}
    return {"return_token_ids": True, "return_tokens_as_token_ids": True, "logprobs": 2}


def read_completions_event(data: str) -> Delta:
    """Read one event of a completions stream.

    Usage may come with every event, in the last token's event, or in an event of its own with no
    choices. An error may come inside a 200 answer.
    """
    try:
        event = event_json.parse(data)
    except ValueError as unread:
        return Delta() if data.strip() == "[DONE]" else Delta(error=str(unread))
    get = event.get
    if (error := get("error")) is not None:
        return Delta(error=_error_text(error))
    if not get("choices") and not get("usage") and (text := _other_error(event, data)) is not None:
        return Delta(error=text)
    try:
        (choice,) = get("choices") or _NO_CHOICE
        text = choice.get("text") or ""
        if type(text) is str:
            usage = get("usage")
            found = Delta(text, None, _usage(usage) if usage else None, choice.get("finish_reason"))
            if ids := choice.get("token_ids"):
                found.token_ids = tuple(ids)
            if logprobs := choice.get("logprobs"):
                found.margins = _margins(logprobs)
            return found
    except (TypeError, ValueError, AttributeError):
        pass
    return Delta(error=f"an event is not a completion chunk: {data[:200]}")


def _error_text(error: object) -> str:
    message = error.get("message") if isinstance(error, dict) else None
    return str(error if message is None else message)


def _other_error(event: dict[str, Any], data: str) -> str | None:
    """What an event with neither choices nor usage says went wrong, in other servers' forms.

    ``{"object": "error", "message": ...}`` was the OpenAI servers' own before ``{"error": ...}``;
    ``{"detail": ...}`` is FastAPI's. What is no form of a completion either is shown as it is.
    """
    for name in ("message", "detail", "errors"):
        if event.get(name):
            return str(event[name])
    is_completion = not event or "choices" in event or "usage" in event
    if event.get("object") != "error" and is_completion:
        return None
    return f"an event that is no completion: {data[:200]}"


def _margins(logprobs: dict[str, Any]) -> tuple[float | None, ...]:
    """How far each token stood above the next best one; two entries a token are needed."""
    found: list[float | None] = []
    for top in logprobs.get("top_logprobs") or ():
        best = sorted((top or {}).values(), reverse=True)
        found.append(best[0] - best[1] if len(best) > 1 else None)
    return tuple(found)


def _usage(usage: dict[str, Any]) -> Usage:
    get = usage.get
    details = get("prompt_tokens_details")
    cached = details.get("cached_tokens") if details else None
    return Usage(get("prompt_tokens"), get("completion_tokens"), cached)


def _scoring_body(request: GenerationRequest) -> dict[str, Any]:
    """A stream has no ``prompt_logprobs``; 0 of them: of the prompt's own tokens alone."""
    return {
        "model": "model",
        "prompt": list(request.prompt_ids),
        "max_tokens": 1,
        "temperature": 0,
        "prompt_logprobs": 0,
    }


def _read_scores(request: GenerationRequest, answer: str) -> list[float]:
    """The first token has no entry; each other one has a mapping from token ids to entries."""
    try:
        (choice,) = event_json.parse(answer)["choices"]
        _, *entries = choice["prompt_logprobs"]
        own = zip(request.prompt_ids[1:], entries, strict=True)
        return [entry[str(token)]["logprob"] for token, entry in own]
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            f"expected log-probabilities of the prompt, found {answer[:200]}"
        ) from None


#: vLLM's own addition to the completions API (vllm/entrypoints/openai/completion/protocol.py).
PROMPT_LOGPROBS = Scoring("/v1/completions", _scoring_body, _read_scores)

"""The baseline's dictionary: how exactly N tokens are asked for, what its metrics are called."""

from typing import Any

from enginebench.engines.dialect import Dialect, GenerationRequest
from enginebench.engines.openai_completions import (
    PROMPT_LOGPROBS,
    completions_body,
    ids_wanted,
    read_completions_event,
)


def body(request: GenerationRequest) -> dict[str, Any]:
    return completions_body(request, model="model") | ids_wanted(request)


DIALECT = Dialect(
    generate_path="/v1/completions",
    body=body,
    read=read_completions_event,
    scoring=PROMPT_LOGPROBS,
    metrics={
        "requests_running": ("baseline_requests_running",),
        "requests_waiting": ("baseline_requests_waiting",),
        "prompt_tokens_total": ("baseline_prompt_tokens_total",),
        "output_tokens_total": ("baseline_output_tokens_total",),
        "kv_reserved_bytes": ("baseline_kv_cache_bytes",),
        "kv_used_tokens": ("baseline_kv_cache_tokens",),
        "kv_capacity_tokens": ("baseline_kv_capacity_tokens",),  # of MODE: continuous alone
        "kv_block_tokens": ("baseline_kv_block_tokens",),
    },
)

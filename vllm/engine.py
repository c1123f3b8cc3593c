"""vLLM's dictionary: how exactly N tokens are asked for, and what its metrics are called."""

from typing import Any

from enginebench.engines.dialect import Dialect, GenerationRequest
from enginebench.engines.openai_completions import (
    PROMPT_LOGPROBS,
    completions_body,
    ids_wanted,
    read_completions_event,
)


def body(request: GenerationRequest) -> dict[str, Any]:
    """``min_tokens`` guards against stop conditions that ``ignore_eos`` does not cover."""
    fields = completions_body(request, model="model") | {"min_tokens": request.output_tokens}
    return fields | ids_wanted(request)


DIALECT = Dialect(
    generate_path="/v1/completions",
    body=body,
    read=read_completions_event,
    scoring=PROMPT_LOGPROBS,
    metrics={
        "requests_running": ("vllm:num_requests_running",),
        "requests_waiting": ("vllm:num_requests_waiting",),
        "prompt_tokens_total": ("vllm:prompt_tokens_total",),
        "output_tokens_total": ("vllm:generation_tokens_total",),
        # The second name is the one of vLLM 0.8 and before.
        "kv_used_ratio": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        # The second form is the one of versions that do not state the size in tokens.
        "kv_capacity_tokens": (
            "vllm:cache_config_info[kv_cache_size_tokens]",
            "vllm:cache_config_info[num_gpu_blocks]*vllm:cache_config_info[block_size]",
        ),
        "kv_block_tokens": ("vllm:cache_config_info[block_size]",),
        "kv_reserved_bytes": ("vllm:cache_config_info[kv_cache_memory_bytes]",),
        "preemptions_total": ("vllm:num_preemptions_total",),
        "prefix_hit_tokens_total": ("vllm:prefix_cache_hits_total",),
        "prefix_query_tokens_total": ("vllm:prefix_cache_queries_total",),
        "drafts_total": ("vllm:spec_decode_num_drafts_total",),
        "draft_tokens_total": ("vllm:spec_decode_num_draft_tokens_total",),
        "draft_tokens_accepted_total": ("vllm:spec_decode_num_accepted_tokens_total",),
    },
    # The null block; usage is a share of the others (BlockPool.get_usage in vllm/v1/core).
    kv_blocks_kept_back=1,
)

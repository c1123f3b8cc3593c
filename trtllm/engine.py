"""TensorRT-LLM's dictionary: how exactly N tokens are asked for, and what its metrics are."""

from typing import Any

from enginebench.engines.dialect import Dialect, GenerationRequest
from enginebench.engines.openai_completions import completions_body, read_completions_event


def body(request: GenerationRequest) -> dict[str, Any]:
    """A field it does not know is a 400: no token ids or margins can be asked for.

    ``top_k`` 1 beside temperature 0: what makes sampling greedy differs between its versions.
    """
    return completions_body(request, model="model") | {"top_k": 1}


DIALECT = Dialect(
    generate_path="/v1/completions",
    body=body,
    read=read_completions_event,
    # A JSON list of iterations, each handed out once (enable_iter_perf_stats in launch.yaml).
    metrics={
        "requests_running": ("inflightBatchingStats.numScheduledRequests",),
        "requests_waiting": ("numQueuedRequests",),
        "kv_used_tokens": ("kvCacheStats.usedNumBlocks*kvCacheStats.tokensPerBlock",),
        "kv_capacity_tokens": ("kvCacheStats.maxNumBlocks*kvCacheStats.tokensPerBlock",),
        "kv_block_tokens": ("kvCacheStats.tokensPerBlock",),
    },
)

"""TensorRT-LLM's dictionary: the completions route, with no field that it does not know."""

from typing import Any

from enginebench.completions import completions_body, read_completions_event
from enginebench.dialect import Ask, Dialect


def body(ask: Ask) -> dict[str, Any]:
    """An unknown field is answered with 400, so token ids cannot be asked for as of others.

    ``top_k`` 1 is what greedy means here; a temperature of 0 alone is not, in older versions.
    """
    return completions_body(ask, model="model") | {"top_k": 1}


DIALECT = Dialect(
    generate_path="/v1/completions",
    body=body,
    read=read_completions_event,
    # /metrics is a JSON list, one object an iteration, each handed out once; it is empty until a
    # request has run. Nothing in it counts tokens. With return_perf_metrics it would stay empty.
    metrics={
        "requests_running": ("numActiveRequests",),
        "requests_waiting": ("numQueuedRequests",),
        "kv_used_tokens": ("kvCacheStats.usedNumBlocks*kvCacheStats.tokensPerBlock",),
        "kv_capacity_tokens": ("kvCacheStats.maxNumBlocks*kvCacheStats.tokensPerBlock",),
        "kv_block_tokens": ("kvCacheStats.tokensPerBlock",),
    },
)

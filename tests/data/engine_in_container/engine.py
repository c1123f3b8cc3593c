from enginebench.engines.dialect import Dialect
from enginebench.engines.openai_completions import (
    PROMPT_LOGPROBS,
    completions_body,
    ids_wanted,
    read_completions_event,
)

DIALECT = Dialect(
    generate_path="/v1/completions",
    body=lambda request: completions_body(request, model="model") | ids_wanted(request),
    read=read_completions_event,
    scoring=PROMPT_LOGPROBS,
    metrics={
        "prompt_tokens_total": ("double_prompt_tokens_total",),
        "output_tokens_total": ("double_output_tokens_total",),
    },
)

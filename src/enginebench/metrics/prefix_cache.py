"""What a prefix cache gave the prompts of a cell. Pure."""

import numpy as np

from enginebench.metrics import metrics_page
from enginebench.metrics.figures import Figures
from enginebench.metrics.request_table import UNKNOWN, Columns

#: Two prompts part within the tags behind what they share (plan.prompts): eight characters. An
#: engine that caches single tokens, not blocks, finds the first ones that two tags have in common.
TAG_TOKENS = 8


def permitted(shared: int) -> int:
    """Tokens of a prompt that may come from a cache, where all prompts share the first so many."""
    return shared + TAG_TOKENS if shared else 0


def at_most(requests: Columns, limit: int) -> int:
    """The most tokens that a cache gave to one request, of at most ``limit`` that are permitted:
    by usage, and the limit where one request has none."""
    said = requests.cached_tokens[~requests.is_failed]
    if (said == UNKNOWN).any():
        return limit
    return min(int(said.max(initial=0)), limit)


def share(requests: Columns, first: Figures, last: Figures) -> float | None:
    """Prompt tokens from a cache over all, 0 to 1; None: the engine does not say.

    Args:
        first, last: the metrics before and after the requests: of an engine whose usage does not
            say it of every request.
    """
    done = ~requests.is_failed
    tokens = int(requests.prompt_tokens_asked[done].sum(dtype=np.int64))
    said = requests.cached_tokens[done]
    hits: float | None = float(said.sum(dtype=np.int64))
    if (said == UNKNOWN).any():
        hits = metrics_page.difference(first, last, "prefix_hit_tokens_total")
    return None if hits is None or not tokens else hits / tokens

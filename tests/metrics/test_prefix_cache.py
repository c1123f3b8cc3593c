import pytest
from builders import request_row as row

from enginebench.metrics import prefix_cache
from enginebench.metrics.request_table import gather

GREW = ({"prefix_hit_tokens_total": 10.0}, {"prefix_hit_tokens_total": 90.0})


def of(*cached):
    """Requests with prompts of 100 tokens each, and what their usage says of a cache."""
    return gather(row(index, cached_tokens=tokens) for index, tokens in enumerate(cached))


@pytest.mark.parametrize(
    ("cached", "ends", "expected"),
    [
        ((64, 32), GREW, 0.48),  # usage comes first
        ((0, 0), ({}, {}), 0.0),
        ((64, None), GREW, 0.4),  # 80 of 200
        ((None, None), GREW, 0.4),
        ((None, None), ({}, {}), None),
        ((), GREW, None),
    ],
)
def test_the_share_from_a_cache_is_by_usage_and_else_by_the_counter(cached, ends, expected):
    assert prefix_cache.share(of(*cached), *ends) == expected


def test_a_request_that_failed_is_in_no_share():
    requests = gather([row(0, cached_tokens=50), row(1, cached_tokens=None, error="cut")])
    assert prefix_cache.share(requests, {}, {}) == 0.5
    assert prefix_cache.at_most(requests, 72) == 50


@pytest.mark.parametrize(
    ("cached", "limit", "expected"),
    [((0, 64), 72, 64), ((0, 99), 72, 72), ((64, None), 72, 72), ((64, None), 0, 0), ((), 72, 0)],
)
def test_what_no_bound_counts_is_the_most_that_a_request_says_or_may_have(cached, limit, expected):
    assert prefix_cache.at_most(of(*cached), limit) == expected


def test_nothing_may_come_from_a_cache_unless_prompts_share_it():
    assert prefix_cache.permitted(0) == 0
    assert prefix_cache.permitted(384) == 384 + prefix_cache.TAG_TOKENS

import pytest

from enginebench.metrics import batching


def test_equal_outputs_gain_nothing_from_refilled_slots():
    # Three full batches of two: 3 · 5 steps, and so many if slots are refilled.
    found = batching.steps([5] * 6, 2)
    assert (found.static, found.continuous, found.gain, found.useful_share) == (15, 15, 1, 1)


def test_a_static_batch_lasts_as_long_as_its_longest():
    # Batches (1, 9), (9, 1), (1, 9): 27 steps of two slots for 30 tokens.
    # Refilled, slot by slot: a takes 1, 9, 1 and 9: ends at 1, 10, 11, 20; b takes 9 and 1: 9, 10.
    # In order: 1 -> a (1), 9 -> b (9), 9 -> a (10), 1 -> b (10), 1 -> a (11), 9 -> b (19).
    found = batching.steps([1, 9, 9, 1, 1, 9], 2)
    assert (found.static, found.continuous) == (27, 19)
    assert found.useful_share == pytest.approx(30 / 54)
    assert found.gain == pytest.approx(27 / 19)
    assert (found.shortest, found.longest, found.tokens) == (1, 9, 30)


def test_the_last_batch_may_have_empty_slots_that_nobody_waits_for():
    # (4, 2), (3): 4 + 3 steps; the slots that could have made tokens are 2 · 4 + 1 · 3.
    found = batching.steps([4, 2, 3], 2)
    assert (found.static, found.static_slots, found.continuous) == (7, 11, 5)


def test_more_slots_than_requests_are_one_batch():
    found = batching.steps([4, 2], 8)
    assert (found.static, found.continuous, found.gain) == (4, 4, 1)


def test_no_requests_have_no_steps():
    assert batching.steps([], 4) is None

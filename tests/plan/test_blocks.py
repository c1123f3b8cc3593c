from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enginebench.plan.blocks import balance, block_orders, level_orders, williams


def test_four_rows_balance_four():
    # 0 1 3 2 and so on round: every place and every direct follower once.
    assert williams(4) == ((0, 1, 3, 2), (1, 2, 0, 3), (2, 3, 1, 0), (3, 0, 2, 1))


@pytest.mark.parametrize(("k", "rows", "each"), [(2, 2, 1), (3, 6, 2), (5, 10, 2), (6, 6, 1)])
def test_a_williams_design_has_each_place_and_each_follower_equally_often(k, rows, each):
    design = williams(k)
    assert len(design) == rows
    places = Counter((i, at) for row in design for at, i in enumerate(row))
    before = Counter(pair for row in design for pair in pairwise(row))
    assert set(places.values()) == {each}
    assert len(places) == k * k
    assert set(before.values()) == {each}
    assert len(before) == k * (k - 1)


@pytest.mark.parametrize(("k", "n"), [(2, 2), (4, 3), (4, 4), (6, 3), (3, 6), (6, 6), (2, 3)])
def test_so_many_trials_allow_the_most_even_order(k, n):
    assert balance(block_orders([n] * k, 7), [n] * k).is_best


def test_three_in_three_blocks_share_the_places():
    # Three cannot share both evenly: with every place once, each pair follows twice or never.
    found = balance(block_orders([3] * 3, 7), [3] * 3)
    assert (found.same_place, found.same_before) == (1, 2)
    assert not found.is_best


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.integers(0, 99))
def test_each_is_in_its_first_blocks_once(trials, seed):
    orders = block_orders(trials, seed)
    assert len(orders) == max(trials)
    for block, order in enumerate(orders):
        assert sorted(order) == [i for i, count in enumerate(trials) if count > block]


def test_the_same_seed_gives_the_same_order_and_another_one_another():
    assert block_orders([3] * 6, 1) == block_orders([3] * 6, 1)
    assert len({block_orders([3] * 6, seed) for seed in range(10)}) > 5


def test_variants_started_once_do_not_unbalance_the_rest():
    orders = block_orders([3, 3, 3, 1, 1, 1], 1)
    assert [len(order) for order in orders] == [6, 3, 3]
    assert balance(orders, [3, 3, 3, 1, 1, 1]).same_place == 1


def test_no_variant_follows_itself_from_one_block_to_the_next():
    for seed in range(20):
        orders = block_orders([3] * 4, seed)
        assert all(one[-1] != two[0] for one, two in pairwise(orders))


def test_levels_change_their_order_from_start_to_start():
    orders = level_orders([1, 2, 4, 8], 4, 3)
    assert all(sorted(order) == [1, 2, 4, 8] for order in orders)
    assert sorted(order[0] for order in orders) == [1, 2, 4, 8]
    assert level_orders(["c1"], 2, 3) == (("c1",), ("c1",))
    assert level_orders([], 3, 3) == ()


def test_nobody_has_no_order():
    assert block_orders([], 1) == ()
    assert balance((), []).same_place == 0

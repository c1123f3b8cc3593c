import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginebench.base import stats
from enginebench.base.estimator import Interval


def test_a_mean_is_exactly_rounded_and_none_of_nothing():
    assert stats.mean(np.array([0.1] * 10)) == 0.1
    assert stats.mean(np.array([])) is None


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
def test_a_mean_does_not_depend_on_the_pieces_or_the_order(values):
    found = stats.mean(np.array(values))
    assert found == stats.mean(np.array(sorted(values))) == math.fsum(values) / len(values)


def test_quantiles_go_from_the_least_to_the_largest_in_even_steps():
    assert stats.quantiles([4, 1, 3, 2], 2) == (1, 2.5, 4)
    assert stats.quantiles([7], 4) == (7,) * 5


def test_an_interval_in_another_unit_keeps_its_trials():
    assert stats.scaled(Interval(2.0, 1.0, 4.0, 3), 1e3) == Interval(2e3, 1e3, 4e3, 3)
    assert stats.scaled(Interval(2.0, None, None, 1), 10) == Interval(20, None, None, 1)
    assert stats.scaled(None, 10) is None


def test_a_quantile_reorders_only_where_it_may():
    values = np.array([3.0, 1.0, 2.0])
    stats.quantiles(values, 2)
    assert values.tolist() == [3, 1, 2]
    assert stats.quantiles(values, 2, may_reorder=True) == pytest.approx((1, 2, 3))

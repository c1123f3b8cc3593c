import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginebench.base import stats


@pytest.mark.parametrize(
    ("values", "q", "expected"),
    [
        ([4, 1, 3, 2], 50, 2.5),
        ([4, 1, 3, 2], 90, 3.7),
        ([4, 1, 3, 2], 0, 1),
        ([7], 90, 7),
        ([0, 10], 25, 2.5),
    ],
)
def test_a_percentile_is_linear_between_order_statistics(values, q, expected):
    assert stats.percentile(values, q) == pytest.approx(expected)


def test_no_values_have_no_percentile():
    assert stats.percentile([], 50) is None


def test_p99_needs_662_samples():
    assert stats.percentile(range(661), 99) is None
    assert stats.percentile(range(662), 99) == pytest.approx(0.99 * 661)
    assert stats.percentile(range(661), 95) == pytest.approx(0.95 * 660)


@pytest.mark.parametrize(
    ("values", "mean", "half"),
    [
        ([1, 2, 3], 2, 4.302653 / math.sqrt(3)),  # t(0.975, 2), s = 1
        ([1, 3], 2, 12.706205),  # t(0.975, 1), s / sqrt(n) = 1
        ([5, 5, 5, 5], 5, 0),
    ],
)
def test_the_interval_of_a_mean_is_students(values, mean, half):
    found = stats.mean_interval(values)
    assert (found.mean, found.trials) == (mean, len(values))
    assert (found.low, found.high) == pytest.approx((mean - half, mean + half), abs=1e-5)


def test_one_trial_has_a_mean_and_no_interval():
    assert stats.mean_interval([4.0]) == stats.Interval(4.0, None, None, 1)
    assert stats.mean_interval([]) is None


def test_ratios_are_averaged_geometrically():
    found = stats.ratio_interval([(2, 1), (8, 1)])
    assert found.mean == pytest.approx(4)
    # ln 2 and ln 8: mean ln 4, s / sqrt(2) = ln 2
    assert found.high == pytest.approx(4 * 2**12.706205, rel=1e-5)
    assert found.low == pytest.approx(4 / 2**12.706205, rel=1e-5)


positive = st.floats(0.01, 100)


@given(st.lists(st.tuples(positive, positive), min_size=2, max_size=5))
def test_a_over_b_and_b_over_a_tell_the_same_story(pairs):
    one = stats.ratio_interval(pairs)
    other = stats.ratio_interval([(b, a) for a, b in pairs])
    assert one.mean * other.mean == pytest.approx(1)
    assert math.log(one.low) == pytest.approx(-math.log(other.high), abs=1e-9)
    assert math.log(one.high) == pytest.approx(-math.log(other.low), abs=1e-9)


def test_a_pair_without_a_value_is_no_trial():
    assert stats.ratio_interval([(0, 1), (1, 0)]) is None
    assert stats.ratio_interval([(3, 1), (0, 1)]) == stats.Interval(pytest.approx(3), None, None, 1)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.95, 1.05, "tie"),
        (1.0, 1.1, "tie"),
        (0.9, 1.05, "unclear"),  # 1 / 1.1 is above 0.9
        (0.54, 10.7, "unclear"),
        (1.01, 1.2, "apart"),
        (0.8, 0.99, "apart"),
    ],
)
def test_an_interval_says_apart_tie_or_nothing(low, high, expected):
    assert stats.standing(stats.Interval(1.0, low, high, 3)) == expected


def test_one_trial_leaves_it_unclear():
    assert stats.standing(stats.Interval(1.0, None, None, 1)) == "unclear"


def test_gaps_of_few_requests_have_no_p99_however_many_they_are():
    assert stats.percentile(range(5000), 99, independent=661) is None
    assert stats.percentile(range(5000), 99, independent=662) is not None


def test_p95_needs_20_samples():
    assert stats.percentile(range(19), 95) is None
    assert stats.percentile(range(20), 95) == pytest.approx(0.95 * 19)

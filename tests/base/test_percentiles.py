import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginebench.base.percentiles import least_sample, least_samples, percentile, tail, upper_bound


def counted(n):
    """1, 2 ... n: a value is its rank."""
    return np.arange(1.0, n + 1)


@pytest.mark.parametrize(("q", "expected"), [(0.90, 64), (0.95, 130), (0.99, 662)])
def test_the_least_samples_of_a_claim_are_mlperfs(q, expected):
    assert least_sample(q) == expected


# 0.9^29 = 0.0471, 0.9^28 = 0.0523; 0.95^59 = 0.0485; 0.99^299 = 0.0495
@pytest.mark.parametrize(("q", "expected"), [(0.90, 29), (0.95, 59), (0.99, 299), (0.5, 5)])
def test_the_largest_of_so_many_bounds_the_quantile_at_95_percent(q, expected):
    assert least_sample(q, 0.95, above=0) == expected
    assert upper_bound(counted(expected), q) == expected
    assert upper_bound(counted(expected - 1), q) is None


def test_a_claim_at_the_least_sample_is_the_second_largest():
    # One of 662 may be above: 0.99^662 + 662 · 0.01 · 0.99^661 = 0.0099.
    assert percentile(counted(662), 0.99).claim == 661
    assert percentile(counted(661), 0.99).claim is None
    assert percentile(counted(130), 0.95).claim == 129
    assert percentile(counted(64), 0.90).claim == 63


def test_each_percentile_is_shown_from_its_own_sample_on():
    for q, least in ((0.90, 29), (0.95, 59), (0.99, 299)):
        assert percentile(counted(least - 1), q).value is None
        assert percentile(counted(least), q).value == pytest.approx(1 + q * (least - 1))


def test_a_median_is_always_shown_and_has_an_interval_from_six():
    assert percentile(counted(2), 0.5).value == 1.5
    assert percentile(counted(5), 0.5).low is None
    # 2 / 2^6 = 3.1 % of samples of six lie on one side of the median.
    six = percentile(counted(6), 0.5)
    assert (six.low, six.high) == (1, 6)


def test_the_interval_of_a_median_of_ten():
    # P(at most 1 of 10 above) = 11/1024 = 1.1 %, of 2: 5.5 %: the second and the ninth.
    ten = percentile(counted(10), 0.5)
    assert (ten.low, ten.high) == (2, 9)
    # One side alone at 5 %: the ninth as well.
    assert ten.bound == 9


def test_nothing_has_no_percentile():
    none = percentile(counted(0), 0.5)
    assert (none.value, none.low, none.bound, none.samples) == (None, None, None, 0)
    assert tail(counted(0), 0) is None


def test_dependent_values_have_an_estimate_but_no_claim():
    found = percentile(counted(1000), 0.95, independent=59)
    assert found.value == pytest.approx(950.05)
    assert (found.low, found.bound, found.claim, found.samples) == (None, None, None, 59)
    assert percentile(counted(1000), 0.95, independent=58).value is None


def test_a_tail_always_has_its_largest_value():
    assert tail(counted(3), 1).largest == 3
    assert (tail(counted(19), 2).p95, tail(counted(20), 2).p95) == (None, pytest.approx(19.05))
    assert (tail(counted(99), 2).p99, tail(counted(100), 2).p99) == (None, pytest.approx(99.01))
    assert (tail(counted(100), 7).values, tail(counted(100), 7).sources) == (100, 7)


def test_a_tail_rests_on_the_samples_beyond_it():
    assert percentile(counted(130), 0.95).beyond == pytest.approx(6.5)


def test_the_legend_has_all_three():
    assert list(least_samples()) == [("p90", 29, 64), ("p95", 59, 130), ("p99", 299, 662)]


@pytest.mark.parametrize("arguments", [(0.0,), (1.0,), (0.9, 1.0), (0.9, 0.9, -1)])
def test_a_least_sample_of_nonsense_is_refused(arguments):
    with pytest.raises(ValueError, match="no least sample"):
        least_sample(*arguments)


@given(st.integers(1, 800), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_the_ends_are_in_order(n, q):
    found = percentile(counted(n), q)
    if found.low is not None:
        assert found.low <= found.value <= found.high
        assert found.bound <= found.high
    if found.claim is not None:
        assert found.bound <= found.claim


@pytest.mark.parametrize(("q", "n"), [(0.9, 29), (0.95, 130), (0.99, 662)])
def test_a_bound_is_above_the_truth_as_often_as_it_says(q, n):
    samples = np.sort(np.random.default_rng(1).exponential(size=(2000, n)), axis=1)
    true = -np.log(1 - q)
    right = np.mean([upper_bound(sample, q) >= true for sample in samples])
    assert right > 0.94  # order statistics come in steps, so it may be more than 95 %


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=400),
    st.sampled_from((0.5, 0.9, 0.95, 0.99)),
)
def test_a_percentile_is_numpys_to_the_last_bit(values, q):
    values = np.sort(values)
    assert percentile(values, q).value in (None, float(np.quantile(values, q)))
    assert percentile(values, 0.5).value == float(np.quantile(values, 0.5))
    found = tail(values, 1)
    assert found.p95 in (None, float(np.quantile(values, 0.95)))
    assert found.p99 in (None, float(np.quantile(values, 0.99)))

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import studentized_range

from enginebench.base.estimator import Interval, compare, reciprocal


def ends(interval):
    return (interval.low, interval.high)


def of_logs(rows):
    """Figures whose logs are the given rows, one row a variant."""
    return {
        label: {block: math.exp(y) for block, y in enumerate(row, 1) if y is not None}
        for label, row in rows.items()
    }


def test_the_disturbed_study_has_positive_figures_and_one_order():
    # Three starts with the mean 246.9 [-122.4, 616.2] on the raw scale, one 4.4 times too slow.
    vllm = {1: 332.7, 2: 332.7, 3: 75.2}
    alone = compare({"vllm": vllm}).means["vllm"]
    # Logs 5.80724, 5.80724, 4.32015: mean 5.31154, s 0.85857; 4.302653 s / sqrt(3) = 2.13281.
    assert alone.mean == pytest.approx(202.66, abs=0.01)
    assert ends(alone) == pytest.approx((24.0, 1710.0), rel=2e-3)
    both = compare({"vllm": vllm, "static": {1: 222.8, 2: 210.1, 3: 197.4}})
    # The geometric mean of static is 209.85, so it is first, and the ratio says the same.
    assert both.order == ("static", "vllm")
    ratio = both.ratio("vllm", "static")
    assert ratio.together.mean == pytest.approx(202.66 / 209.85, rel=1e-4)
    assert ratio.verdict == "cannot tell"
    assert both.places == {"static": (1, 2), "vllm": (1, 2)}
    for mean in both.means.values():
        assert 0 < mean.low < mean.mean < mean.high


def test_an_invalid_cell_does_not_turn_the_order():
    # a is faster in every common trial; b's cell of the slow trial is invalid.
    found = compare({"a": {1: 104, 2: 106, 3: 52}, "b": {1: 100, 2: 100, 3: None}})
    assert found.order == ("a", "b")
    ratio = found.ratio("a", "b")
    # ln 1.04 = 0.039221, ln 1.06 = 0.058269: mean 0.048745, s / sqrt(2) = 0.009524,
    # t(0.975, 1) = 12.706205, so ± 0.121014.
    assert ratio.alone.mean == pytest.approx(math.sqrt(1.04 * 1.06))
    assert ends(ratio.alone) == pytest.approx(
        (math.exp(0.048745 - 0.121014), math.exp(0.048745 + 0.121014)), rel=1e-4
    )
    assert ratio.alone.trials == 2
    # a's own mean is over all three trials, and b's is that over the ratio.
    assert found.means["a"].mean == pytest.approx((104 * 106 * 52) ** (1 / 3))
    assert found.means["a"].mean / found.means["b"].mean == pytest.approx(ratio.alone.mean)


@given(
    st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=4, max_size=4),
    st.permutations([0.0, 0.02, 0.3, 1.0]),
)
def test_whatever_is_missing_ratios_are_those_of_the_model(missing, logs):
    # Without noise every linked pair has its true ratio, and the order is the true one.
    blocks = (5.0, 5.5, 3.0, 4.9)
    rows = {
        str(v): [None if missing[v][b] else logs[v] + blocks[b] for b in range(4)] for v in range(4)
    }
    found = compare(of_logs(rows))
    for (a, b), ratio in found.ratios.items():
        assert math.log(ratio.together.mean) == pytest.approx(logs[int(a)] - logs[int(b)], abs=1e-9)
        assert ratio.together.mean > 1
        assert found.order.index(a) < found.order.index(b)


def test_the_spread_is_pooled_over_variants():
    # Errors d, -d, 0 / -d, d, 0 / 0, 0, 0 sum to 0 by row and by column, so they are the residuals:
    # sum of squares 4 d², 9 - 3 - 3 + 1 = 4 degrees of freedom, variance d².
    d = 0.06
    found = compare(of_logs({"a": [1 + d, 2 - d, 3], "b": [1 - d, 2 + d, 3], "c": [1, 2, 3]}))
    (spread,) = found.spreads
    assert (spread.log_sd, spread.df, spread.apart) == (pytest.approx(d), 4, ())
    # a - b is 0 with standard error d sqrt(2/3); t(0.975, 4) = 2.776445.
    half = 2.776445 * d * math.sqrt(2 / 3)
    ratio = found.ratio("a", "b")
    assert ends(ratio.alone) == pytest.approx((math.exp(-half), math.exp(half)), rel=1e-6)
    # Of the 5 % the test of the spreads takes 2 %.
    half = studentized_range.ppf(0.97, 3, 4) / math.sqrt(2) * d * math.sqrt(2 / 3)
    assert ends(ratio.together) == pytest.approx((math.exp(-half), math.exp(half)), rel=1e-4)


def test_a_variant_with_one_start_has_an_interval_from_the_pooled_spread():
    d = 0.02
    found = compare(of_logs({"a": [1 + d, 2, 3 - d], "b": [1 - d, 2, 3 + d], "c": [0]}))
    # Block 1 is d0 = 1 - 2 = -1 beside the mean of a and b; c over all blocks is then 0 + 1.
    assert found.means["c"].mean == pytest.approx(math.exp(1))
    # a - c = (mean a - mean b)/2 + (a1 + b1)/2 - c1: weights 2/3, 1/6, 1/6; 1/3, -1/6, -1/6; -1,
    # squares 5/3. Residuals are ± d in four cells: 4 d² with 7 - 3 - 3 + 1 = 2 df.
    half = 4.302653 * math.sqrt(5 / 3 * 2 * d * d)
    ratio = found.ratio("a", "c").alone
    assert ends(ratio) == pytest.approx((math.exp(1 - half), math.exp(1 + half)), rel=1e-5)
    assert found.means["c"].low > 0
    assert found.means["c"].low < math.exp(1) < found.means["c"].high
    assert found.means["c"].trials == 1


def test_a_mean_holds_for_new_blocks():
    # Two variants, two blocks: a 0 and 1, b 2 and 3; the residuals are 0 and all spread is blocks'.
    found = compare(of_logs({"a": [0, 1], "b": [2, 3]})).means["a"]
    # Block means 1 and 2: their variance 1/2 over 2 blocks; t(0.975, 1) = 12.706205.
    half = 12.706205 * math.sqrt(0.5 / 2)
    assert ends(found) == pytest.approx((math.exp(0.5 - half), math.exp(0.5 + half)), rel=1e-5)


def test_a_noisy_variant_is_set_apart_and_does_not_blur_the_others():
    quiet = {
        "a": [0.11, 0.10, 0.09, 0.10],
        "b": [0.00, 0.01, 0.00, -0.01],
        "c": [-0.1, -0.1, -0.09, -0.11],
    }
    noisy = quiet | {"d": [0.0, -1.4, 0.1, -0.1]}
    without, found = compare(of_logs(quiet)), compare(of_logs(noisy))
    assert found.spreads[0].apart == ("d",)
    assert found.spreads[0].noisiest == "d"
    assert found.spreads[0].noisiest_times > 20
    assert "d: more than chance would have it" in found.spreads[0].text
    assert found.ratio("a", "b").alone == without.ratio("a", "b").alone
    assert found.ratio("a", "b").verdict == "apart"
    # d - a by its own four starts: about t(0.975, 3) = 3.18 times 0.70 / sqrt(4).
    assert math.log(found.ratio("a", "d").alone.high) == pytest.approx(0.45 + 3.18 * 0.35, rel=0.05)
    assert found.ratio("a", "d").verdict == "cannot tell"


def test_one_block_has_an_order_and_no_intervals():
    found = compare({"a": {1: 120.0}, "b": {1: 326.0}})
    assert found.order == ("b", "a")
    assert found.means["b"] == Interval(pytest.approx(326), None, None, 1)
    ratio = found.ratio("b", "a")
    assert (ratio.together.low, ratio.together.high, ratio.verdict) == (None, None, "cannot tell")
    assert found.places == {"a": (1, 2), "b": (1, 2)}
    assert found.spreads == ()


def test_variants_that_no_block_links_have_no_ratio():
    found = compare({"a": {1: 5.0, 2: 5.0}, "b": {3: 6.0, 4: 6.1}, "c": {2: 4.0, 1: 4.1}})
    assert found.ratio("a", "b") is None
    assert found.ratio("c", "a").together.mean == pytest.approx(math.sqrt(4.0 * 4.1) / 5)
    assert found.places["b"] == (1, 3)


def test_a_figure_of_0_has_no_ratio_and_is_named():
    found = compare({"a": {1: 5.0, 2: 5.0}, "b": {1: 0.0, 2: 6.0}, "c": {1: None}, "d": {2: 4.0}})
    assert found.order == ("a", "d")
    assert found.excluded == {
        "b": "0 in trial 1: only positive figures have ratios",
        "c": "no valid cell",
    }
    assert found.ratio("a", "b") is None


def test_nothing_compares_to_nothing():
    assert compare({}).order == ()
    assert not compare({}).is_sole_first
    assert compare({"a": {}}).excluded == {"a": "no valid cell"}


def test_equal_starts_are_apart_only_beyond_the_margin():
    # 0.1 % in every trial is sure, and too small to care about.
    assert compare({"a": {1: 100.1, 2: 100.1}, "b": {1: 100, 2: 100}}).ratio("a", "b").verdict == (
        "tie"
    )
    assert compare({"a": {1: 104, 2: 104}, "b": {1: 100, 2: 100}}).ratio("a", "b").verdict == (
        "apart"
    )


def test_places_count_who_is_surely_ahead():
    d = 0.01
    found = compare(of_logs({"a": [1 + d, 1, 1 - d], "b": [0, d, 0], "c": [0.005, 0, 0.02]}))
    assert found.order == ("a", "c", "b")
    assert found.places == {"a": (1, 1), "c": (2, 3), "b": (2, 3)}
    assert found.is_sole_first


def test_of_times_the_shortest_is_first():
    found = compare({"a": {1: 2.0, 2: 2.1}, "b": {1: 1.0, 2: 1.05}}, better="lower")
    assert found.order == ("b", "a")
    assert list(found.ratios) == [("b", "a")]
    assert found.ratio("b", "a").together.mean == pytest.approx(0.5)


def test_the_spread_has_words():
    d = 0.06
    found = compare(of_logs({"a": [1 + d, 2 - d, 3], "b": [1 - d, 2 + d, 3], "c": [1, 2, 3]}))
    # exp(0.06) - 1 = 6.2 %. Without a, b and c differ by 0.06 (-1, 1, 0): 0.0036 over 2 df; a adds
    # 0.0144 - 0.0036 over 2 df: sqrt(0.0054 / 0.0018) = 1.7.
    assert found.spreads[0].text == (
        "Starts of one variant vary by 6.2 % (standard deviation, pooled over the variants; "
        "4 degrees of freedom); a 1.7 times as much as the rest, which may be chance."
    )


def test_figures_far_apart_overflow_nothing():
    found = compare({"a": {1: 1e-300}, "b": {1: 1e300}})
    assert found.ratio("b", "a").together.mean < math.inf


def test_a_ratio_and_its_inverse_are_one_statement():
    found = compare({"a": {1: 2.0, 2: 2.1, 3: 2.0}, "b": {1: 1.0, 2: 1.0, 3: 1.1}})
    there, back = found.ratio("a", "b"), found.ratio("b", "a")
    assert back.together.low == pytest.approx(1 / there.together.high)
    assert back.together.high == pytest.approx(1 / there.together.low)
    assert back.verdict == there.verdict


def test_a_cost_has_the_interval_of_its_rate():
    # 2.93 USD/h over 3600 s and 35.0 [25.7, 44.3] tokens/s: 23.25 [18.37, 31.67] USD per million.
    cost = reciprocal(Interval(35.0, 25.7, 44.3, 3), 2.93 / 3600 * 1e6)
    assert (cost.mean, *ends(cost)) == pytest.approx((23.254, 18.372, 31.669), abs=1e-3)
    assert reciprocal(Interval(4.0, None, None, 1)) == Interval(0.25, None, None, 1)


def test_a_hopeless_spread_still_ends_in_positive_numbers():
    found = compare({"a": {1: 1e-9, 2: 1e9}, "b": {1: 1e9, 2: 1e-9}})
    for interval in (*found.means.values(), found.ratio("a", "b").together):
        assert 0 < interval.low <= interval.mean <= interval.high < math.inf

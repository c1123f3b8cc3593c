import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginebench.base.contrasts import added, contrast, share
from enginebench.base.estimator import compare

D = 0.06
#: Residuals ± d sum to 0 by row and column: 4 d² with 9 - 3 - 3 + 1 = 4 df, so the variance is d².
ROWS = {"a": [1 + D, 2 - D, 3], "b": [1 - D, 2 + D, 3], "c": [1, 2, 3]}


def of_logs(rows):
    return compare(
        {
            label: {block: math.exp(y) for block, y in enumerate(row, 1) if y is not None}
            for label, row in rows.items()
        }
    )


def test_a_contrast_of_two_is_their_ratio():
    found = of_logs(ROWS | {"c": [1.5, 2.5, None]})
    for a, b in (("a", "b"), ("c", "a")):
        ratio, one = found.ratio(a, b), contrast(found, {a: 1.0, b: -1.0})
        assert one.factor().mean == pytest.approx(ratio.alone.mean)
        assert one.factor().low == pytest.approx(ratio.alone.low)
        assert one.factor().high == pytest.approx(ratio.alone.high)
        assert one.trials == ratio.alone.trials


def test_a_contrast_of_three_has_the_variance_of_its_weights():
    one = contrast(of_logs(ROWS), {"a": 1.0, "b": -0.5, "c": -0.5})
    # (1 + 1/4 + 1/4) d² over 3 blocks; t(0.975, 4) = 2.776445.
    assert one.log == pytest.approx(0)
    assert one.half() == pytest.approx(2.776445 * D * math.sqrt(1.5 / 3), rel=1e-6)
    assert one.word(0.05, 0.03) == "cannot tell"
    # Three variants can be set apart for their spread: 2 % of the 5 % of a family goes to that.
    assert one.family_error == pytest.approx(0.03)


def test_of_one_block_a_contrast_has_no_interval():
    one = contrast(of_logs({"a": [1.0], "b": [3.0]}), {"b": 1.0, "a": -1.0})
    assert one.factor().mean == pytest.approx(math.exp(2))
    assert (one.factor().low, one.half(), one.word(0.05, 0.03)) == (None, None, "cannot tell")


def test_variants_that_no_block_links_have_no_contrast():
    found = compare({"a": {1: 5.0, 2: 5.0}, "b": {3: 6.0, 4: 6.1}})
    assert contrast(found, {"a": 1.0, "b": -1.0}) is None
    assert contrast(found, {"a": 1.0, "unknown": -1.0}) is None
    assert share(found, {"a": 1.0}, {"a": 1.0, "b": -1.0}) is None


@given(st.lists(st.floats(-0.1, 0.1), min_size=9, max_size=9))
def test_the_ends_of_a_share_are_where_the_part_may_be_that_share(noise):
    steps = {"a": 0.0, "b": 1.5, "c": 2.0}
    rows = {
        label: [log + e for e in noise[3 * i : 3 * i + 3]]
        for i, (label, log) in enumerate(steps.items())
    }
    found, part, whole = of_logs(rows), {"b": 1.0, "a": -1.0}, {"c": 1.0, "a": -1.0}
    one = share(found, part, whole)
    if one.low is None or found.spreads[0].apart:  # with one spread for all, exactly
        return
    for end in (one.low, one.high):
        at_end = contrast(found, added(part, whole, -end))
        assert abs(at_end.log) == pytest.approx(at_end.half(), rel=1e-4, abs=1e-6)
    assert one.low <= one.mean <= one.high


def test_shares_without_noise_are_exact_and_add_up():
    found = of_logs({"a": [0, 1], "b": [3, 4], "c": [4, 5]})
    parts = ({"b": 1.0, "a": -1.0}, {"c": 1.0, "b": -1.0})
    shares = [share(found, part, {"c": 1.0, "a": -1.0}) for part in parts]
    assert [(one.low, one.mean, one.high) for one in shares] == [
        (pytest.approx(0.75),) * 3,
        (pytest.approx(0.25),) * 3,
    ]


def test_of_a_whole_that_may_be_nothing_a_share_has_no_interval():
    one = share(of_logs(ROWS), {"a": 1.0, "b": -1.0}, {"a": 1.0, "c": -1.0})
    assert one is None or (one.low, one.high) == (None, None)


def test_a_part_that_is_the_whole_has_all_of_it_whatever_else_was_compared():
    # x stands alone in a block of its own, so no spread is known of it.
    figures = {"x": {9: 1.0}, "a": {1: 1.0, 2: 1.1, 3: 1.0}, "b": {1: 4.0, 2: 4.1, 3: 4.2}}
    one = share(compare(figures), {"b": 1.0, "a": -1.0}, {"b": 1.0, "a": -1.0})
    assert one.mean == 1
    assert all(end is None or math.isfinite(end) for end in (one.low, one.high))

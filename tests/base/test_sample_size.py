"""How many trials a comparison needs."""

import numpy as np
import pytest
from scipy import stats

from enginebench.base.sample_size import trials_needed


def test_the_number_is_that_of_published_tables():
    # Cohen (1988): a paired t-test at d = 0.5 needs 34 pairs for a power of 0.8. The log ratio has
    # d = log(1.1) / (sqrt(2) sd), so that sd = log(1.1) / (sqrt(2) 0.5).
    assert trials_needed(np.log(1.1) / (np.sqrt(2) * 0.5)) == 34


def test_simulated_studies_of_that_size_see_the_difference_and_smaller_ones_do_not():
    trials, sd = trials_needed(0.05), 0.05
    draw = np.random.default_rng(1).normal(np.log(1.1), sd * np.sqrt(2), (20_000, trials))
    seen = [
        (stats.ttest_1samp(draw[:, :count], 0, axis=1).pvalue < 0.05).mean()
        for count in (trials - 1, trials)
    ]
    assert seen[0] < 0.8 < seen[1]


def test_more_noise_more_variants_and_smaller_differences_need_more_trials():
    assert trials_needed(0.03) < trials_needed(0.05) < trials_needed(0.15)
    assert trials_needed(0.05, 2) < trials_needed(0.05, 3) < trials_needed(0.05, 9)
    assert trials_needed(0.05, difference=0.10) < trials_needed(0.05, difference=0.03)


def test_without_noise_two_trials_are_needed_as_one_has_no_interval():
    assert trials_needed(0.0) == trials_needed(1e-6) == 2


def test_a_number_beyond_a_thousand_is_not_stated():
    assert trials_needed(2.0) is None


@pytest.mark.parametrize(
    ("sd", "variants"), [(-0.1, 2), (float("nan"), 2), (float("inf"), 2), (0.1, 1)]
)
def test_nonsense_is_refused(sd, variants):
    with pytest.raises(ValueError, match="no number of trials"):
        trials_needed(sd, variants)

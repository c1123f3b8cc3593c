"""When a cell counts as disturbed, when it is run again, and which attempt counts."""

import math
from dataclasses import replace

import pytest

from enginebench.check import disturbance
from enginebench.check.disturbance import Attempt, RerunBudget, wants_rerun
from enginebench.metrics.machine_load import MachineFigures

QUIET = MachineFigures(
    window_s=20.0,
    cpus=2,
    ours_cores_mean=1.9,
    others_cores_mean=0.04,
    others_cores_max=0.2,
    others_share=0.02,
    contested_cores_mean=0.04,
    burst_share=0.0,
    steal_cores_mean=0.01,
    steal_share=0.005,
    waited_cpu_some_share=0.9,
    waited_memory_full_share=0.0,
)
AMPLE = RerunBudget(planned_s=600, spent_s=0, left_s=math.inf, planned_left_s=300)


def texts(figures):
    return [finding.text for finding in disturbance.disturbance_findings(figures)]


def attempt(number, cores, *, invalid=False, disturbed=True):
    return Attempt(number, invalid, disturbed, cores)


def test_a_quiet_machine_is_not_suspect_however_much_our_own_threads_wait():
    assert texts(QUIET) == []
    assert texts(MachineFigures()) == []  # nothing is known


def test_the_share_of_others_stands_in_words():
    busy = replace(
        QUIET,
        others_cores_mean=0.92,
        others_cores_max=1.4,
        others_share=0.46,
        contested_cores_mean=0.92,
        steal_cores_mean=0.03,
        steal_share=0.03,
    )
    (finding,) = disturbance.disturbance_findings(busy)
    assert finding.verdict == "suspect"
    assert finding.text == (
        "other processes used 0.92 of 2 cores on average (46%), at most 1.4; "
        "steal 3% of the CPU time that was asked for"
    )


def test_one_core_taken_for_a_third_of_the_time_is_suspect():
    assert texts(replace(QUIET, contested_cores_mean=0.33))


def test_others_on_cores_that_nobody_needs_disturb_nobody():
    apart = replace(QUIET, cpus=64, others_cores_mean=6.0, contested_cores_mean=0.0)
    assert texts(apart) == []


def test_services_may_take_one_hundredth_of_a_large_machine():
    assert texts(replace(QUIET, cpus=64, contested_cores_mean=0.6)) == []
    assert texts(replace(QUIET, cpus=64, contested_cores_mean=0.7))


def test_bursts_in_a_twentieth_of_the_time_are_suspect_whatever_the_mean():
    assert texts(replace(QUIET, burst_share=0.05))
    assert texts(replace(QUIET, burst_share=0.04)) == []


def test_steal_of_two_ticks_is_rounding_whatever_its_share():
    assert texts(replace(QUIET, steal_share=0.5, steal_cores_mean=0.01)) == []
    assert texts(replace(QUIET, steal_share=0.03, steal_cores_mean=0.05))


def test_a_machine_that_waits_for_memory_is_suspect():
    assert texts(replace(QUIET, waited_memory_full_share=0.04)) == [
        "all processes waited for memory 4% of the time"
    ]


def test_the_figure_that_attempts_are_compared_by_is_what_others_and_the_hypervisor_took():
    assert disturbance.disturbance(QUIET) == pytest.approx(0.05)
    assert disturbance.disturbance(MachineFigures()) is None
    assert disturbance.disturbance(replace(QUIET, contested_cores_mean=None)) == 0.01


def test_the_least_disturbed_attempt_counts():
    tries = [attempt(1, 0.9), attempt(2, 0.2), attempt(3, 0.4)]
    assert disturbance.counting_attempt(tries).number == 2
    assert disturbance.attempts_text(tries) == (
        "run 3 times because others disturbed it; attempt 2 counts, the least disturbed of those "
        "that are not invalid, whatever its speed (cores lost to others: 1: 0.90; 2: 0.20; 3: 0.40)"
    )


def test_an_invalid_attempt_never_counts_while_there_is_another():
    tries = [attempt(1, 0.9), attempt(2, 0.0, invalid=True, disturbed=False)]
    assert disturbance.counting_attempt(tries).number == 1
    assert disturbance.counting_attempt([attempt(1, 0.9, invalid=True)]).number == 1


def test_of_equal_attempts_the_first_counts_and_an_unknown_one_comes_last():
    assert disturbance.counting_attempt([attempt(2, 0.3), attempt(1, 0.3)]).number == 1
    assert disturbance.counting_attempt([attempt(1, None), attempt(2, 0.8)]).number == 2


def test_one_attempt_is_not_worth_a_word():
    assert disturbance.attempts_text([attempt(1, 0.0, disturbed=False)]) == ""


def test_a_disturbed_cell_is_run_again_twice_at_most():
    tries = [attempt(number, 0.5) for number in (1, 2, 3)]
    assert [wants_rerun(tries[:count], 10, AMPLE) for count in (1, 2, 3)] == [True, True, False]


def test_a_cell_is_not_run_again_once_an_attempt_was_left_alone():
    assert not wants_rerun([attempt(1, 0.0, disturbed=False)], 10, AMPLE)
    assert not wants_rerun([attempt(1, 0.5), attempt(2, 0.0, disturbed=False)], 10, AMPLE)


def test_what_is_wrong_for_another_reason_is_not_run_again():
    wrong = attempt(2, 0.0, invalid=True, disturbed=False)
    assert not wants_rerun([attempt(1, 0.5), wrong], 10, AMPLE)


def test_reruns_take_a_quarter_of_the_planned_time_at_most():
    tries = [attempt(1, 0.5)]
    assert wants_rerun(tries, 10, replace(AMPLE, spent_s=140))  # 150 of 600
    assert not wants_rerun(tries, 10, replace(AMPLE, spent_s=141))


def test_reruns_never_take_the_time_of_what_is_planned():
    tries = [attempt(1, 0.5)]
    assert wants_rerun(tries, 10, replace(AMPLE, left_s=310))
    assert not wants_rerun(tries, 10, replace(AMPLE, left_s=309))


def test_the_first_attempt_is_the_cells_directory_and_the_others_stand_beside_it():
    assert [disturbance.attempt_suffix(number) for number in (1, 2, 3)] == ["", "~2", "~3"]

"""The machine's noise before a study: from times that are known, and once for real."""

import math
import os

import pytest

from enginebench.base.sample_size import Spread
from enginebench.metrics.machine_load import MachineFigures
from enginebench.run import noise_probe
from enginebench.run.noise_probe import Noise


def pieces(walls, window_s=0.5):
    """One piece in each window."""
    return [(7 + window_s * index, wall_s) for index, wall_s in enumerate(walls)]


def test_a_machine_without_noise_has_none():
    assert noise_probe.sd_log([pieces([0.01] * 9), pieces([0.01] * 9)]) == pytest.approx(0.0)


def test_in_each_window_the_slowest_cpu_counts():
    # Slowest by window: 2, 1, 2, 1 (the fifth window is the last, and may be cut).
    found = noise_probe.sd_log([pieces([2, 1, 1, 1, 1]), pieces([1, 1, 2, 1, 1])])
    # Logs are a, 0, a, 0 with a = log 2: mean a/2, variance 4 (a/2)² / 3.
    assert found == pytest.approx(math.log(2) / math.sqrt(3))


@pytest.mark.parametrize("given", [[], [[]], [pieces([1] * 4)], [pieces([1] * 9), []]])
def test_too_few_windows_have_no_spread(given):
    assert noise_probe.sd_log(given) is None


MACHINE = MachineFigures(cpus=2, others_cores_mean=0.31, steal_share=0.012)
SEEN = Noise(4.0, (0, 1), 800, 0.05, 2.25, MACHINE)


def test_the_plan_says_what_was_seen_and_that_it_is_a_lower_bound():
    assert noise_probe.noise_lines(SEEN, None, 2, 3) == [
        "machine before the study: speed of equal work varies by 5.0% (standard deviation); the "
        "slowest piece took 2.2 times the median; other processes used 0.31 of 2 CPUs; steal 1.2%",
        "trials: a 10% difference would need at least 7 here (3 planned); spread 5.0%, "
        "4 s of equal work on 2 CPUs before the study",
        "engine starts differ for more reasons than this probe can see: take its spread as a "
        "lower bound for theirs",
    ]


def test_a_spread_between_starts_of_an_earlier_study_is_used_instead():
    before = Spread(0.15, "between the starts of results/2026-11-21-cpu", True)
    lines = noise_probe.noise_lines(SEEN, before, 2, 3)
    assert lines[1:] == [
        "trials: a 10% difference would need 41 here (3 planned); spread 15.0%, between the "
        "starts of results/2026-11-21-cpu"
    ]


def test_a_study_of_one_variant_compares_nothing_and_needs_no_number():
    assert len(noise_probe.noise_lines(SEEN, None, 1, 3)) == 1


def test_a_probe_that_failed_is_said_and_gives_no_number():
    failed = Noise(4.0, (0,), 0, None, None, MachineFigures(), "OSError: no")
    assert noise_probe.noise_lines(failed, None, 2, 3) == [
        "machine before the study: its noise could not be measured (OSError: no)"
    ]


def test_a_short_probe_of_this_machine():
    cpu = min(os.sched_getaffinity(0))
    found = noise_probe.measure([cpu], 1.2)
    assert found.error is None and found.cpus == (cpu,) and found.pieces > 0
    assert found.slowest_ratio >= 1


def test_a_cpu_that_is_not_there_ends_no_study():
    found = noise_probe.measure([4095], 0.5)
    assert found.error is not None and found.sd_log is None

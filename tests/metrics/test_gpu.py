import pytest
from builders import GIB
from builders import gpu_row as row

from enginebench.metrics import gpu

HALF = {"sw_power_cap": 0.5, "hw_slowdown": 0.25}


def test_the_peak_is_of_what_all_gpus_held_at_one_time():
    rows = [row(0, 0, used=5), row(0, 1, used=1), row(1, 0, used=2), row(1, 1, used=3)]
    assert gpu.figures(rows, ()).gpu_memory_peak_bytes == 6 * GIB  # not 5 + 3
    lost = [*rows, row(2, 0, used=9), row(2, 1, used=None)]
    assert gpu.figures(lost, ()).gpu_memory_peak_bytes == 6 * GIB


def test_only_the_gpus_that_name_a_process_of_the_engine_count():
    rows = [row(0, 0, power=70.0, load=0.0, pids=[9]), row(0, 1, power=250.0, load=1.0, pids=[7])]
    found = gpu.figures(rows, {7, 8})
    assert (found.power_w_mean, found.gpu_utilisation_mean) == (250.0, 1.0)
    of_all = gpu.figures(rows, {8})
    assert (of_all.power_w_mean, of_all.gpu_utilisation_mean) == (320.0, 0.5)


def test_a_mean_is_over_time_and_needs_every_gpu():
    rows = [row(0, power=100.0), row(1, power=200.0), row(2, power=None)]
    assert gpu.figures(rows, ()).power_w_mean == 150.0
    assert gpu.figures([*rows, row(0, 1, power=None)], ()).power_w_mean is None


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        ([["gpu_idle"], ["application_clocks"], []], {}),
        ([["sw_power_cap"], ["gpu_idle"], ["sw_power_cap", "hw_slowdown"], []], HALF),
        ([None, None], None),
        ([], None),
    ],
)
def test_throttling_is_a_share_of_the_samples_that_say(reasons, expected):
    found = gpu.figures([row(t, reasons=r) for t, r in enumerate(reasons)], ()).throttled
    assert found == expected


def test_failures_are_counted_by_gpu():
    rows = [row(0), row(1, error="GPU is lost"), row(2, error="GPU is lost"), row(2, 1)]
    assert gpu.figures(rows, ()).gpu_errors == {"GPU 0: GPU is lost": 2}

"""A cell's figures of the machine, from rows whose figures are known."""

import msgspec
import pytest

from enginebench.base.machine_row import MachineRow
from enginebench.metrics import machine_load
from enginebench.metrics.machine_load import MachineFigures


def rows(others, ours=1.5, cpus=2, steal=0.0, step_s=0.5, **fixed):
    """Rows every half second: others' cores in each interval, ours and steal all the time."""
    busy_s = ours_s = steal_s = 0.0
    made = []
    for index, value in enumerate([0.0, *others]):
        if index:
            busy_s += (value + ours) * step_s
            ours_s += ours * step_s
            steal_s += steal * step_s
        made.append(
            MachineRow(
                t_s=10 + index * step_s,
                cpus=tuple(range(cpus)),
                cpu_busy_s=tuple(busy_s / cpus for _ in range(cpus)),
                cpu_steal_s=tuple(steal_s / cpus for _ in range(cpus)),
                ours_s=ours_s,
                **{name: value[index] for name, value in fixed.items()},
            )
        )
    return made


def test_others_are_what_is_busy_and_not_ours():
    found = machine_load.figures(rows([0.0, 0.4, 0.4, 0.0, 0.0, 0.0, 0.0, 0.0]))
    assert found.window_s == pytest.approx(4.0)
    assert found.others_cores_mean == pytest.approx(0.1)  # 0.4 cores in 1 of 4 s
    assert found.others_cores_max == pytest.approx(0.4)  # a whole second of it
    assert found.others_share == pytest.approx(0.05)  # of 2
    assert found.ours_cores_mean == pytest.approx(1.5)


def test_the_largest_is_over_a_sliding_second_and_not_over_one_reading():
    # Half a second at 0.4: 0.2 cores over any second that has it.
    found = machine_load.figures(rows([0.0, 0.4, 0.0, 0.0]))
    assert found.others_cores_max == pytest.approx(0.2)


def test_others_that_leave_enough_idle_cores_are_not_contested():
    # 64 CPUs, 8 are ours, 4 are others': 52 idle, more than a quarter.
    found = machine_load.figures(rows([4.0] * 6, ours=8.0, cpus=64))
    assert (found.others_cores_mean, found.contested_cores_mean) == (pytest.approx(4.0), 0.0)
    # 60 of 64 are ours: 3 idle, less than 16.
    found = machine_load.figures(rows([1.0] * 6, ours=60.0, cpus=64))
    assert found.contested_cores_mean == pytest.approx(1.0)
    assert found.burst_share == 1.0


def test_contested_is_averaged_over_the_whole_cell():
    # 2 CPUs, 0.5 ours: with 1.0 others 0.5 is idle, contested; with 0.2 others 1.3 is idle, not.
    found = machine_load.figures(rows([1.0, 1.0, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2], ours=0.5))
    assert found.contested_cores_mean == pytest.approx(0.25)  # 1.0 in 1 of 4 s


def test_a_second_that_is_partly_disturbed_is_a_burst_only_above_half_a_core():
    # Sliding seconds end at rows 2..8: (1+1)/2, (1+0)/2, then 0. Only the first is above 0.5.
    found = machine_load.figures(rows([1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], ours=1.0))
    assert found.burst_share == pytest.approx(1 / 7)


def test_steal_is_a_share_of_the_time_that_was_asked_for():
    found = machine_load.figures(rows([0.0] * 4, ours=1.0, steal=0.25))
    assert found.steal_cores_mean == pytest.approx(0.25)
    assert found.steal_share == pytest.approx(0.2)  # 0.25 of 1.0 + 0.25


def test_an_error_of_the_counters_is_no_negative_figure():
    found = machine_load.figures(rows([-0.05] * 4))
    assert (found.others_cores_mean, found.others_cores_max) == (0.0, 0.0)


def test_counters_that_contradict_each_other_say_nothing_of_others():
    # A sandbox whose /proc/stat stands still: ours 1.5 cores, busy none.
    found = machine_load.figures(rows([-1.5] * 4))
    assert (found.others_cores_mean, found.contested_cores_mean) == (None, None)
    assert found.window_s == pytest.approx(2.0)


def test_of_a_hidden_engine_steal_and_pressure_are_still_known():
    made = rows([0.1] * 4, steal=0.25, waited_cpu_some_s=[5.0, 5.1, 5.2, 5.3, 5.4])
    hidden = [MachineRow(**(msgspec.structs.asdict(row) | {"ours_s": None})) for row in made]
    found = machine_load.figures(hidden)
    assert (found.others_cores_mean, found.ours_cores_mean) == (None, None)
    assert found.steal_cores_mean == pytest.approx(0.25)
    assert found.waited_cpu_some_share == pytest.approx(0.2)  # 0.4 of 2 s


def test_frequency_and_temperature_are_over_all_rows_that_have_them():
    found = machine_load.figures(
        rows(
            [0.0] * 2,
            frequency_min_hz=[2e9, 1e9, None],
            frequency_mean_hz=[2e9, 2e9, None],
            frequency_max_hz=[3e9, 2e9, None],
            temperature_c=[60.0, 71.0, None],
        )
    )
    assert (found.frequency_min_hz, found.frequency_mean_hz) == (1e9, 2e9)
    assert (found.frequency_max_hz, found.temperature_max_c) == (3e9, 71.0)


@pytest.mark.parametrize("made", [[], rows([]), rows([0.5])])
def test_less_than_a_second_is_not_measured(made):
    assert machine_load.figures(made) == MachineFigures()


def test_a_cpu_that_goes_off_line_makes_cpu_time_unknown():
    first, last = rows([0.0] * 4)[0], rows([0.0] * 4, cpus=1)[-1]
    assert machine_load.figures([first, last]).others_cores_mean is None

"""The wait before a cell is run again."""

from enginebench.base.machine_row import MachineRow
from enginebench.run import quiet


def machine(others):
    """A reader of a machine whose others take so many cores in each half second."""
    busy_s, rows = 0.0, []
    for index, cores in enumerate([0.0, *others]):
        busy_s += 0.5 * (cores or 0.0)
        cpu = {"cpus": (0,), "cpu_busy_s": (busy_s,), "cpu_steal_s": (0.0,)}
        rows.append(MachineRow(t_s=0.5 * index, ours_s=None if cores is None else 0.0, **cpu))
    return iter(rows).__next__


def test_the_wait_ends_after_two_quiet_seconds():
    # Busy for 1 s; the last 2 s before 3.0 s are the first without it.
    slept = []
    assert quiet.wait(machine([1.0, 1.0, *[0.0] * 40]), sleep=slept.append)
    assert len(slept) == 6


def test_a_machine_that_stays_busy_is_waited_for_no_longer_than_the_limit():
    slept = []
    assert not quiet.wait(machine([0.5] * 40), limit_s=5.0, sleep=slept.append)
    assert len(slept) == 10


def test_nobody_is_waited_for_where_others_are_not_known():
    assert quiet.wait(machine([None] * 40), sleep=lambda _: None)

"""What the client says of itself: figures from hand-made notes."""

from array import array

import pytest

from enginebench.load import client_stats
from enginebench.load.exchange import Exchange
from enginebench.load.spec import LoadResult, ProcessStats


def exchange(index, planned_s, ready_s, sent_s, end_s, arrival_s=(), read_s=()):
    made = Exchange(index, planned_s, ready_s, sent_s)
    made.arrival_s, made.read_s, made.end_s = array("d", arrival_s), array("d", read_s), end_s
    return made


def stats(**changes):
    fields = {"started_s": 0.0, "ended_s": 10.0, "cpu_s": 2.5, "streams": 2, "connections": 3}
    fields |= {"lag_s": array("d", [0.001, 0.003]), "pieces": 3, "pieces_stamped": 3}
    return ProcessStats(**fields | {"clock_error_ns": 80} | changes)


def test_the_figures_of_a_load():
    result = LoadResult(
        [
            exchange(0, 0.0, 0.0, 0.5, 4.5, [1.0, 2.0], [1.25, 2.0]),
            exchange(1, 1.0, 4.5, 4.5, 8.5, [5.0], [5.5]),  # it waited for the stream, not for us
            exchange(2, 2.0, None, None, None),  # never sent
        ],
        [stats()],
    )
    found = client_stats.figures(result)
    assert (found.stamps, found.clock_error_s) == ("kernel", 80e-9)
    assert (found.cpu_s, found.cpu_ratio, found.connections) == (2.5, 0.25, 3)
    assert found.busy_ratio == 8 / 8.5  # 4 s + 4 s in flight, half a second late
    assert (found.send_late_s_max, found.send_late_s_mean) == (0.5, 0.25)
    assert (found.receive_late_s_max, found.receive_late_s_p50) == (0.5, 0.25)
    assert (found.lag_s_max, found.lag_s_p50) == (0.003, 0.002)


@pytest.mark.parametrize(("stamped", "stamps"), [(3, "kernel"), (1, "both"), (0, "client")])
def test_whose_stamps_they_were_is_said(stamped, stamps):
    found = client_stats.figures(LoadResult([], [stats(pieces_stamped=stamped)]))
    assert found.stamps == stamps
    assert (found.clock_error_s is None) == (stamped == 0)


def test_of_several_processes_the_worst_counts():
    found = client_stats.figures(
        LoadResult([], [stats(), stats(clock_error_ns=500, lag_s=array("d", [0.5]))])
    )
    assert (found.processes, found.clock_error_s, found.lag_s_max) == (2, 5e-7, 0.5)
    assert (found.cpu_s, found.cpu_ratio) == (5.0, 0.25)

"""What the client says of itself, and what that makes of a cell: hand-made notes."""

from array import array

import pytest

from enginebench.check import client_error
from enginebench.load import calibrate, client_stats
from enginebench.load.calibrate import Calibration, Level
from enginebench.load.exchange import Exchange, Spool, arrivals
from enginebench.load.scripted_server import Served
from enginebench.load.spec import Own, Taken
from enginebench.plan import plan, study_file

FIGURES = {"ttft_s_p50": 0.1, "tpot_s_p50": 0.01}


def exchange(index, planned_s, ready_s, sent_s, end_s, arrival_s=(), read_s=()):
    made = Exchange(index, planned_s, ready_s, sent_s)
    made.arrival_s, made.read_s, made.end_s = array("d", arrival_s), array("d", read_s), end_s
    return made


def own(**changes):
    fields = {"started_s": 0.0, "ended_s": 10.0, "cpu_s": 2.5, "streams": 2, "connections": 3}
    fields |= {"lag_s": array("d", [0.001, 0.003]), "pieces": 3, "pieces_stamped": 3}
    return Own(**fields | {"clock_error_ns": 80} | changes)


def test_the_figures_of_a_load():
    taken = Taken(
        [
            exchange(0, 0.0, 0.0, 0.5, 4.5, [1.0, 2.0], [1.25, 2.0]),
            exchange(1, 1.0, 4.5, 4.5, 8.5, [5.0], [5.5]),  # it waited for the stream, not for us
            exchange(2, 2.0, None, None, None),  # never sent
        ],
        [own()],
    )
    found = client_stats.figures(taken)
    assert (found["stamps"], found["clock_error_s"]) == ("kernel", 80e-9)
    assert (found["cpu_s"], found["cpu_ratio"], found["connections"]) == (2.5, 0.25, 3)
    assert found["busy_ratio"] == 8 / 8.5  # 4 s + 4 s in flight, half a second late
    assert (found["send_late_s_max"], found["send_late_s_mean"]) == (0.5, 0.25)
    assert (found["receive_late_s_max"], found["receive_late_s_p50"]) == (0.5, 0.25)
    assert (found["lag_s_max"], found["lag_s_p50"]) == (0.003, 0.002)


@pytest.mark.parametrize(("stamped", "stamps"), [(3, "kernel"), (1, "both"), (0, "client")])
def test_whose_stamps_they_were_is_said(stamped, stamps):
    found = client_stats.figures(Taken([], [own(pieces_stamped=stamped)]))
    assert found["stamps"] == stamps
    assert (found["clock_error_s"] is None) == (stamped == 0)


def test_of_several_processes_the_worst_counts():
    found = client_stats.figures(
        Taken([], [own(), own(clock_error_ns=500, lag_s=array("d", [0.5]))])
    )
    assert (found["processes"], found["clock_error_s"], found["lag_s_max"]) == (2, 5e-7, 0.5)
    assert (found["cpu_s"], found["cpu_ratio"]) == (5.0, 0.25)


def test_kernel_stamps_become_times_of_our_clock_and_missing_ones_the_time_of_reading():
    stamps = array("q", [100, 500_000_000, 0, 0]).tobytes()
    read_s = array("d", [3.0, 4.0])
    assert arrivals(stamps, read_s, -98_000_000_000) == (array("d", [2.5, 4.0]), 1)
    assert arrivals(stamps, read_s, None) == (read_s, 0)


def test_finished_responses_are_read_back_from_their_file():
    spool = Spool()
    kept = [spool.keep(bytearray(text)) for text in (b"first", b"", b"third")]
    assert [found.read() for found in kept] == [b"first", b"", b"third"]
    assert spool.path.stat().st_mode & 0o077 == 0
    spool.close()
    assert not spool.path.exists()


def notes(**changes):
    fields = {"stamps": "kernel", "clock_error_s": 1e-7, "lag_s_p99": 0.002, "pieces": 1000}
    fields |= {"busy_ratio": 0.999, "send_late_s_mean": 0.0001, "cpu_ratio": 0.2}
    return fields | {"receive_late_s_p99": 0.0005} | changes


def verdicts(found, figures=FIGURES):
    return [(f.check, f.verdict) for f in client_error.findings(found, figures)]


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, None),
        ({"lag_s_p99": 0.1}, None),  # the kernel's stamps do not mind
        ({"busy_ratio": 0.95, "send_late_s_mean": 0.02}, "suspect"),
        ({"busy_ratio": 0.85, "send_late_s_mean": 0.2}, "invalid"),
        ({"busy_ratio": 0.95, "send_late_s_mean": 0.001}, None),  # of tiny requests
        ({"cpu_ratio": 0.95}, "suspect"),
        ({"receive_late_s_p99": 0.02}, "suspect"),
        ({"receive_late_s_p99": 0.02, "pieces": 100}, None),  # too few for a p99
        ({"clock_error_s": 0.001}, "suspect"),  # 10 % of the median TPOT
    ],
)
def test_a_client_that_could_change_a_conclusion_is_found(changes, verdict):
    assert verdicts(notes(**changes)) == ([("client", verdict)] if verdict else [])


def test_without_the_kernels_stamps_the_loops_lag_is_the_error():
    bare = notes(stamps="client", clock_error_s=None, receive_late_s_p99=None)
    assert verdicts(bare | {"lag_s_p99": 0.0004}) == []
    assert verdicts(bare) == [("client", "suspect")]  # 2 ms of a TPOT of 10
    assert verdicts(bare | {"lag_s_p99": 0.004}) == [("client", "invalid")]
    assert verdicts(bare | {"lag_s_p99": 0.03}) == [("client", "invalid")] * 2  # TTFT as well


def test_an_older_record_without_these_notes_is_not_judged():
    assert verdicts(None) == []


def test_errors_are_against_the_servers_own_account():
    class Record:
        request_id, error, sent_s, event_s = "a", None, 1.0, [2.5, 3.75]

    served = Served("a", 1.25, array("d", [2.0, 3.0]), array("d", [2.0, 3.0]), 3.0)
    found = calibrate.errors([Record], [served])
    assert found["ttft_error_s_p50"] == 0.75  # 0.25 to the server, 0.5 back
    assert found["itl_error_s_p99"] == 0.25  # a gap of 1.25 where the server made 1
    assert found["token_delay_s_p50"] == pytest.approx(0.625)  # 0.5 and 0.75
    assert found["server_late_s_p99"] == 0


def test_every_level_of_a_study_is_calibrated_at_its_highest_expected_rate():
    data = {
        "name": "s",
        "engines": [
            {"engine": "a", "hint": {"tokens_per_s": {1: 50.0, 8: 400.0}}},
            {"engine": "b", "hint": {"tokens_per_s": {1: 80.0, 8: 300.0}}},
        ],
        "workloads": [
            {"name": "w", "prompt_tokens": 8, "output_tokens": 10, "concurrency": [1, 8]},
            {
                "name": "o",
                "prompt_tokens": 8,
                "output_tokens": 10,
                "rate": [5],
                "max_in_flight": 16,
            },
        ],
    }
    found = calibrate.levels(plan.make(study_file.parse(data, "x")))
    assert found == [Level(1, 80.0), Level(8, 400.0), Level(16, 50.0)]


def calibration(cpu_per_token_s):
    return Calibration(8, 400.0, 100, True, "kernel", *(0.0,) * 6, 1.0, cpu_per_token_s)


@pytest.mark.parametrize(
    ("tokens_per_s", "cpus", "processes"),
    [(1000, 8, 1), (59_000, 8, 1), (61_000, 8, 2), (500_000, 8, 8), (500_000, 2, 2)],
)
def test_processes_are_started_where_one_would_need_too_much_of_a_core(
    tokens_per_s, cpus, processes
):
    found = [calibration(1e-5), calibration(1e-3)]  # 10 us a token: 60,000 in 0.6 of a core
    assert calibrate.processes(found, tokens_per_s, cpus) == processes
    assert calibrate.processes([], tokens_per_s, cpus) == 1


def test_a_calibration_of_the_real_client_finds_it_near_the_server():
    with calibrate.apart() as cpu:
        found = calibrate.measure(Level(4, 2000.0), 0.2, cpu)
    assert found.tokens == 8 * 35  # (0.2 s / 2 - 30 ms) / 2 ms, twice a stream
    assert abs(found.token_delay_s_p50) < 1.0
    assert found.stamps in ("kernel", "both", "client")

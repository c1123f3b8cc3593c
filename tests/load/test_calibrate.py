"""The client held against a server whose times are known."""

import dataclasses
import socket
from array import array

import pytest

from enginebench.load import calibrate, clock
from enginebench.load.calibrate import Calibration, ClientErrors, Level
from enginebench.load.script import Served
from enginebench.plan import plan, study_file

pytestmark = pytest.mark.serial  # times are measured


def test_errors_are_against_the_servers_own_account():
    class Record:
        request_id, error, sent_s, event_s = "a", None, 1.0, [2.5, 3.75]

    served = Served("a", 1.25, array("d", [2.0, 3.0]), array("d", [2.0, 3.0]), 3.0)
    found = calibrate.errors([Record], [served])
    assert found.ttft_error_s_p50 == 0.75  # 0.25 to the server, 0.5 back
    assert found.itl_error_s_p99 == 0.25  # a gap of 1.25 where the server made 1
    assert found.token_delay_s_p50 == pytest.approx(0.625)  # 0.5 and 0.75
    assert found.server_late_s_p99 == 0


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
    errors = {field.name: 0.0 for field in dataclasses.fields(ClientErrors)}
    return Calibration(
        streams=8,
        tokens_per_s=400.0,
        tokens=100,
        has_own_core=True,
        stamps="kernel",
        busy_ratio=1.0,
        cpu_per_token_s=cpu_per_token_s,
        **errors,
    )


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
    with calibrate.reserved_cpu() as cpu:
        found = calibrate.measure(Level(4, 2000.0), 0.2, cpu)
    assert found.tokens == 8 * 35  # (0.2 s / 2 - 30 ms) / 2 ms, twice a stream
    # Half of the tokens are stamped within 20 ms of their sending, which is a hundred times what
    # an idle machine needs, and none is stamped before it: less the error of the two clocks.
    assert -1e-3 < found.token_delay_s_p50 < 0.02
    assert -1e-3 < found.ttft_error_s_p50 < 0.05
    assert found.has_own_core == (cpu is not None)
    with socket.socket() as probe:
        assert found.stamps == ("kernel" if clock.enable_stamps(probe) else "client")

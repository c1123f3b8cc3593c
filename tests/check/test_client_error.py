"""Which cells the client's own error makes suspect or invalid."""

import pytest

from enginebench.check import client_error
from enginebench.record.schema import ClientStats

FIGURES = {"ttft_s_p50": 0.1, "tpot_s_p50": 0.01}


def notes(**changes):
    fields = {"stamps": "kernel", "clock_error_s": 1e-7, "lag_s_p99": 0.002, "pieces": 1000}
    fields |= {"busy_ratio": 0.999, "send_late_s_mean": 0.0001, "cpu_ratio": 0.2}
    return ClientStats(**(fields | {"receive_late_s_p99": 0.0005} | changes))


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
    def bare(lag_s):
        changes = {"stamps": "client", "clock_error_s": None, "receive_late_s_p99": None}
        return notes(lag_s_p99=lag_s, **changes)

    assert verdicts(bare(0.0004)) == []
    assert verdicts(bare(0.002)) == [("client", "suspect")]  # 2 ms of a TPOT of 10
    assert verdicts(bare(0.004)) == [("client", "invalid")]
    assert verdicts(bare(0.03)) == [("client", "invalid")] * 2  # TTFT as well


def test_an_older_record_without_these_notes_is_not_judged():
    assert verdicts(None) == []

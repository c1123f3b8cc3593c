"""An engine that was stopped makes no wrong token: only the gap shows it."""

import pytest
from builders import request

from enginebench.check import silence
from enginebench.metrics.request_table import gather


def answered(sent_s, *event_s, end_s=None):
    return request(
        sent_s=sent_s,
        event_s=list(event_s),
        event_tokens=[1] * len(event_s),
        event_chars=[1] * len(event_s),
        end_s=event_s[-1] if end_s is None else end_s,
    )


def streamed(sent_s, first_s, gap_s, tokens, stop_at_s=None, stopped_s=0.0):
    """A request whose tokens come at a steady pace; all after a moment are that much later."""
    times = [sent_s + first_s + gap_s * k for k in range(tokens)]
    return answered(
        sent_s, *[t + stopped_s * (stop_at_s is not None and t >= stop_at_s) for t in times]
    )


def found(*rows, errors=()):
    return list(silence.findings(gather(rows), list(errors)))


def test_a_steady_cell_has_no_silence():
    assert found(*(streamed(k, 0.2, 0.05, 100) for k in range(8))) == []


def test_an_engine_that_was_stopped_for_ten_seconds_is_suspect_with_the_gap():
    rows = [streamed(k, 0.21, 0.05, 100, stop_at_s=9.0, stopped_s=9.97) for k in range(8)]
    (finding,) = found(*rows)
    assert (finding.check, finding.verdict) == ("silence", "suspect")
    # The last event before the stop is at 8.96 s (4 + 0.21 + 95 · 0.05); the next one would be at
    # 9.01 s and is at 18.98 s.
    assert finding.text.startswith("no request in flight had an event for 10.0 s, from 9.0 s")


def test_one_stream_that_stalls_beside_others_is_no_silence():
    rows = [streamed(0, 0.2, 0.05, 800), streamed(0, 0.2, 0.05, 100, stop_at_s=3, stopped_s=10.0)]
    assert found(*rows) == []


def test_a_pause_between_requests_is_no_silence():
    assert found(streamed(0, 0.2, 0.05, 50), streamed(60, 0.2, 0.05, 50)) == []


def test_a_long_prefill_that_every_request_has_is_usual():
    # One after another: 30 s to the first token, then 0.05 s a token.
    assert found(*(streamed(40 * k, 30, 0.05, 100) for k in range(5))) == []


def test_a_prefill_far_longer_than_the_others_is_suspect():
    rows = [streamed(10 * k, 0.3, 0.05, 100) for k in range(8)]
    (finding,) = found(*rows, streamed(100, 12, 0.05, 100))
    # 20 times 0.3 s are 6 s.
    assert "for 12.0 s" in finding.text and "0.3 s is usual" in finding.text


@pytest.mark.parametrize(("pace_s", "stopped_s", "is_suspect"), [
    (0.05, 4.9, False),  # never below five seconds
    (0.05, 5.1, True),
    (0.5, 9.0, False),  # nor below 20 times the usual 0.5 s
    (0.5, 10.5, True),
])  # fmt: skip
def test_a_silence_is_long_absolutely_and_beside_the_cells_own_gaps(pace_s, stopped_s, is_suspect):
    row = streamed(0, pace_s, pace_s, 200, stop_at_s=8.0, stopped_s=stopped_s)
    assert bool(found(row)) == is_suspect


def test_requests_that_were_never_sent_have_no_silence():
    assert found(request(), request()) == []
    assert found() == []


def test_times_that_span_ages_cost_no_memory():
    assert found(answered(0.0, 0.1, 1e12)) != []


def test_readings_that_timed_out_are_suspect_and_other_failures_are_the_counters_business():
    row = streamed(0, 0.2, 0.05, 100)
    errors = [None, "Timeout: no whole answer within 5 s", None, "ConnectionRefusedError: no"]
    (finding,) = found(row, errors=errors)
    assert finding.verdict == "suspect"
    assert finding.text.startswith("1 of 4 readings of the engine's metrics got no answer in time")

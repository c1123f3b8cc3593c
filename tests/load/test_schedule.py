"""When requests are sent: due times, caps, ramps, and requests given up on purpose."""

import pytest
from driving import TOKENS, in_flight, play

from enginebench.load.script import Script

pytestmark = pytest.mark.serial  # times are measured


def test_an_open_loop_sends_when_requests_are_due_whatever_is_in_flight():
    due = [0.0, 0.0, 0.0, 0.05, 0.1]
    slow = Script(first_s=0.5, pace_s=0.001)
    result, records, _, stats = play(5, 5, slow, due_s=due)
    planned = [r.planned_s - result.stats[0].started_s for r in records]
    assert planned == pytest.approx(due)
    assert all(r.error is None and r.planned_s <= r.sent_s for r in records)
    assert in_flight(records) == 5
    assert stats.streams == 5


def test_with_a_cap_what_is_due_waits_and_both_times_are_kept():
    slow = Script(first_s=0.05, pace_s=0.001)
    _, records, _, stats = play(6, 2, slow, due_s=[0.0] * 6)
    assert in_flight(records) == 2
    assert {r.error for r in records} == {None}
    waits = sorted(r.sent_s - r.planned_s for r in records)
    assert waits[-1] > 2 * 0.05  # behind two others
    # The wait for the cap is a part of the load, not a lateness of the client.
    assert stats.send_late_s_p50 < 0.05


def test_a_ramp_starts_the_streams_one_after_another():
    _, records, _, _ = play(4, 4, Script(first_s=0.3), ramp_s=0.2)
    first = min(r.planned_s for r in records)
    assert sorted(r.planned_s - first for r in records) == pytest.approx([0, 0.05, 0.1, 0.15])
    assert all(r.planned_s <= r.sent_s for r in records)


def test_a_cancelled_request_is_told_by_closing_its_stream_and_the_others_go_on():
    slow = Script(first_s=0.01, pace_s=0.1)
    _, records, served, _ = play(4, 2, slow, cancel_after_s={1: 0.05})
    assert [r.error_kind for r in records] == [None, "cancelled", None, None]
    assert records[1].error == "cancelled after 0.05 s, as planned"
    assert len(records[1].event_s) < TOKENS
    gone = {account.request_id: account.end_s for account in served}
    assert gone["1"] is None  # the server found the stream closed
    assert None not in (gone["0"], gone["2"], gone["3"])

import pytest
from builders import request

from enginebench.metrics import lockstep
from enginebench.metrics.request_table import gather


def requests(*sent_s, takes_s=10.0):
    """Requests of one token each; the answer is complete so many seconds after it was sent."""
    return gather(
        request(
            planned_s=sent,
            sent_s=sent,
            event_s=[] if sent is None else [sent + takes_s],
            event_tokens=[] if sent is None else [1],
            event_chars=[] if sent is None else [1],
            output_tokens=None if sent is None else 1,
            error="not sent" if sent is None else None,
        )
        for sent in sent_s
    )


def test_streams_that_start_and_end_together_are_in_lock_step():
    # Four streams: all send at 0, again at 10 and again at 20.
    assert lockstep.in_step_share(requests(*[0.0] * 4, *[10.0] * 4, *[20.0] * 4), 4) == 1.0


def test_evenly_spread_streams_are_out_of_step():
    # Five streams of requests of 10 s, one of them free every 2 s: nobody within ±0.5 s.
    assert lockstep.in_step_share(requests(*[2.0 * k for k in range(15)]), 5) == 0.0


def test_two_of_three_streams_together_are_half_in_step():
    # After the first burst two streams send at 10, one at 15, each again 10 s later: the two have
    # one of two others near, the third has none; the median request has 1 of 2.
    times = [0.0, 0.0, 5.0, 10.0, 10.0, 15.0, 20.0, 20.0, 25.0]
    assert lockstep.in_step_share(requests(*times), 3) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("sent_s", "streams"),
    [([0.0, 10.0, 20.0], 1), ([0.0, 0.0], 2), ([0.0, 0.0, 10.0], 2), ([None, None], 2), ([], 4)],
)
def test_one_stream_or_one_wave_says_nothing(sent_s, streams):
    assert lockstep.in_step_share(requests(*sent_s), streams) is None


def test_the_burst_is_the_first_request_of_every_stream():
    found = lockstep.burst(requests(0.2, 0.0, 5.0, 0.1, None), 3)
    assert found.tolist() == [True, True, False, True, False]

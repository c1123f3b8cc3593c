import math

import pytest
from builders import request_row as row

from enginebench.metrics import latency
from enginebench.metrics.request_table import gather

NEVER_ANSWERED = row(event_s=[], event_tokens=[], event_chars=[], output_tokens=None, error="x")


def times(**changes):
    """The latencies of one request, and its gaps."""
    found = gather([row(**changes)])
    each = latency.request_times(found)
    (figures,) = zip(each.ttft_s, each.ttft_planned_s, each.tpot_s, each.e2e_s, strict=True)
    return *(None if math.isnan(f) else f for f in figures), latency.inter_token_s(found).tolist()


def test_the_latencies_of_a_request():
    ttft_s, ttft_planned_s, tpot_s, e2e_s, itl_s = times()
    assert (ttft_s, ttft_planned_s, e2e_s) == (1, 2, 6)
    assert tpot_s == pytest.approx(5 / 3)  # 16 - 11, over the 3 tokens after the first
    assert itl_s == [1, 2, 2]  # the gap of 4 is shared by its two tokens


def test_tokens_in_the_first_event_have_no_gap():
    assert times(event_tokens=[3, 1, 1])[-1] == [1, 4]


def test_the_first_token_is_the_first_that_shows_text():
    ttft_s, ttft_planned_s, tpot_s, *_ = times(event_chars=[0, 2, 7])
    assert (ttft_s, ttft_planned_s) == (2, 3)
    assert tpot_s == pytest.approx(4 / 3)


def test_an_event_of_unknown_size_gives_no_gap():
    assert times(event_tokens=[1, None, 2])[-1] == [2, 2]
    assert times(event_tokens=[None] * 3)[-1] == []


@pytest.mark.parametrize("tokens", [1, None])
def test_one_token_or_an_unknown_number_has_no_time_per_token(tokens):
    _, _, tpot_s, e2e_s, _ = times(output_tokens=tokens)
    assert (tpot_s, e2e_s) == (None, 6)


@pytest.mark.parametrize(
    "unmeasured",
    [
        {"event_s": [], "event_tokens": [], "event_chars": []},
        {"sent_s": None},
        {"event_chars": [0, 0, 0]},
    ],
)
def test_what_a_request_never_reached_is_none_not_zero(unmeasured):
    assert times(**unmeasured) == (None, None, None, None, [])


def test_figures_do_not_depend_on_the_pieces_in_which_a_cell_is_read(monkeypatch):
    rows = [row(sent_s=9 + k / 10, event_s=[11.0 + k, 12.0, 19.0 + k]) for k in range(30)]
    rows = [*rows[:7], NEVER_ANSWERED, *rows[7:], row(event_chars=[0, 0, 0])]
    at_once = latency.cell_figures(rows)
    monkeypatch.setattr("enginebench.metrics.request_table.EVENTS_AT_ONCE", 8)
    assert latency.cell_figures(rows) == at_once


def test_the_window_of_a_cell_is_from_first_sent_to_last_token():
    late = row(
        sent_s=14.0,
        event_s=[15.0, 20.0],
        event_tokens=[1, 5],
        event_chars=[1, 1],
        output_tokens=6,
    )
    figures = latency.cell_figures([late, row()])
    assert figures["window_s"] == 10  # 10 to 20
    assert figures["output_tokens"] == 10
    assert figures["prompt_tokens"] == 200
    assert figures["output_tokens_per_s"] == 1
    assert figures["requests_per_s"] == pytest.approx(0.2)
    assert figures["ttft_s_mean"] == 1  # 1 and 1
    assert figures["e2e_s_mean"] == 6  # 6 and 6
    assert figures["ttft_planned_s_p50"] == 4  # 2 and 6
    assert figures["itl_s_mean"] == pytest.approx((1 + 2 + 2 + 5) / 8)
    assert figures["tpot_s_p50"] == pytest.approx((5 / 3 + 1) / 2)


def test_a_failed_request_is_counted_as_failed():
    figures = latency.cell_figures([row(), NEVER_ANSWERED])
    assert (figures["requests"], figures["requests_failed"]) == (2, 1)
    assert figures["requests_per_s"] == pytest.approx(1 / 6)
    assert figures["ttft_s_mean"] == 1  # over the one that has it


@pytest.mark.parametrize("rows", [[], [NEVER_ANSWERED]])
def test_a_cell_without_an_answer_has_no_figures(rows):
    figures = latency.cell_figures(rows)
    assert (figures["requests"], figures["output_tokens"]) == (len(rows), 0)
    unmeasured = {name for name, value in figures.items() if value is None}
    assert {"window_s", "output_tokens_per_s", "requests_per_s", "ttft_s_mean"} <= unmeasured
    assert {"itl_s_p50", "tpot_s_p90", "e2e_s_p95", "ttft_planned_s_p99"} <= unmeasured


@pytest.mark.parametrize(("percent", "shown", "claimed"), [(90, 29, 64), (95, 59, 130)])
def test_a_percentile_of_few_requests_is_none(percent, shown, claimed):
    found = {n: latency.cell_figures([row()] * n) for n in (shown - 1, shown, claimed - 1, claimed)}
    name = f"ttft_s_p{percent}"
    assert [found[n][name] for n in (shown - 1, shown)] == [None, 1]
    assert [found[n][f"{name}_bound"] for n in (shown - 1, shown)] == [None, 1]
    assert [found[n][f"{name}_claim"] for n in (claimed - 1, claimed)] == [None, 1]


def test_the_tail_of_gaps_is_there_with_what_it_rests_on():
    # Seven requests of three gaps each, 1, 2 and 2 s: 21 gaps allow a p95, 100 would a p99.
    found = latency.cell_figures([row()] * 7)
    names = ("itl_gaps", "itl_s_p95", "itl_s_p99", "itl_s_max")
    assert [found[name] for name in names] == [21, 2, None, 2]
    assert latency.cell_figures([row()] * 6)["itl_s_p95"] is None  # of 18


def test_e2e_from_the_planned_time_has_the_wait_before_sending():
    found = latency.cell_figures([row()])  # planned at 9, sent at 10, last token at 16
    assert (found["e2e_s_p50"], found["e2e_planned_s_p50"]) == (6, 7)


def test_the_first_burst_of_a_closed_loop_is_apart_from_what_follows():
    def sent(at_s, ttft_s):
        return row(sent_s=at_s, event_s=[at_s + ttft_s, at_s + 5.0, at_s + 6.0])

    rows = [sent(10.0, 4.0), sent(10.0, 4.0), sent(20.0, 1.0), sent(23.0, 2.0)]
    found = latency.cell_figures(rows, streams=2)
    assert (found["ttft_burst_s_p50"], found["ttft_steady_s_p50"]) == (4, 1.5)
    assert found["in_step_share"] == 0  # 3 s apart, of requests of 6 s
    together = [*rows[:2], sent(20.0, 4.0), sent(20.1, 4.0)]
    assert latency.cell_figures(together, streams=2)["in_step_share"] == 1
    names = ("in_step_share", "ttft_burst_s_p50", "ttft_steady_s_p50")
    for alone in (None, 1):  # an open loop, one stream
        assert [latency.cell_figures(rows, alone)[name] for name in names] == [None] * 3


def test_events_of_more_tokens_than_could_be_held_as_gaps_are_no_figures():
    odd = row(event_s=[1.0, 2.0, 3.0], event_tokens=[1, 2**31 - 1, 1], event_chars=[1] * 3)
    with pytest.raises(ValueError, match="2,147,483,649 tokens in 3 events"):
        latency.cell_figures([odd])

from builders import kv_row as row

from enginebench.metrics import kv_in_flight
from enginebench.metrics.request_table import gather


def held(moments_s, *rows):
    return kv_in_flight.at(moments_s, gather(rows)).tolist()


def test_a_request_holds_its_prompt_and_all_but_its_newest_token_until_its_last():
    assert held([0.5, 1.0, 1.5, 2.0, 3.9, 4.0], row([1.0, 2.0, 4.0], [1, 2, 1])) == [
        0, 10, 10, 12, 12, 0,
    ]  # fmt: skip


def test_requests_add_up_and_one_that_ends_makes_room_for_one_that_begins_then():
    rows = [row([1.0, 3.0], [1, 1]), row([2.0, 3.0, 5.0], [4, 1, 1], 100), row([3.0, 6.0], [1, 1])]
    # 10, then + 103; at 3 the first gives back 10, the second gains 1, the third comes with 10.
    assert held([1, 2, 3, 5, 6], *rows) == [10, 113, 114, 10, 0]
    assert kv_in_flight.tokens_in_flight_peak(gather(rows)) == 114


def test_a_request_is_rounded_up_to_whole_blocks():
    found = gather([row([1.0, 2.0, 4.0], [1, 2, 1])])
    assert kv_in_flight.at([1.0, 2.0, 4.0], found, 8).tolist() == [16, 16, 0]


def test_what_made_no_token_or_says_no_count_holds_nothing_that_is_known():
    rows = [row([], []), row([1.0, 2.0], [1, None])]
    assert kv_in_flight.tokens_in_flight_peak(gather(rows)) is None
    assert held([1.5], *rows) == [0]
    assert (
        kv_in_flight.tokens_in_flight_peak(gather([*rows, row([1.0], [1])])) == 0
    )  # given back at once


def test_a_cell_read_in_pieces_and_slices_of_time_holds_what_it_holds_in_one(monkeypatch):
    steps = [range(5 + k % 3) for k in range(60)]
    rows = [
        row([k + n / 7 for n in mine], [1 + (k + n) % 4 for n in mine], k)
        for k, mine in enumerate(steps)
    ]
    rows += [row([], []), row([3.0, 9.0], [2, None])]
    whole = gather(rows)
    moments = [k / 3 for k in range(200)]
    at_once = kv_in_flight.at(moments, whole, 16), kv_in_flight.tokens_in_flight_peak(whole)
    monkeypatch.setattr("enginebench.metrics.request_table.EVENTS_AT_ONCE", 17)
    monkeypatch.setattr(kv_in_flight, "LARGE", 1)
    assert len(list(whole.parts())) > 10
    assert kv_in_flight.at(moments, whole, 16).tolist() == at_once[0].tolist()
    assert kv_in_flight.tokens_in_flight_peak(whole) == at_once[1] > 50

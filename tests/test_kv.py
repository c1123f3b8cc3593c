from enginebench import kv


def row(event_s, event_tokens, prompt=10):
    return {"event_s": event_s, "event_tokens": event_tokens, "prompt_tokens_asked": prompt}


def test_a_request_holds_its_prompt_and_all_but_its_newest_token_until_its_last():
    times, tokens = kv.tokens_in_flight([row([1.0, 2.0, 4.0], [1, 2, 1])])
    assert list(times) == [1, 2, 4]
    assert list(tokens) == [10, 12, 0]


def test_requests_add_up_and_one_that_ends_makes_room_for_one_that_begins_then():
    rows = [row([1.0, 3.0], [1, 1]), row([2.0, 3.0, 5.0], [4, 1, 1], 100), row([3.0, 6.0], [1, 1])]
    times, tokens = kv.tokens_in_flight(rows)
    assert list(times) == [1, 2, 3, 3, 3, 5, 6]
    # 10, then + 103; at 3 the first gives back 10, the second gains 1, the third comes with 10.
    assert list(tokens) == [10, 113, 103, 104, 114, 10, 0]
    assert kv.tokens_in_flight_peak(rows) == 114


def test_what_made_no_token_or_says_no_count_holds_nothing_that_is_known():
    rows = [row([], []), row([1.0, 2.0], [1, None])]
    assert kv.tokens_in_flight_peak(rows) is None

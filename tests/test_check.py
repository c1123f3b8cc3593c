import pytest

from enginebench import check


def row(index, **changes):
    return {
        "prompt_sha256": f"sha{index}",
        "prompt_tokens_asked": 10,
        "prompt_tokens": 10,
        "output_tokens_asked": 4,
        "output_tokens": 4,
        "cached_tokens": None,
        "event_tokens": [1, 1, 2],
        "finish_reason": "length",
        "error": None,
        **changes,
    }


def problems(rows, asked=None, first=None, last=None):
    return check.problems(rows, len(rows) if asked is None else asked, first or {}, last or {})


def with_one_changed(**changes):
    return [row(0), row(1, **changes), row(2)]


def test_a_cell_where_all_agrees_has_no_problem():
    first = {"output_tokens_total": 5, "prompt_tokens_total": 7, "prefix_hit_tokens_total": 3}
    last = {"output_tokens_total": 17, "prompt_tokens_total": 37, "prefix_hit_tokens_total": 3}
    assert problems([row(0), row(1), row(2)], 3, first, last) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"output_tokens": 3, "event_tokens": [1, 1, 1]},
            "1 of 3 requests did not make exactly the tokens asked for",
        ),
        (
            {"output_tokens": None, "event_tokens": [None]},
            "1 of 3 requests did not make exactly the tokens asked for",
        ),
        (
            {"prompt_tokens": 11},
            "1 of 3 requests had another prompt length at the engine than was sent",
        ),
        ({"finish_reason": "stop"}, "1 of 3 requests ended for another reason than their length"),
        (
            {"event_tokens": [1, 2]},
            "1 of 3 requests streamed another number of tokens than their usage says",
        ),
        ({"cached_tokens": 8}, "1 of 3 requests had prompt tokens served from a cache"),
        (
            {"error": "timed out after 9 s\nsecond line"},
            "1 of 3 requests failed; the first: timed out after 9 s",
        ),
        ({"error": ""}, "1 of 3 requests failed; the first: no reason given"),
        ({"prompt_sha256": "sha0"}, "3 requests had only 2 different prompts"),
    ],
)
def test_each_reason_is_given_alone(changes, reason):
    assert problems(with_one_changed(**changes)) == [reason]


@pytest.mark.parametrize(
    "changes", [{"prompt_tokens": None}, {"cached_tokens": 0}, {"event_tokens": [None, 1]}]
)
def test_what_an_engine_does_not_say_is_not_held_against_it(changes):
    assert problems(with_one_changed(**changes)) == []


def test_requests_that_are_not_there_are_a_problem():
    assert problems([row(0)], asked=2) == ["1 requests were recorded, 2 were planned"]
    assert problems([], asked=2) == ["0 requests were recorded, 2 were planned"]


def test_a_failed_request_is_one_problem_and_not_several():
    broken = {"error": "cut", "output_tokens": 1, "finish_reason": None, "prompt_tokens": None}
    first, last = {"output_tokens_total": 0}, {"output_tokens_total": 9}
    found = problems(with_one_changed(**broken), 3, first, last)
    assert found == ["1 of 3 requests failed; the first: cut"]


@pytest.mark.parametrize(
    ("name", "grown", "reason"),
    [
        (
            "output_tokens_total",
            7,
            "the engine's output_tokens_total grew by 7, the client counted 8",
        ),
        (
            "prompt_tokens_total",
            40,
            "the engine's prompt_tokens_total grew by 40, the client counted 20",
        ),
        (
            "prefix_hit_tokens_total",
            16,
            "16 prompt tokens came from a prefix cache that should be off",
        ),
    ],
)
def test_the_engines_own_counters_must_agree(name, grown, reason):
    found = problems([row(0), row(1)], 2, {name: 100.0}, {name: 100.0 + grown})
    assert found == [reason]


@pytest.mark.parametrize(
    ("first", "last"), [(None, 8.0), (0.0, None), (100.0, 50.0)], ids=["start", "end", "reset"]
)
def test_a_counter_that_is_absent_or_was_reset_is_skipped(first, last):
    name = "output_tokens_total"
    assert problems([row(0)], 1, {name: first}, {name: last}) == []


def test_a_counter_is_skipped_where_the_client_was_told_no_count():
    first, last = {"prompt_tokens_total": 0.0}, {"prompt_tokens_total": 10.0}
    assert problems([row(0, prompt_tokens=None)], 1, first, last) == []

import pytest
from builders import findings_of
from builders import request_row as row

from enginebench.check import answers, counters, findings, request_checks
from enginebench.check.findings import Finding
from enginebench.metrics.agreement import Comparison, Difference
from enginebench.metrics.request_table import gather


def of_requests(*rows, asked=None):
    found = findings_of(rows, len(rows) if asked is None else asked)
    return [(finding.check, finding.verdict) for finding in found], [f.text for f in found]


def test_a_cell_where_all_agrees_has_no_finding():
    assert of_requests(row(0), row(1), row(2)) == ([], [])


@pytest.mark.parametrize(
    ("changes", "name", "says"),
    [
        ({"output_tokens": 3, "event_tokens": [1, 1, 1]}, "output", "stopped early"),
        ({"output_tokens": 5, "event_tokens": [1, 1, 3]}, "output", "made too many"),
        ({"prompt_tokens": 101}, "prompt", "a second BOS?"),
        ({"prompt_tokens": 97}, "prompt", "silently cut?"),
        ({"prompt_tokens": None}, "prompt", "did not say how long"),
        ({"finish_reason": "stop"}, "finish", "another reason than their length"),
        ({"event_tokens": [1, 1, 1]}, "stream", "another number of tokens than their usage"),
        ({"cached_tokens": 8}, "cache", "served from a cache"),
        ({"error": "timed out\nmore"}, "complete", "requests failed; the first: timed out"),
        ({"error": ""}, "complete", "the first: no reason given"),
        ({"event_s": [11.0, 10.9, 16.0]}, "clock", "times that are not in order"),
        ({"sent_s": 8.5}, "clock", "times that are not in order"),
    ],
)
def test_each_fault_of_a_request_makes_the_cell_invalid_with_its_own_reason(changes, name, says):
    kinds, texts = of_requests(row(0), row(1, **changes), row(2))
    assert kinds == [(name, "invalid")]
    assert texts[0].startswith("1 of 3 requests") and says in texts[0]


def test_an_engine_that_does_not_count_its_tokens_is_invalid():
    kinds, texts = of_requests(row(output_tokens=None, event_tokens=[None, None, None]))
    assert ("output", "invalid") in kinds
    assert "did not say how many tokens they made" in texts[0]


def test_a_request_that_is_missing_is_told():
    kinds, texts = of_requests(row(0), asked=2)
    assert kinds == [("complete", "invalid")] and "1 requests were recorded, 2 planned" in texts[0]


@pytest.mark.parametrize(("tokens", "expected"), [(3, []), (4, [("text", "invalid")])])
def test_tokens_that_show_nothing_at_the_end_are_padding_from_the_fourth_on(tokens, expected):
    padded = row(
        output_tokens_asked=9, output_tokens=9, event_tokens=[9 - tokens, 1, tokens - 1],
        event_chars=[9, 0, 0], text_tokens=9,
    )  # fmt: skip
    assert of_requests(padded)[0] == expected


@pytest.mark.parametrize(
    ("text_tokens", "expected"),
    [(6, []), (7, [("text", "invalid")]), (2, []), (1, [("text", "suspect")]), (None, [])],
)
def test_usage_is_held_against_our_own_count_of_the_text(text_tokens, expected):
    assert of_requests(row(text_tokens=text_tokens))[0] == expected


def test_events_of_unknown_size_are_suspect():
    kinds, texts = of_requests(row(event_tokens=[None, None, None]))
    assert kinds == [("stream", "suspect")] and "no ITL for them" in texts[0]


def test_the_same_prompt_twice_is_invalid_and_the_same_answer_always_is_suspect():
    assert of_requests(row(0), row(1, prompt_sha256="sha0"))[0] == [("different", "invalid")]
    same = [row(index, text="the same") for index in range(3)]
    assert of_requests(*same)[0] == [("different", "suspect")]
    assert of_requests(*same, row(3))[0] == []
    assert of_requests(row(0, text="alone"))[0] == []


def of_counters(first, last, *rows):
    rows = rows or (row(0), row(1), row(2))
    return [
        (f.check, f.verdict, f.text) for f in counters.counter_findings(gather(rows), first, last)
    ]


def test_counters_that_grew_by_what_the_client_saw_are_right():
    first = {"output_tokens_total": 5, "prompt_tokens_total": 7, "prefix_hit_tokens_total": 3}
    last = {"output_tokens_total": 17, "prompt_tokens_total": 307, "prefix_hit_tokens_total": 3}
    assert of_counters(first, last) == []


def test_counters_that_grew_otherwise_are_invalid():
    ((name, verdict, text),) = of_counters({"output_tokens_total": 5}, {"output_tokens_total": 5})
    assert (name, verdict) == ("counters", "invalid")
    assert text == "the engine's output_tokens_total grew by 0, the client counted 12"


def test_hits_of_a_prefix_cache_are_invalid():
    hits = of_counters({"prefix_hit_tokens_total": 3}, {"prefix_hit_tokens_total": 19})
    assert [(name, verdict) for name, verdict, _ in hits] == [("cache", "invalid")]
    assert hits[0][2].startswith("16 prompt tokens came from a prefix cache")


@pytest.mark.parametrize(("cached", "expected"), [(40, []), (41, ["cache"]), (None, [])])
def test_of_a_declared_beginning_no_more_than_it_may_come_from_a_cache(cached, expected):
    rows = [row(0, cached_tokens=40), row(1, cached_tokens=cached)]
    found = findings_of(rows, 2, cached_permitted=40)
    assert [(f.check, f.verdict) for f in found] == [(name, "invalid") for name in expected]
    assert all("1 of 2 requests had more than 40 prompt tokens" in f.text for f in found)


@pytest.mark.parametrize(("grown", "expected"), [(120, []), (121, ["cache"])])
def test_nor_may_the_engines_counter_say_that_more_did(grown, expected):
    # Three requests that may have 40 each.
    rows = [row(index) for index in range(3)]
    first, last = {"prefix_hit_tokens_total": 5}, {"prefix_hit_tokens_total": 5 + grown}
    found = list(counters.counter_findings(gather(rows), first, last, 40))
    assert [(f.check, f.verdict) for f in found] == [(name, "invalid") for name in expected]
    assert all("121 prompt tokens" in f.text and "120 at most" in f.text for f in found)


@pytest.mark.parametrize("values", [(None, 3.0), (3.0, None)])
def test_a_counter_that_could_not_be_read_is_suspect_not_right(values):
    ((name, verdict, text),) = of_counters(*({"output_tokens_total": value} for value in values))
    assert (name, verdict) == ("counters", "suspect") and "could not be read" in text


def test_a_counter_that_fell_is_suspect():
    ((name, verdict, text),) = of_counters({"output_tokens_total": 90}, {"output_tokens_total": 12})
    assert (name, verdict) == ("counters", "suspect")
    assert text == "the engine's counters fell: output_tokens_total"


def test_a_counter_that_the_engine_does_not_have_is_skipped():
    assert of_counters({}, {}) == []


def test_counters_are_not_compared_where_requests_failed():
    first, last = {"output_tokens_total": 0}, {"output_tokens_total": 6}
    assert of_counters(first, last, row(0), row(1, error="cut")) == []


def test_a_failed_warmup_is_suspect():
    (finding,) = request_checks.warmup_findings([row(0), row(1, error="no")])
    assert (finding.verdict, finding.failed) == ("suspect", 1)


@pytest.mark.parametrize(
    ("margin", "unanswered", "expected"),
    [(0.0005, 0, []), (0.2, 0, ["answers"]), (0.0005, 1, ["answers"])],
)
def test_answers_that_part_where_the_choice_was_clear_are_suspect(margin, unanswered, expected):
    parted = Difference(prompt=3, token=7, margin=margin)
    found = Comparison("a/x", "b/y", ("float32", "float32"), 8, unanswered, (parted,), None)
    assert [finding.check for finding in answers.answer_findings(found)] == expected


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [([], "valid"), (["suspect"], "suspect"), (["suspect", "invalid", "suspect"], "invalid")],
)
def test_the_worst_finding_decides(verdicts, expected):
    assert findings.verdict([Finding("clock", verdict, "") for verdict in verdicts]) == expected

import dataclasses
import json
import math

import msgspec
import pytest
from builders import record_of
from fake_server import HEAD, LAST_CHUNK, answer, event, sse
from hypothesis import given, settings
from hypothesis import strategies as st
from project import ROOT

from enginebench.engines.dialect import Delta, GenerationRequest, Usage
from enginebench.engines.directory import load_engine
from enginebench.load import request_record
from enginebench.load.exchange import Exchange
from enginebench.metrics.latency import cell_figures
from enginebench.record import schema
from enginebench.record.encoding import Encoder

DIALECT = load_engine(ROOT, "vllm").dialect
ASK = GenerationRequest((1, 2, 3, 4, 5), "five tokens", 3, prompt_sha256="ab12")


def read(*pieces, fault=None, dialect=DIALECT):
    """The record of pieces that arrived at 1, 2, 3 ... seconds."""
    return record_of(pieces, dialect, ASK, fault)


def test_a_whole_answer_is_read_token_by_token():
    record = read(*answer("r7", 3))
    assert record.error is None
    assert (record.planned_s, record.sent_s, record.headers_s, record.end_s) == (0.25, 0.5, 1, 9)
    assert (record.event_s, record.event_tokens, record.event_chars) == (
        [2, 3, 4],
        [1] * 3,
        [5] * 3,
    )
    assert record.text == "r7.1 r7.2 r7.3 "
    assert (record.prompt_tokens, record.output_tokens, record.cached_tokens) == (5, 3, None)
    assert (record.finish_reason, record.status) == ("length", 200)
    assert (record.index, record.phase, record.request_id) == (7, "measured", "r7")
    assert (record.prompt_tokens_asked, record.output_tokens_asked) == (5, 3)
    assert record.prompt_sha256 == "ab12"


def test_where_the_answer_is_split_changes_nothing_but_the_times():
    whole = read(b"".join(answer("r7", 3)))
    raw = b"".join(answer("r7", 3))
    for cut in range(1, len(raw)):
        record = read(raw[:cut], raw[cut:])
        assert record.event_tokens == whole.event_tokens
        assert dataclasses.replace(record, event_s=[], headers_s=1.0) == dataclasses.replace(
            whole, event_s=[]
        )


def test_several_tokens_in_one_event_are_counted_from_its_usage():
    record = read(HEAD, event("a", 1), event("bcde", 5), event("f", 6, "length") + LAST_CHUNK)
    assert record.event_tokens == [1, 4, 1]
    assert record.event_chars == [1, 4, 1]
    assert record.output_tokens == 6


def test_an_event_with_neither_text_nor_tokens_is_no_event():
    record = read(HEAD, event("", 0), event("a", 1), event("", 1, "length") + LAST_CHUNK)
    assert (record.event_s, record.event_tokens) == ([3], [1])
    assert record.finish_reason == "length"


def test_a_token_that_shows_nothing_is_kept_with_no_characters():
    record = read(HEAD, event("", 1), event("ab", 2, "length") + LAST_CHUNK)
    assert (record.event_s, record.event_tokens, record.event_chars) == ([2, 3], [1, 1], [0, 2])


def test_without_usage_tokens_are_unknown_not_zero():
    record = read(HEAD, event("a"), event("b", finish="length") + LAST_CHUNK)
    assert record.error is None
    assert record.event_tokens == [None, None]
    assert (record.prompt_tokens, record.output_tokens) == (None, None)


def test_a_count_that_comes_only_at_the_end_is_not_put_on_one_event():
    usage = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}
    record = read(HEAD, event("a"), event("b", finish="length"), sse(usage) + LAST_CHUNK)
    assert record.output_tokens == 2
    assert (record.event_s, record.event_tokens) == ([2, 3], [None, None])


def test_a_dialect_that_fixes_the_tokens_of_an_event_needs_no_usage():
    def one_token(data):
        delta = DIALECT.read(data)
        return dataclasses.replace(delta, tokens=1) if delta.text else delta

    usage = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}
    record = read(
        HEAD,
        event("a"),
        event("b", finish="length"),
        sse(usage) + LAST_CHUNK,
        dialect=dataclasses.replace(DIALECT, read=one_token),
    )
    assert (record.event_s, record.event_tokens, record.output_tokens) == ([2, 3], [1, 1], 2)


def test_an_event_that_fixes_its_tokens_is_not_made_to_fit_the_total():
    def one_token(data):
        return dataclasses.replace(DIALECT.read(data), tokens=1)

    record = read(
        HEAD,
        event("a"),
        event("b", 5, "length") + LAST_CHUNK,  # three events were lost, or never were
        dialect=dataclasses.replace(DIALECT, read=one_token),
    )
    assert (record.event_tokens, record.output_tokens) == ([1, 1], 5)


def test_cached_prompt_tokens_are_noted():
    usage = {"prompt_tokens_details": {"cached_tokens": 4}}
    record = read(HEAD, event("a", 1, "length", **usage) + LAST_CHUNK)
    assert record.cached_tokens == 4


@pytest.mark.parametrize(
    ("error", "says"),
    [
        ({"message": "out of memory", "code": 500}, "the engine reported: out of memory"),
        ("out of memory", "the engine reported: out of memory"),
        ({"code": 500}, "the engine reported: {'code': 500}"),
    ],
)
def test_an_error_inside_a_200_is_an_error(error, says):
    record = read(HEAD, event("a", 1), sse({"error": error}) + LAST_CHUNK)
    assert (record.status, record.error, record.text) == (200, says, "a")


def test_the_first_error_is_the_one_that_is_kept():
    pieces = [HEAD, sse({"error": "first"}), sse({"error": "second"}) + LAST_CHUNK]
    assert read(*pieces).error == "the engine reported: first"
    assert read(*pieces, fault="timed out").error == "timed out"


@pytest.mark.parametrize("data", ["{half", "[1]", "5"])
def test_an_event_that_is_not_a_json_object_is_an_error(data):
    record = read(HEAD, sse(data), event("a", 1, "length") + LAST_CHUNK)
    assert record.error.startswith("the engine reported: an event is not ")
    assert data in record.error


@pytest.mark.parametrize(
    "value", [{"choices": [None]}, {"choices": 5}, {"choices": ["a"]}, {"usage": 5}]
)
def test_an_event_of_another_shape_is_an_error_not_an_exception(value):
    record = read(HEAD, sse(value), event("a", 1, "length") + LAST_CHUNK)
    assert record.error is not None


def test_an_http_error_is_kept_with_its_body():
    body = json.dumps({"error": "prompt too long"}).encode()
    head = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n" % len(body)
    record = read(head + body)
    assert (record.status, record.error) == (400, 'HTTP 400: {"error": "prompt too long"}')
    assert (record.event_s, record.text) == ([], "")


def test_a_long_error_body_is_cut():
    record = read(b"HTTP/1.1 500 Oops\r\nContent-Length: 9000\r\n\r\n" + b"x" * 9000)
    assert record.error == "HTTP 500: " + "x" * 2000


def test_a_stream_without_a_finish_reason_is_an_error():
    record = read(HEAD, event("a", 1) + LAST_CHUNK)
    assert record.error == "the stream ended without a finish reason"


def test_the_fault_of_an_early_close_is_kept_and_so_is_what_came_before_it():
    record = read(HEAD, event("a", 1), fault="the engine closed the connection before the end")
    assert record.error == "the engine closed the connection before the end"
    assert (record.text, record.output_tokens, record.event_s) == ("a", 1, [2])


def test_bytes_after_the_end_are_an_error():
    record = read(*answer("r7", 3), b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert record.error.startswith("bytes after the end of the answer: b'HTTP/1.1 400")
    assert record.output_tokens == 3


def test_what_is_not_http_is_an_error():
    record = read(b"SSH-2.0-OpenSSH_9.6\r\n")
    assert record.error == "not an HTTP/1.1 response: b'SSH-2.0-OpenSSH_9.6\\r\\n'"
    assert record.status is None


def test_a_request_that_was_never_sent_has_no_times():
    took = Exchange(0, fault="cannot connect: refused")
    record = request_record.read(took, DIALECT, ASK, phase="warmup", request_id="w0")
    assert (record.sent_s, record.headers_s, record.end_s, record.status) == (None,) * 4
    assert record.error == "cannot connect: refused"


def test_a_record_goes_through_json_unchanged():
    record = read(*answer("r7", 3))
    assert (
        request_record.RequestRecord(**json.loads(json.dumps(dataclasses.asdict(record)))) == record
    )


def test_the_end_marker_says_nothing_else():
    assert DIALECT.read(" [DONE] ") == Delta()


def test_a_completions_body_asks_for_exactly_so_many_greedy_tokens():
    body = DIALECT.body(ASK)
    assert (body["prompt"], body["max_tokens"], body["ignore_eos"]) == ([1, 2, 3, 4, 5], 3, True)
    assert (body["temperature"], body["stream"]) == (0, True)
    assert body["stream_options"]["include_usage"] is True


def test_token_ids_and_margins_are_asked_for_only_where_they_are_wanted():
    assert "return_token_ids" not in DIALECT.body(ASK)
    body = DIALECT.body(dataclasses.replace(ASK, wants_ids=True))
    assert (body["return_token_ids"], body["logprobs"]) == (True, 2)


def test_token_ids_and_margins_are_kept_token_by_token():
    tops = [{"token_id:7": -0.5, "token_id:8": -2.0}, {"token_id:9": -0.1}]
    events = [
        {"text": "a", "token_ids": [7], "logprobs": {"top_logprobs": tops[:1]}},
        {"text": "b", "token_ids": [9, 9], "logprobs": {"top_logprobs": [tops[1], None]}},
    ]
    pieces = [sse(json.dumps({"choices": [choice]})) for choice in events]
    record = read(HEAD, *pieces, LAST_CHUNK)
    assert record.token_ids == [7, 9, 9]
    assert record.margins == [1.5, None, None]  # one entry alone has no distance


def test_without_ids_there_are_none():
    record = read(*answer("r7", 3))
    assert (record.token_ids, record.margins) == (None, None)


def reading(**delta):
    """A dialect whose every event says the same."""
    return dataclasses.replace(DIALECT, read=lambda data: Delta(**delta))


@pytest.mark.parametrize("name", ["output_tokens", "prompt_tokens", "cached_tokens"])
@pytest.mark.parametrize(
    "count",
    [-1, 2**31, 2**70, 10**5000, "3", 1.5, -1.0, 1e30, math.nan, math.inf, True, [3], {}],
    ids=lambda value: type(value).__name__,
)
def test_a_usage_that_is_no_count_fails_its_request_and_is_not_recorded(name, count):
    odd = reading(text="a", tokens=1, usage=Usage(**{name: count}), finish_reason="length")
    record = read(*answer("r7", 1), dialect=odd)
    assert (record.error_kind, getattr(record, name)) == ("protocol", None)
    assert name in record.error and len(record.error) < 200


@pytest.mark.parametrize("tokens", [-1, 2**31, "3", 1.5, True, 1e30, math.nan])
def test_an_event_of_an_odd_number_of_tokens_fails_its_request(tokens):
    record = read(*answer("r7", 1), dialect=reading(text="a", tokens=tokens))
    assert record.error_kind == "protocol"
    assert set(record.event_tokens) == {None}


@pytest.mark.parametrize("ids", [[1, -1], [2**31], ["a"], [1.5], [True]])
def test_ids_that_are_none_fail_their_request(ids):
    record = read(*answer("r7", 1), dialect=reading(text="a", tokens=1, token_ids=ids))
    assert (record.error_kind, record.token_ids) == ("protocol", None)


def test_a_reader_that_stumbles_over_an_event_fails_the_request_only():
    def stumble(data):
        raise TypeError("'<' not supported between a str and an int")

    record = read(*answer("r7", 2), dialect=dataclasses.replace(DIALECT, read=stumble))
    assert record.error_kind == "protocol"
    assert record.error.startswith("an event that cannot be read (TypeError: '<' not supported")


def test_a_total_below_what_was_counted_makes_no_event_negative():
    # 4 tokens said, then an event of unknown size with a total of 3.
    record = read(HEAD, event("abcd", 4), event("e", 3, "length") + LAST_CHUNK)
    assert record.event_tokens == [4, 0] and record.output_tokens == 3


def test_the_short_figures_are_those_of_the_report():
    late = request_record.RequestRecord(
        1, "measured", "1", "b", 5, 3, planned_s=9.0, sent_s=10.0, event_s=[11.0, 12.0, 20.0],
        event_tokens=[1, 1, 1], event_chars=[0, 4, 4], output_tokens=3,
    )  # fmt: skip
    early = dataclasses.replace(late, sent_s=9.5, event_s=[10.0, 10.25, 11.0])
    never = request_record.RequestRecord(2, "measured", "2", "c", 5, 3, error="refused")
    records = [late, early, never]
    short, whole = request_record.short_figures(records), cell_figures(records)
    # Sent at 9.5, last token at 20: 6 tokens in 10.5 s. First text after 2 and 0.75 s.
    assert (short.requests, short.failed, short.output_tokens) == (3, 1, 6)
    assert (short.window_s, short.ttft_s_p50) == (10.5, 1.375)
    assert short.output_tokens_per_s == whole["output_tokens_per_s"]
    assert (short.window_s, short.ttft_s_p50) == (whole["window_s"], whole["ttft_s_p50"])
    nothing = request_record.short_figures([never])
    assert (nothing.window_s, nothing.output_tokens_per_s, nothing.ttft_s_p50) == (None,) * 3


def stream(*events, end="data: [DONE]\n\n"):
    """A whole answer of events as an engine writes them; numbers and halves as they stand."""
    return read(HEAD, *(sse(data) for data in events), sse_raw(end) + LAST_CHUNK)


def sse_raw(text):
    raw = text.encode()
    return b"%x\r\n%s\r\n" % (len(raw), raw)


def said(text, total, finish="null", prompt="5"):
    """An event's JSON as it is written: ``total`` and the text stand in it as they are."""
    return (
        f'{{"choices": [{{"text": "{text}", "finish_reason": {finish}}}], '
        f'"usage": {{"prompt_tokens": {prompt}, "completion_tokens": {total}}}}}'
    )


END = '"length"'


def test_a_count_that_is_a_whole_float_is_that_count():
    record = stream(said("a", "1.0", prompt="5.0"), said("b", "2.0", END, "5.0"))
    assert record.error is None
    counts = (record.prompt_tokens, record.output_tokens, record.event_tokens)
    assert counts == (5, 2, [1, 1])
    assert all(type(n) is int for n in (record.prompt_tokens, *record.event_tokens))


@pytest.mark.parametrize("total", ["1.5", '"1"', "true", "-1", "1e30", "1" + "0" * 30, "[1]", "{}"])
def test_a_total_that_is_no_count_fails_its_request_with_the_reason(total):
    record = stream(said("a", total), said("b", 2, END))
    assert record.error_kind in ("protocol", "engine")
    assert "output_tokens" in record.error
    assert all(n is None or 0 <= n < 2**31 for n in record.event_tokens)


@pytest.mark.parametrize("total", ["NaN", "Infinity", "-Infinity"])
def test_what_is_not_json_fails_its_request(total):
    record = stream(said("a", total), said("b", 2, END))
    assert (record.error_kind, "an event is not JSON" in record.error) == ("engine", True)


@pytest.mark.parametrize(
    ("totals", "events"),
    [
        # Each event has what the total grew by; where one falls, the sum is not the last total.
        ([1, 2, 3, 5, 4], [1, 1, 1, 2, 0]),
        ([1, 3, 2, 4], [1, 2, 0, 2]),
        ([4000, 2, 3], [4000, 0, 1]),
    ],
)
def test_a_total_that_falls_does_not_add_up(totals, events):
    record = stream(*(said("a", n) for n in totals[:-1]), said("a", totals[-1], END))
    assert record.event_tokens == events
    assert record.output_tokens == totals[-1] != sum(events)


@pytest.mark.parametrize(
    ("texts", "whole", "chars"),
    [
        ([" \\ud83d", "\\ude00", "x"], " 😀x", [1, 1, 1]),
        ([" \\ud83d\\ude00"], " 😀", [2]),
        (["\\ud83d", "x"], "\ufffdx", [0, 2]),
        (["\\ude00", "x"], "\ufffdx", [1, 1]),
        (["x", "\\ud83d"], "x\ufffd", [1, 1]),
        (["\\ud83d", "\\ud83d", "\\ude00"], "\ufffd😀", [0, 1, 1]),
        (["\\ud83d", "", "\\ude00"], "😀", [0, 0, 1]),
    ],
)
def test_halves_of_a_character_are_joined_or_replaced(texts, whole, chars):
    events = [said(text, k + 1) for k, text in enumerate(texts)]
    record = stream(*events[:-1], said(texts[-1], len(texts), END))
    assert record.error is None
    assert (record.text, record.event_chars) == (whole, chars)
    assert sum(record.event_chars) == len(record.text)
    record.text.encode()


@pytest.mark.parametrize(
    "data",
    [
        '{"object": "error", "message": "out of memory", "type": "X", "code": 500}',
        '{"detail": "out of memory"}',
        '{"detail": [{"msg": "out of memory"}]}',
        '{"message": "out of memory"}',
        '{"error": {"message": "out of memory"}}',
        '{"error": {"code": 500, "reason": "out of memory"}}',
        '{"error": "out of memory"}',
        '{"errors": ["out of memory"]}',
        '{"object": "error", "reason": "out of memory"}',
        '{"status": "failed", "why": "out of memory"}',
        '"out of memory"',
        "out of memory",
        '{"detail": "out of memory \\ud83d"}',
    ],
)
def test_an_error_in_another_envelope_is_the_engines_and_is_shown(data):
    record = stream(said("a", 1), data)
    assert (record.error_kind, "out of memory" in record.error) == ("engine", True)
    record.error.encode()


def test_blank_data_between_events_is_skipped_in_both_ways_of_reading():
    blank = sse_raw("data: \n\n")
    regular = read(HEAD, sse(said("a", 1)), blank, sse(said("b", 2, END)) + LAST_CHUNK)
    slow = read(
        HEAD, sse_raw(": x\n\n"), sse(said("a", 1)), blank, sse(said("b", 2, END)) + LAST_CHUNK
    )
    assert regular.error is slow.error is None
    assert regular.text == slow.text == "ab"


def test_a_byte_order_mark_before_a_stream_costs_no_event():
    first = sse_raw(f"\ufeffdata: {said('a', 1)}\n\n")
    record = read(HEAD, first, sse(said("b", 2, END)) + LAST_CHUNK)
    assert (record.error, record.text, record.event_tokens) == (None, "ab", [1, 1])


@pytest.mark.parametrize("odd", [5, None, ["a"], b"a"])
def test_a_text_that_is_none_fails_its_request(odd):
    record = read(*answer("r7", 1), dialect=reading(text=odd, tokens=1))
    assert record.error_kind == "protocol"


@pytest.mark.parametrize("odd", [5, ["length"], {"a": 1}])
def test_a_finish_reason_that_is_no_text_fails_its_request(odd):
    record = read(*answer("r7", 1), dialect=reading(text="a", tokens=1, finish_reason=odd))
    assert (record.error_kind, record.finish_reason) == ("protocol", "unknown")


@pytest.mark.parametrize("odd", [math.nan, math.inf, "1", [1]])
def test_margins_that_are_no_numbers_fail_their_request(odd):
    record = read(*answer("r7", 1), dialect=reading(text="a", tokens=1, margins=(odd,)))
    assert (record.error_kind, record.margins) == ("protocol", None)


FIELDS = [
    "choices", "text", "usage", "completion_tokens", "prompt_tokens", "finish_reason", "token_ids",
    "logprobs", "top_logprobs", "error", "message", "token", "special", "id", "details",
    "generated_tokens", "top_tokens", "logprob", "prompt_tokens_details",
]  # fmt: skip
JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4),
        st.sampled_from(["\ud83d", "\ude00", 2**31, 1e30, 10**30]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(
            st.sampled_from(FIELDS),
            inner,
            max_size=5,
        ),
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(JSON, max_size=4), st.sampled_from(["vllm", "tgi", "trtllm"]))
def test_whatever_an_engine_sends_is_a_record_that_can_be_written(values, engine):
    events = [json.dumps(value) for value in values]
    record = read(HEAD, *map(sse, events), LAST_CHUNK, dialect=load_engine(ROOT, engine).dialect)
    line = Encoder([]).line(record, "here")
    assert msgspec.json.decode(line, type=schema.Request).error_kind == record.error_kind


def test_a_text_that_so_few_tokens_cannot_have_fails_its_request():
    # 3 tokens: 4,096 + 3 · 256 = 4,864 characters at most.
    whole = read(HEAD, event("a" * 4864, 3, "length") + LAST_CHUNK)
    assert whole.error is None
    long = read(HEAD, event("a" * 4865, 3, "length") + LAST_CHUNK)
    assert (long.error_kind, long.error) == ("protocol", "a text of 4,865 characters for 3 tokens")


@pytest.mark.parametrize("total", [4145, 10**9, 2**31 - 1])
def test_more_tokens_than_can_have_been_made_for_what_was_asked_fail_the_request(total):
    # 3 tokens: 16 · 3 + 4,096 = 4,144 at most.
    assert stream(said("a", 4144, END)).error is None
    record = stream(said("a", 1), said("b", total), said("c", 3, END))
    assert record.error_kind == "protocol"
    assert f"output_tokens = {total}, expected a count" in record.error
    assert record.event_tokens == [1, None, None]

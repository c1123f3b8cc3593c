import dataclasses
import json

import pytest
from builders import record_of
from fake_server import HEAD, LAST_CHUNK, answer, event, sse
from project import ROOT

from enginebench.engines.dialect import Delta, GenerationRequest, Usage
from enginebench.engines.directory import load_engine
from enginebench.load import request_record
from enginebench.load.exchange import Exchange
from enginebench.metrics.latency import cell_figures

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
    [-1, 2**31, 2**70, 10**5000, "3", 1.0, True, [3]],
    ids=lambda value: type(value).__name__,
)
def test_a_usage_that_is_no_count_fails_its_request_and_is_not_recorded(name, count):
    odd = reading(text="a", tokens=1, usage=Usage(**{name: count}), finish_reason="length")
    record = read(*answer("r7", 1), dialect=odd)
    assert (record.error_kind, getattr(record, name)) == ("protocol", None)
    assert name in record.error and len(record.error) < 200


@pytest.mark.parametrize("tokens", [-1, 2**31, "3", 1.5])
def test_an_event_of_an_odd_number_of_tokens_fails_its_request(tokens):
    record = read(*answer("r7", 1), dialect=reading(text="a", tokens=tokens))
    assert record.error_kind == "protocol"
    assert set(record.event_tokens) == {None}


@pytest.mark.parametrize("ids", [[1, -1], [2**31], ["a"]])
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

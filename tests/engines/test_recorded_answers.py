"""The rarer forms of the engines' answers: how each is read, wherever the network cuts it."""

import dataclasses
from pathlib import Path

import pytest
from builders import findings_of, record_of, request
from fake_server import HEAD, LAST_CHUNK, chunk
from project import ROOT

from enginebench.engines.dialect import GenerationRequest
from enginebench.engines.directory import load_engine

DATA = ROOT / "tests" / "data"
ENGINES = ("baseline", "tgi", "trtllm", "vllm")
DIALECTS = {name: load_engine(ROOT, name).dialect for name in ENGINES}
ASK = GenerationRequest((11, 12, 13, 14, 15), "five tokens", 4, seed=3, prompt_sha256="ab12")


def response(file: Path) -> bytes:
    """The whole answer: a stream in chunks of one event, as servers send it, or an error."""
    body = file.read_bytes()
    if file.suffix == ".json":
        status = file.suffixes[0][1:].encode()
        head = b"HTTP/1.1 %s Error\r\nContent-Type: application/json\r\n" % status
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    events = [event + b"\n\n" for event in body.split(b"\n\n") if event]
    return HEAD + b"".join(map(chunk, events)) + LAST_CHUNK


def read(engine, pieces, fault=None, kind=None):
    return record_of(pieces, DIALECTS[engine], ASK, fault, kind, end_s=1e9)


GOOD = {"error": None, "prompt_tokens": 5, "output_tokens": 4, "finish_reason": "length"}
FOX = {"text": " the quick fox"}
TGI_IDS = [310, 4996, 860, 1701]

#: Directory, case -> what the record must say.
CASES = [
    # One token an event, a keep-alive comment between two of them, no [DONE]: it just ends.
    ("tgi-3.3.7/plain.sse", GOOD | FOX | {"event_tokens": [1] * 4, "token_ids": TGI_IDS}),
    ("tgi-3.3.7/special-token.sse", GOOD | {"text": " theick fox", "event_chars": [4, 0, 3, 4]}),
    (
        "tgi-3.3.7/early-end.sse",
        {"error": None, "output_tokens": 3, "finish_reason": "stop", "text": " the qu"},
    ),
    ("tgi-3.3.7/lost-event.sse", GOOD | {"event_tokens": [1] * 3}),
    ("tgi-3.3.7/too-long.sse", {"status": 200, "error_kind": "engine", "text": ""}),
    (
        "tgi-3.3.7/failed.sse",
        {"error_kind": "engine", "text": " the qu", "event_tokens": [1, 1], "finish_reason": None},
    ),
    ("tgi-3.3.7/silent-drop.sse", {"error_kind": "incomplete", "text": " the qu"}),
    ("tgi-3.3.7/bad-field.422.json", {"status": 422, "error_kind": "http"}),
    ("tgi-3.3.7/unhealthy.503.json", {"status": 503, "error_kind": "http"}),
    ("trtllm-1.2.1/plain.sse", GOOD | FOX | {"event_tokens": [1] * 4, "cached_tokens": 0}),
    ("trtllm-1.2.1/merged.sse", GOOD | FOX | {"event_tokens": [1, 3]}),
    # An event with no text and no token is none; one with a token and no text is kept.
    (
        "trtllm-1.2.1/empty-text.sse",
        GOOD | {"event_tokens": [1, 1, 1, 1], "event_chars": [4, 0, 1, 4], "text": " theé fox"},
    ),
    ("trtllm-1.2.1/trailing-space.sse", GOOD | FOX | {"event_tokens": [3, 1]}),
    ("trtllm-1.2.1/usage-at-end.sse", GOOD | FOX | {"event_tokens": [None, None]}),
    ("trtllm-1.2.1/silent-drop.sse", {"error_kind": "incomplete", "event_tokens": [1, 1]}),
    ("trtllm-1.2.1/perf-metrics.sse", {"error_kind": "trailing", "output_tokens": 4}),
    ("trtllm-1.2.1/unknown-field.400.json", {"status": 400, "error_kind": "http"}),
    ("trtllm-1.2.1/too-long.400.json", {"status": 400, "error_kind": "http"}),
    ("trtllm-1.2.1/failed.500.json", {"status": 500, "error_kind": "http"}),
    ("baseline-5.19.0/bad-field.400.json", {"status": 400, "error_kind": "http"}),
    ("baseline-5.19.0/too-long.400.json", {"status": 400, "error_kind": "http"}),
    ("baseline-5.19.0/failed.sse", {"error_kind": "engine", "text": " the", "output_tokens": 1}),
    ("vllm-0.32.0/bad-field.400.json", {"status": 400, "error_kind": "http"}),
    ("vllm-0.32.0/too-long.400.json", {"status": 400, "error_kind": "http"}),
    ("vllm-0.33.0/merged.sse", GOOD | FOX | {"event_tokens": [1, 3], "cached_tokens": 4}),
    ("vllm-0.33.0/empty-text.sse", GOOD | {"event_tokens": [1] * 4, "event_chars": [4, 0, 1, 4]}),
    (
        "vllm-0.33.0/failed.sse",
        {"status": 200, "error_kind": "engine", "event_tokens": [1, 1], "finish_reason": None},
    ),
    ("vllm-0.33.0/queue-full.503.json", {"status": 503, "error_kind": "http"}),
]


@pytest.mark.parametrize(("case", "expected"), CASES, ids=[case for case, _ in CASES])
def test_every_form_of_answer_is_read_as_what_it_is(case, expected):
    engine = case.partition("-")[0]
    record = read(engine, [response(DATA / case)])
    assert {name: getattr(record, name) for name in expected} == expected


def test_no_recorded_body_is_left_out():
    files = {
        str(path.relative_to(DATA)) for path in DATA.glob("*/*") if path.suffix in (".sse", ".json")
    }
    assert files == {case for case, _ in CASES}
    assert {case.partition("-")[0] for case, _ in CASES} == set(ENGINES)


def without_times(record):
    return dataclasses.replace(record, event_s=[], headers_s=None)


@pytest.mark.parametrize("case", [case for case, _ in CASES])
def test_split_at_any_byte_an_answer_gives_the_same_record(case):
    engine, raw = case.partition("-")[0], response(DATA / case)
    whole = without_times(read(engine, [raw]))
    for cut in range(1, len(raw)):
        assert without_times(read(engine, [raw[:cut], raw[cut:]])) == whole, cut
    assert without_times(read(engine, [bytes([byte]) for byte in raw])) == whole


@pytest.mark.parametrize("engine", ENGINES)
def test_a_connection_dropped_at_any_byte_is_an_error_and_keeps_what_came(engine):
    (file,) = DATA.glob(f"{engine}-*/stream.http")
    raw = file.read_bytes()
    whole = read(engine, [raw])
    for end in range(1, len(raw)):
        record = read(engine, [raw[:end]], "the connection ended", "cut")
        assert (record.error, record.error_kind) == ("the connection ended", "cut")
        assert whole.text.startswith(record.text)
        assert record.event_tokens == whole.event_tokens[: len(record.event_tokens)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("data", ["{half", "[1]", "5", "{}", '{"choices": [3]}', '{"token": 3}'])
def test_an_event_of_no_known_form_never_passes_for_an_answer(engine, data):
    record = read(engine, [HEAD + chunk(f"data: {data}\n\n".encode()) + LAST_CHUNK])
    assert record.error is not None


def findings(record):
    row = request(**(dataclasses.asdict(record) | {"text_tokens": None}))
    return {finding.check for finding in findings_of([row], 1)}


@pytest.mark.parametrize(
    ("case", "failed"),
    [
        ("tgi-3.3.7/plain.sse", set()),
        ("tgi-3.3.7/early-end.sse", {"output", "finish"}),  # the overlay had no effect
        ("tgi-3.3.7/lost-event.sse", {"stream"}),
        ("tgi-3.3.7/failed.sse", {"complete"}),
        ("trtllm-1.2.1/plain.sse", set()),
        ("vllm-0.33.0/merged.sse", {"cache"}),
    ],
)
def test_an_answer_that_is_not_what_was_asked_fails_its_check(case, failed):
    assert findings(read(case.partition("-")[0], [response(DATA / case)])) == failed

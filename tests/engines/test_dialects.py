"""The contract of every engine's dialect: what is asked, and how each answer of it is read."""

import dataclasses

import pytest
from builders import record_of
from project import ROOT

from enginebench.engines.dialect import GenerationRequest
from enginebench.engines.directory import find_engines, load_engine
from enginebench.metrics import metrics_page

DATA = ROOT / "tests" / "data"
ASK = GenerationRequest(tuple(range(1, 25)), "the text of 24 tokens", 4, seed=7, prompt_sha256="ab")

#: Engine -> its recorded answers.
RECORDED = {
    "baseline": "baseline-5.19.0",
    "vllm": "vllm-0.32.0",
    "tgi": "tgi-3.3.7",
    "trtllm": "trtllm-1.2.1",
}
STREAMS = [
    (engine, file.stem)
    for engine, directory in RECORDED.items()
    for file in sorted((DATA / directory).glob("*.http"))
]


def dialect(engine):
    return load_engine(ROOT, engine).dialect


def raw(engine, stem):
    return (DATA / RECORDED[engine] / f"{stem}.http").read_bytes()


def read(engine, pieces, fault=None):
    return record_of(pieces, dialect(engine), ASK, fault, end_s=1e9)


def test_every_engine_here_has_recorded_answers():
    assert set(find_engines(ROOT)) == set(RECORDED)


def test_exactly_so_many_greedy_tokens_are_asked_of_each():
    common = {"temperature": 0, "stream": True, "ignore_eos": True, "max_tokens": 4, "seed": 7}
    for engine in ("baseline", "vllm", "trtllm"):
        body = dialect(engine).body(ASK)
        assert common.items() <= body.items()
        assert body["prompt"] == list(ASK.prompt_ids)
        assert body["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    assert dialect("vllm").body(ASK)["min_tokens"] == 4
    assert dialect("tgi").body(ASK) == {
        "inputs": ASK.prompt_text,
        "parameters": {"max_new_tokens": 4, "do_sample": False, "details": True},
    }


def test_an_engine_that_refuses_unknown_fields_is_sent_only_those_it_knows():
    known = {"model", "prompt", "max_tokens", "ignore_eos", "temperature", "top_k", "seed"}
    known |= {"stream", "stream_options"}
    for wants_ids in (False, True):
        ask = dataclasses.replace(ASK, wants_ids=wants_ids)
        assert set(dialect("trtllm").body(ask)) == known


@pytest.mark.parametrize(
    ("engine", "stem", "text", "tokens", "counts", "reason"),
    [
        ("baseline", "stream", " figuresinionRui figures", [1, 1, 1, 1], (24, 4, None), "length"),
        ("vllm", "stream", " figuresinionRui figures", [1, 1, 1, 1], (24, 4, 0), "length"),
        # A comment that keeps the connection alive is no event; the end is the end of the body.
        ("tgi", "stream", " a éc", [1, 1, 1], (24, 3, None), "length"),
        ("tgi", "stream-stopped", " a", [1, 1], (24, 2, None), "stop"),
        # An event without text is a token all the same; one event may hold two.
        ("trtllm", "stream", " a é c", [1, 1, 2], (24, 4, 0), "length"),
    ],
)
def test_an_answer_is_read_token_by_token(engine, stem, text, tokens, counts, reason):
    record = read(engine, [raw(engine, stem)])
    assert record.error is None
    assert (record.text, record.event_tokens) == (text, tokens)
    assert (record.prompt_tokens, record.output_tokens, record.cached_tokens) == counts
    assert record.finish_reason == reason


@pytest.mark.parametrize(
    ("engine", "ids", "margins"),
    [
        ("baseline", [2601, 2320, 1966, 2601], [0.46824, 0.07145, 0.01121, 0.63541]),
        ("vllm", [2601, 2320, 1966, 2601], [0.46824, 0.07145, 0.01121, 0.63541]),
        ("tgi", [42, 43, 44], [0.25, 1.5, 0.125]),
    ],
)
def test_token_ids_and_margins_are_read_where_an_engine_gives_them(engine, ids, margins):
    record = read(engine, [raw(engine, "stream-ids")])
    assert record.token_ids == ids
    assert record.margins == pytest.approx(margins, abs=2e-5)


@pytest.mark.parametrize(
    ("engine", "stem", "kind", "says"),
    [
        ("tgi", "stream-overloaded", "engine", "Model is overloaded (overloaded)"),
        ("tgi", "stream-failed", "engine", "Request failed during generation"),
        ("tgi", "refused", "http", "HTTP 422"),
        ("trtllm", "refused", "http", "Extra inputs are not permitted"),
    ],
)
def test_an_error_is_one_wherever_it_stands(engine, stem, kind, says):
    record = read(engine, [raw(engine, stem)])
    assert record.error_kind == kind
    assert says in record.error


def test_a_stream_that_is_dropped_without_a_word_is_no_answer():
    fault = "the engine closed the connection before the end"
    record = read("trtllm", [raw("trtllm", "stream-dropped")], fault)
    assert record.error == fault
    assert record.text == " a"  # what came is kept


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "stem"), STREAMS)
def test_where_the_network_cuts_a_stream_makes_no_difference(engine, stem):
    whole = raw(engine, stem)
    expected = untimed(read(engine, [whole]))
    for cut in range(1, len(whole)):
        assert untimed(read(engine, [whole[:cut], whole[cut:]])) == expected, cut
    bytewise = [whole[n : n + 1] for n in range(len(whole))]
    assert untimed(read(engine, bytewise)) == expected


def untimed(record):
    return {
        name: value for name, value in dataclasses.asdict(record).items() if not name.endswith("_s")
    }


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        ("tgi", {"requests_running": 4, "requests_waiting": 3, "prompt_tokens_total": 288,
                 "output_tokens_total": 768, "kv_used_tokens": 608}),
        ("trtllm", {"requests_running": 5, "requests_waiting": 3, "kv_used_tokens": 608,
                    "kv_capacity_tokens": 32000, "kv_block_tokens": 32}),
        ("baseline", {"requests_running": 0, "kv_used_tokens": 0, "kv_reserved_bytes": 0}),
        # 2 · 16 layers · 4 KV heads · 64 · 4 bytes a token: 32,768 tokens to the GiB.
        ("vllm", {"requests_running": 0, "kv_used_ratio": 0, "kv_capacity_tokens": 32768,
                  "kv_block_tokens": 128, "kv_reserved_bytes": 1 << 30, "preemptions_total": 0,
                  "prefix_hit_tokens_total": 0}),
    ],
)  # fmt: skip
def test_a_metrics_page_is_read_into_our_names(engine, expected):
    found = metrics_page.read(200, page(engine)["text"], dialect(engine).metrics)
    assert expected.items() <= found.items()
    # Every name that is mapped is on the recorded page, but for those of a cache of fixed size and
    # of drafts, which that engine did not make.
    growing = {"kv_capacity_tokens", "kv_block_tokens"} if engine == "baseline" else set()
    drafts = {name for name in found if name.startswith("draft")}
    assert {name for name, value in found.items() if value is None} == growing | drafts


@pytest.mark.parametrize("engine", RECORDED)
def test_a_page_cut_anywhere_says_less_or_nothing_but_nothing_wrong(engine):
    names = dialect(engine).metrics
    whole = metrics_page.read(200, page(engine)["text"], names)
    text = page(engine)["text"]
    for cut in range(0, len(text), 31):
        lines = text[:cut].rpartition("\n")[0]  # half a line may show half a number
        found = metrics_page.read(200, lines, names)
        assert all(value in (None, whole[name]) for name, value in found.items())


@pytest.mark.parametrize("engine", RECORDED)
@pytest.mark.parametrize(
    ("status", "text"),
    [(404, "no such page"), (200, ""), (200, "[]"), (200, "x{y NaN"), (None, None)],
)
def test_a_page_that_is_none_measures_nothing(engine, status, text):
    names = dialect(engine).metrics
    found = metrics_page.read(status, text, names)
    assert found == dict.fromkeys(names)


def page(engine, text=None):
    if text is None:
        text = (DATA / RECORDED[engine] / "metrics.txt").read_text()
    return {"t_s": 0.0, "status": 200, "text": text, "error": None}

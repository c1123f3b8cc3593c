"""What is fuzzed, and what must hold: no exception but the edge's own, however bytes are split.

A target is a strategy for inputs, and a function that raises for one that shows a fault.
"""

import contextlib
import dataclasses
import functools
import json
import shutil
import socket
import tempfile
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import made_record
import msgspec
from hypothesis import strategies as st
from mutate import changed_json, mutated, seeds, split
from project import ENGINE, ROOT

from enginebench.base.errors import UserError
from enginebench.engines import directory, http_page
from enginebench.engines.dialect import METRIC_NAMES, GenerationRequest
from enginebench.hardware import capacity, published_results
from enginebench.load import request_record, sse
from enginebench.load.exchange import Exchange
from enginebench.load.http1 import ProtocolError, ResponseReader
from enginebench.metrics import metrics_page
from enginebench.plan import arrivals, plan, prompt_files, study_file
from enginebench.record import reading, schema, schema_samples
from enginebench.record.encoding import Encoder
from enginebench.report import build
from enginebench.run.scoring import logprobs
from enginebench.summarize.study_summary import summarize

DATA = ROOT / "tests" / "data"
FACTORS = {"quick/plain": (1.0, 1.1), "slow/plain": (2.0, 2.1)}


@dataclass(frozen=True, slots=True)
class Target:
    inputs: Callable[[], st.SearchStrategy[Any]]
    check: Callable[[Any], None]


# Streams and responses.

STREAM = (
    b": hi\nid: 1\ndata: one\n\nevent: x\r\ndata: two\rdata: more\n\n\ndata:  \xc3\xa9\n\ndata: end"
)
FIELDS = [b"data", b"data: ", b"data:", b"event: x\n", b"\n\n", b": c\n", b"id\n", b"retry: 9\n"]
ANSWERS = sorted(DATA.glob("*/*.http"))
HTTP = [b"HTTP/1.1 ", b"200 OK\r\n", b"100 Continue\r\n\r\n", b"Content-Length: ", b"0\r\n\r\n"]
HTTP += [
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"5;x=y\r\nhello\r\n",
    b"-5",
    b"+9",
]


def check_sse(given: tuple[bytes, list[bytes]]) -> None:
    whole, pieces = given
    timed = list(sse.events(enumerate(map(bytes, pieces))))
    assert [data for _, data in sse.events([(0.0, whole)])] == [data for _, data in timed]
    assert all(data.strip() for _, data in timed)
    assert [time_s for time_s, _ in timed] == sorted(time_s for time_s, _ in timed)


def _response(pieces: list[bytes]) -> tuple[Any, ...]:
    reader = ResponseReader()
    try:
        body = b"".join(part for piece in pieces for part in reader.feed(piece))
    except ProtocolError:
        return ("refused",)
    is_whole = reader.close()
    return body, is_whole, reader.status, reader.keep_alive, reader.trailing, reader.headers


def check_http1(given: tuple[bytes, list[bytes]]) -> None:
    whole, pieces = given
    assert _response([whole]) == _response(pieces)


@functools.cache
def dialects() -> list[Any]:
    return [directory.load_engine(ROOT, name).dialect for name in directory.find_engines(ROOT)]


def _record(dialect: Any, pieces: list[bytes]) -> request_record.RequestRecord:
    exchange = Exchange(0, planned_s=0.0, sent_s=0.5, end_s=1e6)
    exchange.arrival_s = array("d", range(1, len(pieces) + 1))
    exchange.sizes = array("I", map(len, pieces))
    exchange.kept = b"".join(pieces)
    asked = GenerationRequest(tuple(range(24)), "text", 4)
    return request_record.read(exchange, dialect, asked, phase="measured", request_id="r")


def check_answer(given: tuple[bytes, list[bytes]]) -> None:
    """Whatever an engine answers is a record that can be written and read back, in any pieces."""
    whole, pieces = given
    for dialect in dialects():
        one, many = (
            _record(dialect, [part for part in parts if part]) for parts in ([whole], pieces)
        )
        line = Encoder([]).line(many, "here")
        back = msgspec.json.decode(line, type=schema.Request)
        assert back.error_kind == many.error_kind
        assert sum(many.event_chars) == len(many.text)
        same = {"event_s": [], "headers_s": None}
        if one.error_kind != "protocol":  # where framing breaks, what came before depends on pieces
            assert dataclasses.replace(one, **same) == dataclasses.replace(many, **same)


SCORES = (
    b'{"choices": [{"prompt_logprobs": [null, {"1": {"logprob": -0.5}}, {"2": {"logprob": -1}}]}]}'
)


def check_scores(data: bytes) -> None:
    """What an engine says of a prompt is logarithms of probabilities, or refused in words."""
    asked = GenerationRequest((0, 1, 2), "text", 1)
    for scoring in (dialect.scoring for dialect in dialects() if dialect.scoring):
        with contextlib.suppress(ValueError):
            found = logprobs(scoring.read(asked, data.decode(errors="replace")), 2)
            assert len(found) == 2 and all(-1e6 <= value <= 1e-3 for value in found)


# Pages.

NAMES = dict.fromkeys(METRIC_NAMES, ()) | {
    "requests_running": ("a", "vllm:num_requests_running"),
    "kv_used_ratio": ("b", "vllm:kv_cache_usage_perc"),
    "kv_block_tokens": ("i[block_size]", "vllm:cache_config_info[block_size]"),
    "kv_capacity_tokens": ("i[num_gpu_blocks]*i[block_size]", "a*b"),
    "output_tokens_total": ("vllm:generation_tokens_total", "a_total"),
}
PAGE = [b"a 1\n", b"b 0.5\n", b'i{num_gpu_blocks="9",block_size="16"} 1\n', b"# TYPE a counter\n"]
PAGE += [b'{a="1", ="x"} ', b"# {x=", b'\\"', b'e="0"', b" # HELP", b"_total 1e3\n"]


def check_metrics(data: bytes) -> None:
    text = data.decode(errors="replace")
    for look in (metrics_page.read, metrics_page.gauges):
        found = look(200, text, NAMES)
        assert all(value is None or 0 <= value <= 2**63 for value in found.values())
    metrics_page.read(200, text, NAMES, kept_back=3)


def check_page(data: bytes) -> None:
    """An HTTP page is a status and a body, or a failure in words."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            theirs.send(data)
        theirs.shutdown(socket.SHUT_WR)
        with mock.patch("socket.create_connection", lambda *_: ours):
            page = http_page.fetch("http://127.0.0.1:1/", 5.0, 1 << 20)
    assert (page.body is None) == (page.error is not None)
    assert page.error is None or "\n" not in page.error


# Files that people hand in.


@functools.cache
def _place() -> Path:
    return Path(tempfile.mkdtemp(prefix="fuzz-"))


def remove_place() -> None:
    shutil.rmtree(_place(), ignore_errors=True)


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """What is refused is refused in one line."""
    try:
        yield
    except UserError as error:
        assert "\n" not in error.message
        error.message.encode()


def _file(name: str, data: bytes) -> Path:
    path = _place() / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def check_study(data: bytes) -> None:
    with one_line():
        study = study_file.load(_file("s.yaml", data))
        if sum(len(w.concurrency or w.rate) for w in study.workloads) * study.trials < 100:
            plan.make(study)


def check_launch(data: bytes) -> None:
    where = _file("engine/launch.yaml", data).parent
    shutil.copy(ENGINE, where)
    with one_line():
        directory.load_engine(where.parent, "engine")


def check_prompts(data: bytes) -> None:
    for name in ("p.txt", "p.json", "p.jsonl"):
        with one_line():
            for text in prompt_files.read(_file(name, data)).texts:
                text.encode()


def check_trace(data: bytes) -> None:
    with one_line():
        arrivals.read_trace(_file("t.csv", data))


def check_table(data: bytes) -> None:
    with one_line():
        published_results.check_file(_file("c.csv", data), "float16", "output")


def check_config(config: Any) -> None:
    with one_line():
        capacity.known_shape("m", config if isinstance(config, dict) else {})


# Records.

ROWS: Mapping[str, Any] = {
    "requests.jsonl": schema.Request,
    "processes.jsonl": schema_samples.ProcessSample,
    "scrapes.jsonl.gz": schema_samples.Scrape,
}


@functools.cache
def good_record() -> Path:
    """A record that is read again and again, one file of it changed at a time."""
    return made_record.write(_place() / "record", FACTORS)


def check_rows(given: tuple[str, bytes]) -> None:
    name, data = given
    file = _file(f"rows-{name}", data)
    with one_line():
        for _ in reading.read_rows(file, ROWS[name]):
            pass


DOCUMENTS = (
    "study.json",
    "finished.json",
    "raw/trial1_quick_plain/launch.json",
    "raw/trial1_quick_plain/many-c4/cell.json",
    "raw/trial1_quick_plain/many-c4/requests.jsonl",
    "raw/trial1_quick_plain/many-c4/processes.jsonl",
)


def _lines(path: Path) -> Any:
    return [json.loads(line) for line in path.read_text().splitlines()]


@st.composite
def changed_file(draw: st.DrawFn) -> tuple[str, str]:
    """A file of a record with a few odd values."""
    name = draw(st.sampled_from(DOCUMENTS))
    path = good_record() / name
    if path.suffix == ".json":
        return name, json.dumps(draw(changed_json(json.loads(path.read_text()))))
    rows = draw(changed_json(_lines(path)))
    rows = rows if isinstance(rows, list) else [rows]
    return name, "".join(json.dumps(row) + "\n" for row in rows)


@contextlib.contextmanager
def _changed(given: tuple[str, str]) -> Iterator[Path]:
    name, text = given
    path = good_record() / name
    before = path.read_bytes()
    path.write_text(text)
    try:
        yield good_record()
    finally:
        path.write_bytes(before)


def check_record(given: tuple[str, str]) -> None:
    """A record with odd values, without checksums, is summarized: every planned cell is there."""
    with _changed(given) as record, one_line():
        summary = summarize(record)
        assert len(summary.cells) == sum(len(p.cells) for p in summary.study.plan)


def check_report(given: tuple[str, str]) -> None:
    """The same down to the report, whose texts hold no escape of a terminal."""
    with _changed(given) as record, one_line():
        build.build(record)
        for name in ("report.md", "report.html", "metrics_data.json"):
            assert "\x1b" not in (record / "derived" / name).read_text()


def _studies() -> list[bytes]:
    return seeds("study", *sorted((ROOT / "studies").glob("*.yaml")))


def _configs() -> st.SearchStrategy[Any]:
    models = json.loads((DATA / "model_configs.json").read_text())
    found = list(models.values()) if isinstance(models, dict) else models
    return st.sampled_from([m.get("config", m) for m in found]).flatmap(changed_json)


def _rows() -> st.SearchStrategy[tuple[str, bytes]]:
    where = good_record() / "raw" / "trial1_quick_plain" / "many-c4"
    of = {name: [(where / name).read_bytes()] for name in ROWS}
    return st.one_of(*(st.tuples(st.just(n), mutated(found)) for n, found in of.items()))


JSONL = b'{"prompt": "one"}\n{"prompt": null}\n{"text": "two \\ud83d"}\n'
CHAT = b'[{"conversations": [{"from": "human", "value": "one"}, {"from": "gpt", "value": "x"}]}]'
TRACE = b"time_s,prompt_tokens,output_tokens\n0,5,6\n1.5,7,8\n2,1,1\n"
TABLE = b"model,gpu,batch,in,out,latency,precision\nllama-2-7b,A100,8,128,128,2.5,float16\n"
TABLE += b'"Llama-2-13B-AWQ","8 x H100",1,"1,000",200,0.5,\n'

TARGETS: Mapping[str, Target] = {
    "sse": Target(lambda: split(mutated([*seeds("sse", *ANSWERS), STREAM], FIELDS)), check_sse),
    "http1": Target(lambda: split(mutated(seeds("http1", *ANSWERS), HTTP)), check_http1),
    "answer": Target(
        lambda: split(mutated(seeds("answer", *ANSWERS), [*HTTP, *FIELDS])), check_answer
    ),
    "metrics": Target(
        lambda: mutated(
            [*seeds("metrics", *sorted(DATA.glob("*/metrics.txt"))), b"".join(PAGE)], PAGE
        ),
        check_metrics,
    ),
    "scores": Target(lambda: mutated([SCORES]), check_scores),
    "page": Target(lambda: mutated(seeds("page", *ANSWERS), HTTP), check_page),
    "study": Target(lambda: mutated(_studies()), check_study),
    "launch": Target(
        lambda: mutated(seeds("launch", *sorted(ROOT.glob("*/launch.yaml")))), check_launch
    ),
    "rows": Target(_rows, check_rows),
    "record": Target(changed_file, check_record),
    "report": Target(changed_file, check_report),
    "prompts": Target(
        lambda: mutated([JSONL, CHAT, b"%% chat\none\n\n%% code\ntwo\n"]), check_prompts
    ),
    "trace": Target(lambda: mutated([TRACE]), check_trace),
    "table": Target(lambda: mutated([TABLE]), check_table),
    "config": Target(_configs, check_config),
}
MAIN = ("sse", "http1", "answer", "metrics", "study", "rows", "record")  # asked for by name

assert set(MAIN) <= set(TARGETS)

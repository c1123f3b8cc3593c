"""Faults in an engine's answers and pages: one study, in which every cell has another fault."""

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from faulty_server import EVENTS, FIRST_PROMPT, PAGES, SENT, TOKENS, WARMUP_TOKENS
from harness import Ended, Result, named, place, run
from project import TESTS, make_project, metrics, write_study

from enginebench.base.errors import UserError

COUNT = "usage has {} = .*?, expected a count"
OUT, IN, CACHED = (COUNT.format(f"{name}_tokens") for name in ("output", "prompt", "cached"))
NO_CHUNK = "an event is not a completion chunk"
NO_JSON = "an event is not JSON"
NO_OBJECT = "an event is not a JSON object"
NO_FINISH = "the stream ended without a finish reason"
UNREAD = "the engine's counters could not be read"
CUT = "the engine closed the connection before the end"
LARGE = "the answer is larger than [0-9.]+ MiB"
LATE = "timed out after [0-9]+ s"
AFTER = "bytes after the end of the answer"
LAST = "an event after the end of the stream"
READ = "^$"  # nothing is wrong with the cell: what came is read as it is meant

#: A fault of the double -> what must be said of its cell.
EXPECTED: Mapping[str, str] = {
    "none": READ,
    **dict.fromkeys(
        ["usage-text", "usage-fraction", "usage-negative", "usage-31-bits", "usage-63-bits"], OUT
    ),
    **dict.fromkeys(["usage-true", "usage-list", "usage-object", "usage-1e30"], OUT),
    "usage-400-digits": f"{OUT}|{NO_JSON}",
    "usage-null": "did not say how many tokens they made",
    "usage-nan": NO_JSON,
    "usage-infinity": NO_JSON,
    "usage-whole-float": READ,
    "usage-number": NO_CHUNK,
    "usage-falls": "streamed another number of tokens than their usage says",
    "usage-jumps": OUT,
    "prompt-text": IN,
    "prompt-negative": IN,
    "prompt-64-bits": IN,
    "cached-text": CACHED,
    "cached-1e30": CACHED,
    "details-text": NO_CHUNK,
    "text-number": NO_CHUNK,
    "text-list": NO_CHUNK,
    "text-null": "ended in tokens that show nothing",
    "text-halves": READ,
    "text-100-kb": "a text of [0-9,]+ characters for 6 tokens",
    "text-10-mb": LARGE,
    "finish-number": "a finish reason that is no text",
    "finish-object": "a finish reason that is no text",
    "finish-stop": "ended for another reason than their length",
    "finish-missing": NO_FINISH,
    "choices-null": NO_FINISH,
    **dict.fromkeys(["choices-number", "choices-text", "choices-two", "choices-of-null"], NO_CHUNK),
    "event-list": NO_OBJECT,
    "event-number": NO_OBJECT,
    **dict.fromkeys(["event-half", "event-deep", "event-deep-object", "event-nul"], NO_JSON),
    "event-words": f"{NO_JSON}: Internal Server Error",
    "error-object": "the engine reported: out of memory",
    "error-message": "the engine reported: out of blocks",
    "error-text": "the engine reported: executor gone",
    "error-detail": "the engine reported: worker lost",
    "error-list": "the engine reported: .1, ..a.: 2",
    "error-escapes": "the engine reported: .*?red",
    "error-100-kb": "the engine reported: long long",
    "error-half-character": "the engine reported: cut",
    "after-done": LAST,
    "done-twice": LAST,
    "done-missing": READ,
    "done-only": NO_FINISH,
    "keep-alive": READ,
    "key-twice": READ,
    "http-500": "HTTP 500: no memory",
    "http-429": "HTTP 429: no memory",
    "http-503-html": "HTTP 503: ",
    "http-204": "HTTP 204",
    "http-redirect": "HTTP 302",
    "http-garbage": "not an HTTP/1.1 response",
    "http-2": "not an HTTP/1.1 status line",
    "http-status-word": "not an HTTP/1.1 status line",
    **dict.fromkeys(["http-nothing", "http-cut", "http-reset", "http-chunk-huge"], CUT),
    "http-chunk-word": "not a chunk size",
    "http-chunk-negative": "not a chunk size",
    "http-chunk-short": "a chunk is longer than its size",
    "http-chunk-name": "a framing line is longer than 4096 bytes",
    "http-length-word": "content-length is not a number",
    "http-length-negative": "content-length is not a number",
    "http-length-long": CUT,
    "http-length-short": AFTER,
    "http-after-the-end": AFTER,
    "http-twice": AFTER,
    "http-head-2-mb": f"{LARGE}|no end of the headers",
    "http-head-fields": f"{LARGE}|no end of the headers",
    "http-gzip": NO_FINISH,
    "http-interim-endless": LARGE,
    "http-stream-endless": LARGE,
    "http-comments-endless": LARGE,
    "http-chunk-endless": LARGE,
    "http-event-binary": NO_JSON,
    "http-stall": LATE,
    "http-drip": LATE,
    "http-silent": LATE,
    **{name: READ for name in SENT if name.startswith("read-")},
    **dict.fromkeys(PAGES, UNREAD),
    "page-falls": "the engine's counters fell",
    "page-still": "output_tokens_total grew by 0, the client counted [0-9]+",
    "page-drip": "readings of the engine's metrics got no answer in time",
    "page-hang": "readings of the engine's metrics got no answer in time",
    **{name: READ for name in PAGES if name.startswith("read-")},
}
TIMEOUT_S = 4
#: Each takes 64 MiB of memory, or as long as the timeout: one request is enough.
ONCE = ("text-10-mb", "http-stall", "http-drip", "http-silent", "page-drip", "page-hang")

assert set(EXPECTED) == {*EVENTS, *SENT, *PAGES}


def add_engine(root: Path, name: str = "alpha") -> None:
    """The switchable double as an engine of a project."""
    project = make_project(root, name)
    directory = project / name
    (directory / "server.py").write_bytes((TESTS / "support" / "faulty_server.py").read_bytes())
    file = directory / "launch.yaml"
    launch = yaml.safe_load(file.read_text())
    service = launch["services"][name]
    service["command"] = ["--model=${MODEL}", "--port=${PORT}", "--dtype=${DTYPE:-float32}"]
    service["command"] += ["--mode=${MODE:-}", "--faults=${FAULTS:-}"]
    service["environment"] = {"HF_TOKEN": None}  # passed on to it
    file.write_text(yaml.safe_dump(launch))


def study_of(name: str, workloads: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    quiet = {"scrape_interval_s": 0.2, "calibration_s": 0, "noise_probe_s": 0}
    quiet |= {"judge_client": False, "judge_machine": False, "device": "cpu"}
    return {"name": name, "workloads": list(workloads)} | quiet | more


def workload(name: str, prompt_tokens: int, requests: int) -> dict[str, Any]:
    return {
        "name": name,
        "prompt_tokens": prompt_tokens,
        "output_tokens": TOKENS,
        "warmup_output_tokens": WARMUP_TOKENS,
        "concurrency": [min(requests, 2)],
        "requests_per_stream": max(requests // 2, 1),
    }


def results(cache: Path, group: str, names: Sequence[str]) -> list[Result]:
    """Run all these faults in one start of the double."""
    loads = [
        workload(name, FIRST_PROMPT + index, 1 if name in ONCE else 4)
        for index, name in enumerate(names)
    ]
    data = study_of(
        group,
        loads,
        engines=[{"engine": "alpha", "settings": {"FAULTS": ",".join(names)}}],
        request_timeout_s=TIMEOUT_S,
        ready_timeout_s=30,
    )
    with place() as root:
        add_engine(root)
        file = write_study(root, data)
        ended = run(root, ["study", file, "--root", root, "--cache", cache], deadline_s=400)
        return _results(root, group, names, ended)


def _results(root: Path, group: str, names: Sequence[str], ended: Ended) -> list[Result]:
    cells: dict[str, Any] = {}
    with contextlib.suppress(UserError, OSError, ValueError):  # without a report all is lost
        cells = {cell["workload"]: cell for cell in metrics(root)["cells"]}
    found = []
    for name in names:
        is_there = name in cells and _is_recorded(root, name)
        says = "; ".join(cells[name]["problems"]) if name in cells else "no such cell"
        words = named(EXPECTED[name], says)
        if EXPECTED[name] == READ and not says:
            words = "valid: read as it is meant"
        found.append(Result(group, name, words, ended.code, int(not is_there), ended, said=says))
    return found


def _is_recorded(root: Path, name: str) -> bool:
    """Whether all files of a cell are there, with a row for each request."""
    (where,) = root.glob(f"results/*/raw/*/{name}-c*")
    rows = [json.loads(line) for line in (where / "requests.jsonl").read_text().splitlines()]
    files = {path.name for path in where.iterdir()}
    wanted = {"cell.json", "scrapes.jsonl.gz", "processes.jsonl", "machine.jsonl"}
    measured = sum(row["phase"] == "measured" for row in rows)
    return wanted <= files and measured == (1 if name in ONCE else 4)


def jobs(cache: Path) -> list[Callable[[], list[Result]]]:
    groups = {"events": [*EVENTS], "http": [*SENT], "metrics": [*PAGES]}
    return [
        lambda group=group, names=names: results(cache, group, names)
        for group, names in groups.items()
    ]

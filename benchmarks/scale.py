"""How long a report takes, and how much memory, by the number of requests: `make bench-report`.

With ``ARGS=--write``: how fast requests are written, and what memory that takes.

The record of one cell is made up (its times are random), then summarized and reported by the
command line in a process of its own. Ten times the requests should take about ten times as long.
"""

import gzip
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import orjson
import typer

from enginebench.load.request_record import RequestRecord
from enginebench.plan import study_file
from enginebench.record.files import Writer

STREAMS = 256
TOKENS = 100  # of every answer, one an event
PROMPT_TOKENS = 200
TTFT_S, ITL_S = 0.2, 0.02  # means
SCRAPE_S = 1.0
MOST_BYTES = 4 << 30
LEAST_TOKENS_PER_S = 1_000_000  # of the writer
MOST_WRITER_BYTES = 300 << 20
LINEAR = 1.5  # ten times the work may take so many times ten times as long
CELL = f"many-c{STREAMS}"
LAUNCH = "trial1_made_up"


def write_record(directory: Path, requests: int) -> int:
    """The record of a study of one cell; bytes of its requests."""
    where = directory / "raw" / LAUNCH / CELL
    where.mkdir(parents=True)
    (directory / "study.json").write_text(json.dumps(_study(requests)))
    (directory / "finished.json").write_text("{}")
    facts = {"engine": "made", "variant": "up", "trial": 1}
    facts |= {"settings": {}, "command": ["made", "up"], "env": {}, "dtype": "float32"}
    facts |= {"version": "0", "ready_s": 1.0, "failure": None, "kv_capacity_tokens": 1 << 20}
    metrics = {"output_tokens_total": ["made_total"], "kv_used_tokens": ["kv_used"]}
    (directory / "raw" / LAUNCH / "launch.json").write_text(
        json.dumps(facts | {"metrics": metrics})
    )
    end_s = 0.0
    with (where / "requests.jsonl").open("wb") as file:
        for row in _rows(requests):
            end_s = max(end_s, row["end_s"])
            file.write(orjson.dumps(row) + b"\n")
    with gzip.open(where / "scrapes.jsonl.gz", "wb", 1) as scrapes:
        for second in np.arange(0.0, end_s + SCRAPE_S, SCRAPE_S).tolist():
            made = requests * TOKENS * min(second / end_s, 1.0) // 1
            text = f"# TYPE made counter\nmade_total {made}\n# TYPE kv_used gauge\nkv_used 50000\n"
            scrapes.write(orjson.dumps({"t_s": second, "status": 200, "text": text}) + b"\n")
    (where / "processes.jsonl").write_text('{"t_s": 0, "pss_bytes": 1, "pids": [1]}\n')
    clock = {"t_s": 0.0, "wall_s": 0.0, "gpus": []}
    about = {"started": clock, "ended": clock, "engine_death": None, "log_tail": []}
    (where / "cell.json").write_text(json.dumps(about))
    return (where / "requests.jsonl").stat().st_size


def _rows(requests: int) -> Iterator[dict[str, Any]]:
    """A closed loop of STREAMS, each request with times of its own."""
    drawn = np.random.default_rng(1)
    free_s = [0.0] * STREAMS
    for index in range(requests):
        sent_s = free_s[index % STREAMS]
        gaps_s = drawn.exponential(ITL_S, TOKENS)
        gaps_s[0] *= TTFT_S / ITL_S
        times = (sent_s + np.cumsum(gaps_s)).tolist()
        free_s[index % STREAMS] = times[-1]
        yield {
            "index": index,
            "phase": "measured",
            "request_id": f"{index}",
            "prompt_sha256": f"{index:064x}",
            "prompt_tokens_asked": PROMPT_TOKENS,
            "output_tokens_asked": TOKENS,
            "planned_s": sent_s,
            "sent_s": sent_s,
            "headers_s": times[0],
            "event_s": times,
            "event_tokens": [1] * TOKENS,
            "event_chars": [4] * TOKENS,
            "end_s": times[-1],
            "text": f"{index:04}" * TOKENS,
            "text_tokens": TOKENS,
            "prompt_tokens": PROMPT_TOKENS,
            "output_tokens": TOKENS,
            "cached_tokens": 0,
            "finish_reason": "length",
            "status": 200,
            "error": None,
            "error_kind": None,
        }


def _study(requests: int) -> dict[str, Any]:
    workload = {"name": "many", "prompt_tokens": PROMPT_TOKENS, "output_tokens": TOKENS}
    asked = {
        "name": "scale",
        "device": "cpu",
        "engines": [{"engine": "made", "variant": "up"}],
        "workloads": [workload | {"concurrency": [STREAMS]}],
        "judge_client": False,
        "judge_machine": False,
        "noise_probe_s": 0,
    }
    cell = {"id": CELL, "workload": "many", "concurrency": STREAMS, "rate": None}
    names = {"id": LAUNCH, "trial": 1, "engine": "made", "variant": "up", "label": "made/up"}
    machine = {"system": "Linux", "cpu": "none", "cpu_bfloat16": [], "cpus": os.cpu_count()}
    machine |= {"memory_bytes": 1 << 30, "gpus": [], "nvml_error": None, "python": "3"}
    model = {"name": "none", "sha256": "0" * 64, "hashed": "nothing", "config": {}}
    return {
        "schema": 2,
        "study": study_file.parse(asked, "scale.yaml").model_dump(mode="json"),
        "started_at": "2026-01-01T00:00:00+00:00",
        "clock": {"t_s": 0.0, "wall_s": 0.0},
        "rerun": "make bench-report",
        "runner": "process",
        "device": "cpu",
        "machine": machine | {"packages": {"enginebench": "0"}},
        "calibration": [],
        "ceiling": None,
        "git": {"commit": None, "dirty": None},
        "prompts": {"path": "prompts.txt", "sha256": "0" * 64, "count": 1},
        "model": model | {"has_random_weights": True, "parameters": 1000},
        "plan": [names | {"cells": [cell | {"requests": requests}]}],
    }


def reported(directory: Path) -> tuple[float, int]:
    """Seconds that `enginebench report` takes, and bytes that it holds at its peak."""
    command = [sys.executable, "-m", "enginebench", "report", str(directory)]
    start_s = time.perf_counter()
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(running.pid, 0)
    taken_s = time.perf_counter() - start_s
    running.returncode = os.waitstatus_to_exitcode(status)
    assert running.returncode == 0, f"report ended with {running.returncode}"
    return taken_s, used.ru_maxrss * 1024


def written(directory: Path, requests: int) -> tuple[float, int, int]:
    """Write requests with the record's writer: seconds, bytes of the file, and bytes by which this
    process grew. Few rows are made, and written again and again under other numbers."""
    some = [RequestRecord(**row) for row in _rows(STREAMS)]

    def rows() -> Iterator[RequestRecord]:
        for index in range(requests):
            row = some[index % STREAMS]
            row.index = index
            yield row

    writer = Writer.create(directory, "scale")
    writer.write_lines("warm.jsonl", some)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start_s = time.perf_counter()
    writer.write_lines("requests.jsonl", rows())
    taken_s = time.perf_counter() - start_s
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return taken_s, (writer.directory / "requests.jsonl").stat().st_size, grown * 1024


def write_report(counts: list[int], directory: Path | None) -> None:
    """Print how fast records of these sizes are written; exit code 1: too slow or too much."""
    print("| requests | tokens | record | rows/s | tokens/s | MiB/s | memory grown by |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    is_fast = is_bounded = True
    for count in counts:
        place = Path(tempfile.mkdtemp(dir=directory))
        try:
            taken_s, size, grown = written(place, count)
        finally:
            shutil.rmtree(place)
        print(
            f"| {count:,} | {count * TOKENS:,} | {size / 2**20:,.0f} MiB | {count / taken_s:,.0f} "
            f"| {count * TOKENS / taken_s:,.0f} | {size / 2**20 / taken_s:,.0f} "
            f"| {grown / 2**20:.1f} MiB |",
            flush=True,
        )
        is_fast = is_fast and count * TOKENS / taken_s >= LEAST_TOKENS_PER_S
        is_bounded = is_bounded and grown < MOST_WRITER_BYTES
    print(
        f"at least {LEAST_TOKENS_PER_S:,} tokens/s: {is_fast}; "
        f"bounded by {MOST_WRITER_BYTES >> 20} MiB: {is_bounded}"
    )
    if not (is_fast and is_bounded):
        raise typer.Exit(1)


def main(
    requests: Annotated[list[int] | None, typer.Argument(help="Requests of each record")] = None,
    directory: Annotated[Path | None, typer.Option(help="Where the records are made")] = None,
    write: Annotated[bool, typer.Option("--write", help="Time the writer, not the report")] = False,
) -> None:
    """Report made-up records of 10,000, 100,000 (and with an argument 1,000,000) requests."""
    if write:
        write_report(requests or [10_000, 100_000, 1_000_000], directory)
        return
    print("| requests | tokens | record | report | peak memory |")
    print("|---:|---:|---:|---:|---:|")
    taken, is_bounded = [], True
    for count in requests or [10_000, 100_000]:
        made = Path(tempfile.mkdtemp(dir=directory)) / "scale"
        try:
            size = write_record(made, count)
            taken_s, peak_bytes = reported(made)
        finally:
            shutil.rmtree(made.parent)
        print(
            f"| {count:,} | {count * TOKENS:,} | {size / 2**20:,.0f} MiB | {taken_s:.1f} s "
            f"| {peak_bytes / 2**30:.2f} GiB |",
            flush=True,
        )
        taken.append((count, taken_s))
        is_bounded = is_bounded and peak_bytes < MOST_BYTES
    (few, few_s), (many, many_s) = taken[0], taken[-1]
    is_linear = many_s <= LINEAR * few_s * many / few
    print(f"bounded by {MOST_BYTES >> 30} GiB: {is_bounded}; at most linear: {is_linear}")
    if not (is_bounded and is_linear):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)

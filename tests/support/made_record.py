"""The record of a study that nobody ran: its times are set, so that figures can be predicted."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from enginebench.plan import study_file
from enginebench.record import manifest

WORDS = "many words of a text that differs from others by number"


def write(directory: Path, factors: Mapping[str, tuple[float, ...]], **changes: Any) -> Path:
    """A study of one workload at one and four requests in flight, on as many trials as factors.

    Request i of variant v and trial t takes (0.1 + 0.02 i) · f s to its first token and 0.01 · f s
    to each of its others, where f is ``factors[v][t]``. Of a range of output lengths it has both
    ends in turn.
    """
    trials = len(next(iter(factors.values())))
    data = {
        "name": "made",
        "device": "cpu",
        "engines": [dict(zip(("engine", "variant"), v.split("/"), strict=True)) for v in factors],
        "workloads": [
            {"name": "many", "prompt_tokens": 8, "output_tokens": 5, "concurrency": [1, 4]}
        ],
        "trials": trials,
        "price": {"usd_per_hour": 3.6, "source": "made up", "is_stand_in": True},
    }
    parsed = study_file.parse(data | changes, "made.yaml").model_dump(mode="json")
    plan = [_planned(label, trial, parsed) for trial in range(1, trials + 1) for label in factors]
    directory.mkdir(parents=True)
    (directory / "study.json").write_text(json.dumps(_facts(parsed, plan)))
    (directory / "finished.json").write_text("{}")
    for planned in plan:
        _write_launch(directory / "raw" / planned["id"], planned, factors, parsed["workloads"])
    return directory


def seal(directory: Path) -> None:
    """Give a record the checksums of all its regular files, as they are now."""
    for launch in sorted((directory / "raw").iterdir()):
        paths = (path for path in sorted(launch.rglob("*")) if path.name != "launch.json")
        _list_files(directory, launch / "launch.json", [p for p in paths if _is_regular(p)])
    documents = [directory / "study.json", *sorted(directory.glob("raw/*/launch.json"))]
    _list_files(directory, directory / "finished.json", documents)


def _is_regular(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _list_files(directory: Path, document: Path, paths: list[Path]) -> None:
    files = {str(path.relative_to(directory)): manifest.checksum(path) for path in paths}
    plain = {path: {"bytes": f.bytes, "sha256": f.sha256} for path, f in files.items()}
    document.write_text(json.dumps(json.loads(document.read_text()) | {"files": plain}))


def _planned(label: str, trial: int, data: Mapping[str, Any]) -> dict[str, Any]:
    engine, variant = label.split("/")
    cells = [
        {
            "id": f"{workload['name']}-c{level}",
            "workload": workload["name"],
            "concurrency": level,
            "rate": None,
            "requests": 3 * level,
        }
        for workload in data["workloads"]
        for level in workload["concurrency"]
    ]
    name = f"trial{trial}_{engine}_{variant}"
    about = {"id": name, "trial": trial, "engine": engine, "variant": variant, "label": label}
    return about | {"cells": cells}


def _facts(data: Mapping[str, Any], plan: Any) -> dict[str, Any]:
    return {
        "schema": 2,
        "study": data,
        "started_at": "2026-01-02T03:04:05+00:00",
        "clock": {"t_s": 0.0, "wall_s": 1e9},
        "rerun": "make study STUDY=studies/made.yaml",
        "runner": "process",
        "device": "cpu",
        "machine": {
            "system": "Linux",
            "cpu": "a CPU",
            "cpu_bfloat16": [],
            "cpus": 2,
            "memory_bytes": 8 << 30,
            "gpus": [],
            "nvml_error": None,
            "python": "3.11",
            "packages": {"enginebench": "0"},
        },
        "calibration": [],
        "ceiling": None,
        "git": {"commit": None, "dirty": None},
        "prompts": {"path": "prompts.txt", "sha256": "0" * 64, "count": 160},
        "model": {
            "name": "embedded",
            "sha256": "0" * 64,
            "hashed": "every file",
            "has_random_weights": True,
            "parameters": 1000,
            "config": {},
        },
        "plan": plan,
    }


def _write_launch(
    where: Path, planned: Mapping[str, Any], factors: Mapping[str, Any], workloads: Any
) -> None:
    where.mkdir(parents=True)
    facts = {
        "engine": planned["engine"],
        "variant": planned["variant"],
        "trial": planned["trial"],
        "settings": {},
        "command": ["python", "/some/where/server.py", f"--mode={planned['variant']}", "--port=1"],
        "env": {},
        "dtype": "float32",
        "metrics": {"output_tokens_total": ["made_total"]},
        "version": "1",
        "ready_s": 1.0,
        "failure": None,
    }
    (where / "launch.json").write_text(json.dumps(facts))
    factor = factors[planned["label"]][planned["trial"] - 1]
    for cell in planned["cells"]:
        (work,) = (w for w in workloads if w["name"] == cell["workload"])
        _write_cell(where / cell["id"], cell, factor, f"{planned['id']} {cell['id']}", work)


def _write_cell(
    where: Path, cell: Mapping[str, Any], factor: float, name: str, work: Mapping[str, Any]
) -> None:
    where.mkdir()
    clock = {"t_s": 0.0, "wall_s": 1e9, "gpus": []}
    about = {"started": clock, "ended": clock, "engine_death": None, "log_tail": []}
    (where / "cell.json").write_text(json.dumps(about))
    streams = [0.0] * cell["concurrency"]  # when each stream is free
    rows = []
    for index in range(cell["requests"]):
        sent_s = streams[index % len(streams)]
        first_s = sent_s + (0.1 + 0.02 * index) * factor
        times = [first_s + 0.01 * factor * token for token in range(_output(work, index))]
        streams[index % len(streams)] = times[-1]
        rows.append(_row(index, sent_s, times, f"{name} {index}", work["prompt_tokens"]))
    save_rows(where, rows)
    (where / "processes.jsonl").write_text('{"t_s": 0, "pss_bytes": 1, "pids": [1]}\n')
    with gzip.open(where / "scrapes.jsonl.gz", "wt") as file:
        for made in (0, sum(row["output_tokens"] for row in rows)):
            text = f"# TYPE made counter\nmade_total {made}\n"
            file.write(json.dumps({"t_s": 0.0, "status": 200, "text": text}) + "\n")


def _output(work: Mapping[str, Any], index: int) -> int:
    output = work["output_tokens"]
    return output if isinstance(output, int) else output[("min", "max")[index % 2]]


def _row(index: int, sent_s: float, times: list[float], name: str, prompt: int) -> dict[str, Any]:
    tokens = len(times)
    return {
        "index": index,
        "phase": "measured",
        "request_id": name,
        "prompt_sha256": name,
        "prompt_tokens_asked": prompt,
        "output_tokens_asked": tokens,
        "planned_s": sent_s,
        "sent_s": sent_s,
        "headers_s": times[0],
        "event_s": times,
        "event_tokens": [1] * tokens,
        "event_chars": [1] * tokens,
        "end_s": times[-1],
        "text": f"{WORDS} {name}",
        "text_tokens": tokens,
        "prompt_tokens": prompt,
        "output_tokens": tokens,
        "cached_tokens": 0,
        "finish_reason": "length",
        "status": 200,
        "error": None,
        "error_kind": None,
    }


def save_rows(where: Path, rows: list[dict[str, Any]]) -> None:
    (where / "requests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def read_rows(where: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (where / "requests.jsonl").read_text().splitlines()]

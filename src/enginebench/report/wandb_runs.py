"""A study in Weights & Biases: one run a (engine, variant, trial), grouped by study.

All of it comes from the record, after the measurement: a study needs neither package nor key.
Runs have fixed ids, so that logging a study again replaces what was there.
"""

import hashlib
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from enginebench.base.errors import UserError
from enginebench.base.redaction import redact_values
from enginebench.metrics import request_table
from enginebench.metrics.latency import request_times
from enginebench.record import reading, schema
from enginebench.record.schema_study import PlannedLaunch
from enginebench.summarize.cells import CellRow
from enginebench.summarize.groups import FIGURES
from enginebench.summarize.study_summary import Summary

T = TypeVar("T")

PROJECT = "enginebench"
MOST_ROWS = 10_000  # of a table of requests
MOST_POINTS = 1000  # of a time series
LONGEST_TAG, LONGEST_NAME = 64, 128  # characters that W&B takes
TIME = "time_s"
REQUEST_COLUMNS = (
    "request", "planned_s", "sent_s", "ttft_s", "tpot_s", "e2e_s", "prompt_tokens",
    "output_tokens", "failed",
)  # fmt: skip


def library() -> Any:
    """The package wandb.

    Raises:
        UserError: it is not installed.
    """
    try:
        import wandb
    except ImportError:
        raise UserError(
            "wandb: expected the package to be installed, found none; run: make wandb "
            "(or: pip install 'enginebench[wandb]'); no measurement needs it"
        ) from None
    return wandb


def mode(environment: Mapping[str, str]) -> str:
    """ "online" with a key, "offline" without; what WANDB_MODE says goes first."""
    asked = environment.get("WANDB_MODE", "")
    if asked in ("disabled", "offline"):
        return asked
    return "online" if environment.get("WANDB_API_KEY") else "offline"


def project(environment: Mapping[str, str]) -> str:
    return environment.get("WANDB_PROJECT") or PROJECT


def log(summary: Summary, directory: Path, how: str, say: Callable[[str], object]) -> int:
    """Log every start of an engine as a run; how many there were.

    Args:
        directory: the study's, below results/; offline runs are written to its ``wandb/``.
        how: "online" or "offline".
        say: told of each run.

    Raises:
        UserError: no package, or the server could not be reached.
    """
    wandb = library()
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    launches = [item for item in summary.study.plan if item.id in summary.launches]
    try:
        for item in launches:
            _log_run(wandb, summary, directory, item, how)
            say(f"{item.label}, trial {item.trial}: logged {how}")
    except (UserError, KeyboardInterrupt):
        raise
    except Exception as error:  # the package's own, pydantic's, those of the network and the disk
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"W&B: could not log ({reason}); the record is untouched: check "
            "WANDB_API_KEY and the network, or run: WANDB_MODE=offline make wandb"
        ) from None
    finally:
        wandb.teardown()
    return len(launches)


def run_id(directory: Path, launch_id: str) -> str:
    """The same for the same start of the same study, wherever and whenever it is logged."""
    return hashlib.sha256(f"{directory.resolve().name}/{launch_id}".encode()).hexdigest()[:16]


def _log_run(wandb: Any, summary: Summary, directory: Path, item: PlannedLaunch, how: str) -> None:
    mine = [cell for cell in summary.cells if cell.launch == item.id]
    name = run_id(directory, item.id)
    for stale in directory.glob(f"wandb/offline-run-*-{name}"):
        shutil.rmtree(stale)  # it says what this one says
    run = wandb.init(
        project=project(os.environ),
        id=name,
        name=f"{item.label} trial {item.trial}"[:LONGEST_NAME],
        group=directory.resolve().name[:LONGEST_NAME],
        job_type="trial",
        tags=[text[:LONGEST_TAG] for text in (item.engine, summary.study.study.name)],
        config=redact_values(config(summary, directory, item)),
        dir=str(directory),
        settings=_settings(wandb, how),
        resume="allow" if how == "online" else None,
    )
    for cell in mine:
        prefix = cell.id
        found = _requests(directory, cell)
        run.define_metric(f"{prefix}/{TIME}", hidden=True)
        run.define_metric(f"{prefix}/*", step_metric=f"{prefix}/{TIME}", summary="none")
        for row in series(cell, found):
            run.log({f"{prefix}/{key}": value for key, value in row.items()})
        if found is not None:
            table = wandb.Table(columns=list(REQUEST_COLUMNS), data=request_rows(found))
            run.log({f"requests/{prefix}": table})
    headings, rows = cell_table(mine)
    run.log({"cells": wandb.Table(columns=headings, data=rows)})
    run.summary.update(run_summary(mine))
    raw = wandb.Artifact(f"record-{name}", type="raw-record", metadata={"launch": item.id})
    for file in sorted([directory / "study.json", *(directory / "raw" / item.id).rglob("*")]):
        if reading.is_of_record(file):  # a link may lead out of it
            # Raw files never change: they are read where they lie and not copied.
            name_inside = str(file.relative_to(directory))
            raw.add_file(str(file.resolve()), name=name_inside, policy="immutable")
    run.log_artifact(raw)
    run.finish()


def _settings(wandb: Any, how: str) -> Any:
    """Nothing but what we log: no console, no code, no figures of the machine that logs."""
    return wandb.Settings(
        mode=how,
        silent=True,
        console="off",
        disable_git=True,
        disable_code=True,
        x_disable_stats=True,
        x_disable_meta=True,
        x_save_requirements=False,
        init_timeout=60,
    )


def config(summary: Summary, directory: Path, item: PlannedLaunch) -> dict[str, object]:
    """What a run was made with: the engine, its settings, the machine, the model, the work."""
    study, launch = summary.study, summary.launches[item.id]
    names = ("settings", "command", "env", "dtype", "version", "ready_s", "kv_capacity_tokens")
    return {
        "study_run": directory.resolve().name,
        "engine": item.engine,
        "variant": item.variant,
        "label": item.label,
        "trial": item.trial,
        **{name: getattr(launch, name) for name in names},
        "study": msgspec.to_builtins(study.study),
        "machine": msgspec.to_builtins(study.machine),
        "device": study.device,
        "git": msgspec.to_builtins(study.git),
        "model": {name: getattr(study.model, name) for name in ("name", "sha256", "config")},
        "prompts": msgspec.to_builtins(study.prompts),
    }


def run_summary(mine: list[CellRow]) -> dict[str, object]:
    """``<cell>/<figure>`` for every figure that a report averages, and whether the cell counts."""
    found: dict[str, object] = {}
    for cell in mine:
        prefix = cell.id
        found[f"{prefix}/verdict"] = cell.verdict
        found[f"{prefix}/problems"] = "; ".join(cell.problems)
        for name in FIGURES:
            if cell.figures.get(name) is not None:
                found[f"{prefix}/{name}"] = cell.figures[name]
    return found


def cell_table(mine: list[CellRow]) -> tuple[list[str], list[list[object]]]:
    """One row a cell: what was run, what it gave, whether it counts."""
    rows = [
        [cell.label, cell.trial, cell.workload, cell.load_text, cell.verdict]
        + [cell.figures.get(name) for name in FIGURES]
        for cell in mine
    ]
    return ["label", "trial", "workload", "load", "verdict", *FIGURES], rows


def series(cell: CellRow, found: request_table.Columns | None) -> Iterator[dict[str, float]]:
    """A cell over time: KV cache, memory, power, requests, output tokens/s; seconds from its start.

    Rows have those values that were measured at that moment.
    """
    rows: list[tuple[float, dict[str, float | None]]] = [
        (
            sample.t_s,
            {
                "kv_used_tokens": sample.used_tokens,
                "kv_held_tokens": sample.held_tokens,
                "requests_running": sample.running,
                "requests_waiting": sample.waiting,
                "preemptions": sample.preemptions,
            },
        )
        for sample in _thinned(cell.samples)
    ]
    rows += [(t_s, {"memory_bytes": value}) for t_s, value in _thinned(cell.resident)]
    rows += [(t_s, {"power_w": value}) for t_s, value in _thinned(cell.power)]
    if found is not None:
        rows += [(t_s, {"output_tokens_per_s": value}) for t_s, value in tokens_per_s(found)]
    start_s = min((t_s for t_s, _ in rows), default=0.0)
    for t_s, values in sorted(rows, key=lambda row: row[0]):
        known = {name: value for name, value in values.items() if value is not None}
        if known:
            yield {TIME: t_s - start_s} | known


def _thinned(points: Sequence[T]) -> Sequence[T]:
    return points[:: max(-(-len(points) // MOST_POINTS), 1)]


def tokens_per_s(found: request_table.Columns) -> list[tuple[float, float]]:
    """Output tokens/s in equal steps from the first request sent to the last token: step's end in
    s, rate. Steps are of a second, or longer in a long cell. Events of unknown size count nothing.
    """
    sent, event_s = found.sent_s[~np.isnan(found.sent_s)], found.event_s
    if not len(sent) or not len(event_s):
        return []
    start_s = float(sent.min())
    span_s = max(float(event_s.max()) - start_s, 0.0)
    step_s = float(max(1, math.ceil(span_s / MOST_POINTS)))
    made = np.zeros(int(span_s // step_s) + 1)
    for part in found.parts():
        events = found.events(part)
        index = (event_s[events] - start_s) // step_s
        inside = index >= 0  # all, unless a clock was set
        np.add.at(made, index[inside].astype(np.int64), found.event_tokens[events][inside].clip(0))
    return [(start_s + (k + 1) * step_s, count / step_s) for k, count in enumerate(made.tolist())]


def request_rows(found: request_table.Columns) -> list[list[object]]:
    """The first MOST_ROWS requests under REQUEST_COLUMNS, seconds from the first one sent."""
    times = request_times(found)
    start_s = np.nanmin(found.sent_s) if np.isfinite(found.sent_s).any() else math.nan
    table = (
        found.planned_s - start_s,
        found.sent_s - start_s,
        times.ttft_s,
        times.tpot_s,
        times.e2e_s,
    )
    seconds = [[_or_none(value) for value in column[:MOST_ROWS].tolist()] for column in table]
    counts = [column[:MOST_ROWS].tolist() for column in (found.prompt_tokens, found.output_tokens)]
    known = [[None if n == request_table.UNKNOWN else n for n in column] for column in counts]
    failed = found.is_failed[:MOST_ROWS].tolist()
    rows = zip(range(len(failed)), *seconds, *known, failed, strict=True)
    return [list(row) for row in rows]


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _requests(directory: Path, cell: CellRow) -> request_table.Columns | None:
    """A cell's measured requests; None where it was not run."""
    file = directory / "raw" / cell.launch / cell.id / "requests.jsonl"
    if not file.exists():
        return None
    rows = reading.read_rows(file, schema.Request)
    return request_table.gather(row for row in rows if row.phase == "measured")

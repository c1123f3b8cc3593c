"""The W&B Report of a study, made by code: run sets by engine, panels, the table of cells."""

import os
from pathlib import Path
from typing import Any

from enginebench.base.errors import UserError
from enginebench.record.schema_study import Workload
from enginebench.report import narrative, wandb_runs
from enginebench.report.wandb_runs import TIME
from enginebench.summarize.study_summary import Summary

#: (title, figure of a run's summary) of the bars
BARS = (
    ("Throughput, output tokens/s", "output_tokens_per_s"),
    ("TTFT p50, s", "ttft_s_p50"),
    ("TPOT p50, s", "tpot_s_p50"),
    ("Cost, USD per million output tokens", "usd_per_million_output_tokens"),
    ("Memory at its peak, bytes", "memory_peak_bytes"),
)
#: (title, series) of the lines
LINES = (
    ("Output tokens/s over time", ("output_tokens_per_s",)),
    ("Memory over time, bytes", ("memory_bytes",)),
    ("KV cache over time, tokens", ("kv_used_tokens", "kv_held_tokens")),
    ("Requests running and waiting", ("requests_running", "requests_waiting")),
)
WIDTH, HEIGHT, ACROSS = 12, 8, 2  # of a panel in the grid of 24 columns


def library() -> Any:
    """The package wandb-workspaces, which makes reports.

    Raises:
        UserError: it is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as reports
    except ImportError:
        raise UserError(
            "wandb-workspaces: expected the package that makes W&B Reports, found none; run: make "
            "wandb (or: pip install 'enginebench[wandb]'); the runs are logged without it"
        ) from None
    return reports


def save(summary: Summary, directory: Path) -> str:
    """Make the report on the server; its address. Needs a key and the network."""
    library()
    import wandb

    try:
        entity = os.environ.get("WANDB_ENTITY") or str(wandb.Api().default_entity)
        return str(build(summary, directory, entity, wandb_runs.project(os.environ)).save().url)
    except (wandb.Error, OSError) as error:
        raise UserError(
            f"W&B: the runs were uploaded, the report could not be saved "
            f"({str(error).splitlines()[0]}); try again: make wandb DIR={directory}"
        ) from None


def build(summary: Summary, directory: Path, entity: str, project: str) -> Any:
    """The report, not saved yet: ``.save()`` needs a key and the network.

    A section a workload, at its highest level: bars of the figures, lines over time, with one run
    set an engine; then the table of all cells.
    """
    reports = library()
    engines = list(dict.fromkeys(planned.engine for planned in summary.study.plan))
    run_sets = [_run_set(reports, engine, directory.resolve().name) for engine in engines]
    blocks: list[Any] = [reports.MarkdownBlock("\n\n".join(narrative.answers(summary)))]
    for workload in summary.study.study.workloads:
        prefix = _highest(summary, workload)
        if prefix is None:
            continue
        blocks.append(reports.H2(f"Workload {workload.name}, {prefix}"))
        blocks.append(reports.PanelGrid(runsets=run_sets, panels=_panels(reports, prefix)))
    blocks.append(reports.H2("All cells"))
    blocks.append(reports.WeaveBlockSummaryTable(entity, project, "cells"))
    blocks.append(
        reports.MarkdownBlock(
            f"Rerun: `{summary.study.rerun}`. The record of each run is its artifact."
        )
    )
    return reports.Report(
        project=project,
        entity=entity,
        title=f"{summary.study.study.name}: {directory.resolve().name}"[:128],
        description="Made from the record of a study; figures are defined in docs/method.md.",
        blocks=blocks,
        width="fluid",
    )


def _run_set(reports: Any, engine: str, study_run: str) -> Any:
    """An engine's runs of this study, in the report's own project."""
    from wandb_workspaces import expr

    return reports.Runset(
        name=engine,
        filters=[expr.Config("engine") == engine, expr.Config("study_run") == study_run],
    )


def _highest(summary: Summary, workload: Workload) -> str | None:
    """The prefix of a workload's figures at its highest level; None where it was not run."""
    cells = [cell for cell in summary.cells if cell.workload == workload.name]
    return max(cells, key=lambda cell: cell.level).id if cells else None


def _panels(reports: Any, prefix: str) -> list[Any]:
    made = [
        reports.BarPlot(
            title=title,
            metrics=[reports.SummaryMetric(f"{prefix}/{figure}")],
            groupby=reports.Config("label"),
            groupby_aggfunc="mean",
            groupby_rangefunc="minmax",
        )
        for title, figure in BARS
    ]
    made += [
        reports.LinePlot(
            title=title,
            x=f"{prefix}/{TIME}",
            y=[f"{prefix}/{name}" for name in names],
            title_x="seconds",
        )
        for title, names in LINES
    ]
    for index, panel in enumerate(made):
        row, column = divmod(index, ACROSS)
        panel.layout = reports.Layout(x=column * WIDTH, y=row * HEIGHT, w=WIDTH, h=HEIGHT)
    return made

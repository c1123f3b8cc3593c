"""The figures of a report, drawn and kept: PNG for slides and Markdown, SVG for the HTML."""

from pathlib import Path

from matplotlib.figure import Figure

from enginebench import memory_report, plots, stats
from enginebench.summarize import Summary

#: (file stem, figure, its unit as shown, factor from SI, title, logarithmic)
FIGURES = (
    ("throughput", "output_tokens_per_s", "output tokens/s", 1, "Throughput", False),
    ("ttft", "ttft_s_p50", "milliseconds, p50", 1e3, "Time to first token", True),
    ("tpot", "tpot_s_p50", "milliseconds, p50", 1e3, "Time per output token", False),
    ("cost", "usd_per_million_output_tokens", "USD per million output tokens", 1, "Cost", True),
)

#: (file stem, figure, its unit, title, over what) of single requests
LENGTH_FIGURES = (
    ("length-time", "e2e_s_p50", "seconds, p50", "Time of a request", "output tokens"),
    (
        "length-kv",
        "kv_reserved_bytes",
        "bytes",
        "Keys and values of a request",
        "tokens of the request, prompt and output",
    ),
)


def write_sweeps(summary: Summary, directory: Path) -> list[dict[str, str]]:
    """Draw one figure a quantity for each workload that has more than one level."""
    written = []
    for workload in summary.study["study"]["workloads"]:
        if len(workload["concurrency"] or workload["rate"]) < 2:
            continue
        groups = [g for g in summary.groups if g.workload == workload["name"]]
        is_open = not workload["concurrency"]
        for stem, name, unit, factor, title, log in FIGURES:
            if is_open and stem == "ttft":  # as in the table: its wait counts from the due time
                name, title = "ttft_planned_s_p50", f"{title} from due"
            figure = plots.line_plot(
                [(g.label, g.level, stats.scaled(g.figures[name], factor)) for g in groups],
                summary.labels,
                f"{title}, workload {workload['name']}",
                unit,
                "requests in flight" if workload["concurrency"] else "requests/s offered",
                log=log,
            )
            if figure is not None:
                path = directory / f"{workload['name']}-{stem}"
                against = "requests in flight" if workload["concurrency"] else "requests/s offered"
                caption = f"{title} against {against}, workload {workload['name']}"
                written.append(_keep(figure, path, caption))
    return written


def write_memory(summary: Summary, directory: Path) -> list[dict[str, str]]:
    """A timeline of each variant's fullest cell, and the curves over length if there are any."""
    written = []
    for cell in memory_report.fullest_cells(summary):
        if not memory_report.is_followed(cell):
            continue
        what = f"{cell.label}, {cell.workload}, {cell.load_text}"
        capacity = cell.figures["kv_capacity_tokens"]
        figure = plots.timeline(cell.samples, cell.resident, cell.power, capacity, what)
        stem = f"timeline-{cell.engine}-{cell.variant}"
        written.append(_keep(figure, directory / stem, f"KV cache over time: {what}"))
    measured = memory_report.curves(summary)
    for stem, figure_name, unit, title, over in LENGTH_FIGURES:
        if measured.get(figure_name):
            drawn = plots.length_plot(measured[figure_name], summary.labels, title, unit, over)
            written.append(_keep(drawn, directory / stem, f"{title} against its length"))
    return written


def _keep(figure: Figure, path: Path, caption: str) -> dict[str, str]:
    """Save a figure; what a template needs to show it."""
    plots.save(figure, path)
    svg = path.with_suffix(".svg").read_text()
    return {
        "png": f"figures/{path.name}.png",
        "svg": svg[svg.index("<svg") :],
        "caption": caption,
    }

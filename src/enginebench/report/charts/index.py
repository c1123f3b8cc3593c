"""The figures of a report, drawn and kept: PNG for slides and Markdown, SVG for the HTML."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from enginebench.base import stats
from enginebench.record.schema_study import Workload
from enginebench.report import machine_report, memory_report
from enginebench.report.charts import latency as latency_plots
from enginebench.report.charts import lines, machine, style, svg, timeline, waterfall
from enginebench.report.charts import phases as phase_plots
from enginebench.report.charts.style import Drawing
from enginebench.summarize import distributions, phases, ranking
from enginebench.summarize.study_summary import Summary, levels

#: File stem, figure, its unit as shown, factor from SI, title, logarithmic.
Sweep = tuple[str, str, str, float, str, bool]

FIGURES: tuple[Sweep, ...] = (
    ("throughput", "output_tokens_per_s", "output tokens/s", 1, "Throughput", False),
    ("ttft", "ttft_s_p50", "milliseconds, p50", 1e3, "Time to first token", True),
    ("tpot", "tpot_s_p50", "milliseconds, p50", 1e3, "Time per output token", False),
    ("e2e", "e2e_s_p50", "seconds, p50", 1, "Time of a request", True),
)
COST: Sweep = (
    "cost",
    "usd_per_million_output_tokens",
    "USD per million output tokens",
    1,
    "Cost",
    True,
)

#: (file stem, latency, title, of what its shares are) of all requests of a level
SPREADS = (
    ("spread-ttft", "ttft_s", "Time to first token", "requests"),
    ("spread-itl", "itl_s", "Gaps between tokens", "gaps"),
    ("spread-e2e", "e2e_s", "Time of a request", "requests"),
)

#: (file stem, figure, its unit as shown, factor from SI, title, over what) of single requests
LENGTH_FIGURES = (
    ("length-time", "e2e_s_p50", "seconds, p50", 1, "Time of a request", "output tokens"),
    (
        "length-kv",
        "kv_reserved_bytes",
        "MiB",
        1 / (1 << 20),
        "Keys and values of a request",
        "tokens of the request, prompt and output",
    ),
)

#: Phase -> title, what its lengths are of, what is fixed
PHASE_TITLES = {
    "prefill": ("Prefill: time to first token", "prompt tokens", "{} tokens out"),
    "decode": ("Decode: first to last token", "output tokens after the first", "{} tokens in"),
    "itl": ("Gap between tokens", "tokens of context", "{} tokens out"),
}

Kept = dict[str, str]  # png, svg, caption: what a template needs to show a figure


def write(summary: Summary, directory: Path) -> dict[str, list[Kept]]:
    """Draw everything that the study has the data for, by the report's sections.

    Figures of an earlier build are removed: one that is no longer drawn must not stay.
    """
    for old in (*directory.glob("*.png"), *directory.glob("*.svg")):
        old.unlink()
    workloads = summary.study.study.workloads
    made = {
        "load": (found for w in workloads for found in _sweeps(summary, w, FIGURES)),
        "cost": (found for w in workloads for found in _sweeps(summary, w, (COST,))),
        "spread": (found for w in workloads for found in _spreads(summary, w)),
        "pareto": (found for w in workloads for found in _paretos(summary, w)),
        "memory": _memory(summary),
        "phases": _phases(summary),
        "machine": _machine(summary),
        "why": waterfall.waterfalls(summary, is_main=True),
        "why_more": waterfall.waterfalls(summary, is_main=False),
    }
    return {
        section: [_keep(drawing, directory / stem, caption) for stem, drawing, caption in drawn]
        for section, drawn in made.items()
    }


def _load(workload: Workload) -> str:
    return "requests in flight" if workload.concurrency else "requests/s offered"


def _from_due(figure: str, title: str) -> tuple[str, str]:
    """In an open loop waiting counts from the moment a request was due, as in the tables."""
    for sent in ("ttft_s", "e2e_s"):
        if figure.startswith(sent):
            return figure.replace("_s", "_planned_s", 1), f"{title} from due"
    return figure, title


def _sweeps(
    summary: Summary, workload: Workload, wanted: Sequence[Sweep]
) -> Iterator[tuple[str, Drawing, str]]:
    """One figure a quantity, for a workload that has more than one level."""
    if len(levels(workload)) < 2:
        return
    name, load = workload.name, _load(workload)
    groups = [group for group in summary.groups if group.workload == name]
    for stem, figure, unit, factor, title, log in wanted:
        if not workload.concurrency:
            if stem == "cost":
                continue  # that of the offered rate, whatever runs
            figure, title = _from_due(figure, title)
        points = [(g.label, g.level, stats.scaled(g.figures[figure], factor)) for g in groups]
        drawn = lines.line_plot(
            points, summary.labels, f"{title}, workload {name}", unit, load, log=log
        )
        if drawn is not None:
            yield f"{name}-{stem}", drawn, f"{title} against {load}, workload {name}"


def _spreads(summary: Summary, workload: Workload) -> Iterator[tuple[str, Drawing, str]]:
    """How each latency is spread over the requests, at the workload's highest level."""
    level = max(levels(workload))
    load = f"{level:g} {'in flight' if workload.concurrency else 'requests/s offered'}"
    for stem, latency, title, of in SPREADS:
        if not workload.concurrency:
            latency, title = _from_due(latency, title)
        found = distributions.spreads(summary, workload.name, level, latency)
        if found:
            where = f"{workload.name}, {load}"
            drawn = latency_plots.spread_plot(found, summary.labels, f"{title}, {where}", of)
            yield f"{workload.name}-{stem}", drawn, f"{title} by share of {of}: {where}"


def _paretos(summary: Summary, workload: Workload) -> Iterator[tuple[str, Drawing, str]]:
    found = ranking.pareto(summary, workload)
    if found is None:
        return
    name = workload.name
    drawn = latency_plots.pareto_plot(found, summary.labels, f"Throughput over latency, {name}")
    yield f"{name}-pareto", drawn, f"Output tokens/s over {found.axis}, workload {name}"


def _memory(summary: Summary) -> Iterator[tuple[str, Drawing, str]]:
    """A timeline of each variant's fullest cell, and the curves over length if there are any."""
    looks = style.looks(summary.labels)
    for cell in memory_report.fullest_cells(summary):
        if not memory_report.is_followed(cell):
            continue
        what = f"{cell.label}, {cell.workload}, {cell.load_text}"
        capacity = cell.figures["kv_capacity_tokens"]
        drawn = timeline.timeline(
            cell.samples, cell.resident, cell.power, capacity, what, looks[cell.label].colour
        )
        yield f"timeline-{cell.engine}-{cell.variant}", drawn, f"KV cache over time: {what}"
    measured = memory_report.curves(summary)
    for stem, figure, unit, factor, title, over in LENGTH_FIGURES:
        curves = {
            label: points
            for label, found in measured.get(figure, {}).items()
            if (points := [(x, y * factor) for x, y in found if y > 0])  # the axis has no zero
        }
        if curves:
            drawn = lines.length_plot(curves, summary.labels, title, unit, over)
            yield stem, drawn, f"{title} against its length"


def _phases(summary: Summary) -> Iterator[tuple[str, Drawing, str]]:
    """Times against lengths, and prefill and decode below the roofs."""
    found = phases.phases(summary)
    for phase in found:
        title, over, beside = PHASE_TITLES[phase.name]
        text = f"{title}, {beside.format(phase.fixed_tokens)}"
        yield f"phase-{phase.name}", phase_plots.phase_plot(phase, summary.labels, text, over), text
    placed = phases.placed(summary, found)
    ceilings = {"measured" if summary.study.device == "cpu" else "data sheet": summary.ceiling}
    ceilings |= {"reached": summary.gpu_reached}
    roofs = {of: made for of, c in ceilings.items() if (made := phases.roofs(summary, c, found))}
    if placed and roofs:
        title = "Prefill and decode below the roofline"
        drawn = phase_plots.roofline_plot(placed, roofs, summary.labels, title)
        yield "roofline", drawn, f"{title}: FLOP/s against FLOP/byte"


def _machine(summary: Summary) -> Iterator[tuple[str, Drawing, str]]:
    """What others did on the machine, above the cells that were run meanwhile."""
    title = "The machine during the study"
    cpus = summary.study.machine.cpus
    drawn = machine.machine_plot(machine_report.spans(summary), summary.labels, cpus, title)
    if drawn is not None:
        yield "machine", drawn, "CPU time of other processes, steal and frequency, above the cells"


def _keep(drawing: Drawing, path: Path, caption: str) -> Kept:
    """Save a figure; what a template needs to show it."""
    style.save(drawing.figure, path, drawing.marks)
    return {
        "png": f"figures/{path.name}.png",
        "svg": svg.inline(path.with_suffix(".svg").read_text(encoding="utf-8")),
        "caption": caption,
    }

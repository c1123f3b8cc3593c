"""The figure of the machine during a study."""

from dataclasses import replace

import made_record
import msgspec
import pytest

from enginebench.base.machine_row import MachineRow
from enginebench.metrics.machine_load import LoadPoint
from enginebench.report import build
from enginebench.report.charts import style
from enginebench.report.charts.machine import CellSpan, machine_plot

ORDER = ["alpha/one", "beta/one"]


def span(variant, start_s, others, disturbed=False, **changes):
    made = tuple(
        LoadPoint(start_s + 0.5 * (k + 1), 0.5, 1.5, value, 0.3, 0.0, None)
        for k, value in enumerate(others)
    )
    end_s = start_s + len(others) / 2
    made = tuple(replace(point, **changes) for point in made)
    return CellSpan(variant, f"{variant} chat-c1", start_s, end_s, made, disturbed)


SPANS = [span("alpha/one", 100, [0.1] * 20), span("beta/one", 170, [0.1, 0.9] * 10, True)]


def test_the_same_rows_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        drawn = machine_plot(SPANS, ORDER, 2, "The machine")
        style.save(drawn.figure, tmp_path / name, drawn.marks)
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text()
    assert "beta/one chat-c1: at most 0.9 others, cores" in text
    assert "beta/one chat-c1, others disturbed it" in text


def panels(drawn):
    return [axes.get_ylabel() for axes in drawn.figure.axes]


def test_what_was_not_readable_has_no_panel():
    drawn = machine_plot(SPANS, ORDER, 2, "The machine")
    assert panels(drawn) == ["others, cores", "steal, cores", "cells"]
    known = [span("alpha/one", 100, [0.1] * 4, frequency_hz=2.5e9)]
    assert panels(machine_plot(known, ORDER, 2, "The machine")) == [
        "others, cores", "steal, cores", "GHz", "cells",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "spans", [[], [span("alpha/one", 1, [None] * 4, steal_cores=None)], [span("alpha/one", 1, [])]]
)
def test_a_record_without_any_of_it_has_no_figure(spans):
    assert machine_plot(spans, ORDER, None, "The machine") is None


def test_a_long_study_keeps_its_peaks_in_a_small_figure():
    quiet, peak = [0.1] * 9000, [0.1] * 4500 + [1.7] + [0.1] * 4499
    drawn = machine_plot([span("alpha/one", 0, quiet), span("beta/one", 4600, peak)], ORDER, 2, "t")
    curves = [line.get_ydata() for line in drawn.figure.axes[0].get_lines()]
    assert sum(map(len, curves)) <= 1202
    assert max(map(max, curves)) == 1.7


def test_the_report_has_the_chart_and_who_else_used_the_machine(tmp_path):
    directory = made_record.write(tmp_path / "made", {"slow/plain": (1, 1)})
    (cell,) = (directory / "raw").glob("trial1_slow_plain/many-c4")
    rows = (
        # Of two CPUs 1.5 are busy, 0.5 of it ours: others use 1 core, none is to spare.
        MachineRow(t_s=t, cpus=(0, 1), cpu_busy_s=(t, t / 2), cpu_steal_s=(0, 0), ours_s=t / 2)
        for t in (0.0, 1.0, 2.0, 3.0)
    )
    lines = (msgspec.json.encode(row).decode() + "\n" for row in rows)
    (cell / "machine.jsonl").write_text("".join(lines))
    build.build(directory)
    text = (directory / "derived" / "report.md").read_text()
    assert "](figures/machine.png)" in text  # an image: its brackets are not escaped
    assert (
        "Other processes used 1.00 of 2 cores on average in the most disturbed of 1 cells" in text
    )
    assert "suspect: slow/plain many, 4 in flight, trial 1" in text

"""A cell over time: what is drawn of its samples, and what is left out."""

import matplotlib.pyplot as plt
import pytest
from builders import GIB

from enginebench.metrics.memory import Sample
from enginebench.report.charts import timeline

#: t_s, used tokens, held tokens, held in blocks, running, waiting, preemptions
SAMPLES = [
    Sample(100.0, 0.0, 0, 0, 1.0, 0.0, 0.0),
    Sample(101.0, 512.0, 400, 512, 2.0, 3.0, 0.0),
    Sample(102.5, None, 700, 768, None, None, 2.0),
    Sample(104.0, 256.0, 200, 256, 1.0, 0.0, 2.0),
]


@pytest.fixture
def draw():
    def drawn(samples=SAMPLES, resident=(), power=(), capacity=None):
        return timeline.timeline(samples, resident, power, capacity, "a cell", "#0072B2")

    yield drawn
    plt.close("all")


def texts(drawing, panel):
    return [mark.text for mark in drawing.marks if mark.axes is drawing.figure.axes[panel]]


def lines(drawing, panel):
    """Label -> the line's points."""
    found = drawing.figure.axes[panel].get_lines()
    return {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in found}


def test_times_begin_at_the_first_sample_and_every_value_can_be_pointed_at(draw):
    drawing = draw(resident=[(101.0, 3 * GIB)])
    assert texts(drawing, 0) == [
        *("0.0 s: 0 tokens used", "1.0 s: 512 tokens used", "4.0 s: 256 tokens used"),
        *("0.0 s: 0 tokens needed", "1.0 s: 400 tokens needed"),
        *("2.5 s: 700 tokens needed", "4.0 s: 200 tokens needed"),
    ]
    assert "1.0 s: 3 requests waiting" in texts(drawing, 1)
    assert texts(drawing, 2) == ["1.0 s: 3 GiB"]
    assert drawing.figure.axes[0].get_title(loc="left") == "a cell"


def test_what_was_not_measured_is_not_drawn_as_zero(draw):
    drawing = draw()
    assert lines(drawing, 0)["used (engine)"] == [(0.0, 0.0), (1.0, 512.0), (4.0, 256.0)]
    silent = [Sample(t, None, 5, 8, None, None, None) for t in (0.0, 1.0)]
    assert "used (engine)" not in lines(draw(silent), 0)
    assert lines(draw(silent), 1) == {}


def test_a_preemption_is_marked_where_the_count_rose_and_nowhere_else(draw):
    assert lines(draw(), 0)["preempted"] == [(2.5, 0)]
    assert "preempted" not in lines(draw(SAMPLES[:2]), 0)


def test_power_has_a_panel_only_where_it_was_measured(draw):
    assert len(draw().figure.axes) == 3
    drawing = draw(power=[(100.5, 250.0)])
    assert len(drawing.figure.axes) == 4
    assert texts(drawing, 3) == ["0.5 s: 250 W"]
    assert drawing.figure.axes[3].get_ylabel() == "W"


def test_the_capacity_is_a_line_only_where_it_is_known(draw):
    def said(drawing):
        return [text.get_text() for text in drawing.figure.axes[0].texts]

    assert said(draw(capacity=16384.0)) == ["capacity 16,384"]
    assert said(draw()) == []


def test_of_a_long_cell_some_values_can_be_pointed_at_and_all_are_drawn(draw):
    many = [Sample(float(t), float(t), t, t, 1.0, 0.0, 0.0) for t in range(1000)]
    drawing = draw(many)
    assert len(lines(drawing, 0)["used (engine)"]) == 1000
    used = [text for text in texts(drawing, 0) if text.endswith("used")]
    assert 30 <= len(used) <= timeline.MOST_MARKS

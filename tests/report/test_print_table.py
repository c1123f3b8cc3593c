"""The result as a terminal shows it."""

import io
import json
import re

import made_record
import pytest
from rich.console import Console

from enginebench.report import build
from enginebench.summarize.study_summary import summarize

FACTORS = {"slow/plain": (2, 2, 2), "quick/plain": (1, 1, 1)}


@pytest.fixture
def directory(tmp_path):
    return made_record.write(tmp_path / "made", FACTORS)


def printed(directory, width=160):
    console = Console(file=io.StringIO(), width=width)
    build.print_table(summarize(directory), console)
    return console.file.getvalue()


def test_every_row_has_its_figures_under_their_headings(directory):
    title, *lines = printed(directory).splitlines()
    assert title.rstrip() == "many: 8 tokens in, 5 out"
    rows = [re.split(r" {2,}", line.strip()) for line in lines]
    headings, *rows = [row for row in rows if len(row) > 5]
    table = {(row[0], row[1]): dict(zip(headings, row, strict=True)) for row in rows}
    found = table["quick/plain", "1"]
    # Three requests one after another: 15 tokens in 0.10 + 0.12 + 0.14 + 3 · 0.04 = 0.48 s.
    assert found["output tokens/s"].startswith("31.3 [31.3, 31.3]")  # 31.25
    assert found["× reference"].startswith("2.00")
    assert found["TTFT p50 ms"].startswith("120")
    assert found["valid"] == "3 of 3"
    assert table["slow/plain", "1"]["TTFT p50 ms"].startswith("240")


def test_cells_that_are_not_valid_are_listed_with_their_reasons_and_the_valid_are_not(directory):
    assert "invalid" not in printed(directory)
    where = directory / "raw" / "trial2_quick_plain" / "many-c4"
    rows = made_record.read_rows(where)
    rows[3] |= {"error": "timed out [1] after 5 s", "error_kind": "timeout"}
    made_record.save_rows(where, rows)
    said = printed(directory, width=60)
    # On one line, however narrow the terminal, and with its brackets.
    (line,) = (line for line in said.splitlines() if line.startswith("invalid: "))
    assert line.startswith("invalid: quick/plain many, 4 in flight, trial 2: ")
    assert "1 of 12 requests failed; the first: timed out [1] after 5 s" in line


def test_a_suspect_cell_is_listed_too(directory):
    file = directory / "raw" / "trial1_slow_plain" / "many-c1" / "cell.json"
    about = json.loads(file.read_text())
    about["ended"] |= {"wall_s": about["ended"]["wall_s"] + 5}
    file.write_text(json.dumps(about))
    assert "suspect: slow/plain many, 1 in flight, trial 1: by one clock" in printed(directory)

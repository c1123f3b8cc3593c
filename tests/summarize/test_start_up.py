"""The table of starts: what is cold, what is warm, and what no part accounts for."""

import json

import made_record
import pytest

from enginebench.report import build
from enginebench.summarize import start_up
from enginebench.summarize.study_summary import summarize

FACTORS = {"quick/plain": (1, 1.05, 1.1), "slow/plain": (2, 2.1, 2.2)}


def made(tmp_path, starts, factors=FACTORS):
    """A record whose starts took so long: launch -> seconds until ready, parts."""
    directory = made_record.write(tmp_path / "made", factors)
    for launch, (ready_s, parts) in starts.items():
        file = directory / "raw" / launch / "launch.json"
        facts = json.loads(file.read_text()) | {"ready_s": ready_s, "start_up": parts}
        file.write_text(json.dumps(facts))
    return directory


COLD = {"weights_s": 2.0, "init_s": 40.0, "compile_s": 30.0, "compile_cache": "new"}
WARM = {"weights_s": 1.0, "init_s": 10.0, "compile_s": 4.0, "compile_cache": "found"}
STARTS = {
    "trial1_quick_plain": (50.0, COLD),
    "trial2_quick_plain": (20.0, WARM),
    "trial3_quick_plain": (22.0, WARM | {"weights_s": 2.0, "compile_s": None}),
    "trial1_slow_plain": (5.0, {"weights_s": 1.5}),
}


def test_cold_and_warm_starts_are_apart_and_parts_add_up(tmp_path):
    found = start_up.of_study(summarize(made(tmp_path, STARTS)))
    rows = [
        (row.label, row.kind, row.starts, row.ready_s, row.weights_s, row.init_s, row.compile_s,
         row.capture_s, row.rest_s)
        for row in found
    ]  # fmt: skip
    assert rows == [
        # 50 − 2 − 40; the 30 s of compiling are part of the 40.
        ("quick/plain", "cold", 1, 50.0, 2.0, 40.0, 30.0, None, 8.0),
        # Means of both: 21 − 1.5 − 10. One log does not state its compiling.
        ("quick/plain", "warm", 2, 21.0, 1.5, 10.0, None, None, 9.5),
        # The starts of slow that have no account are in no row.
        ("slow/plain", "not known", 1, 5.0, 1.5, None, None, None, 3.5),
    ]


@pytest.mark.parametrize(
    ("parts", "rest_s"),
    [
        ({}, None),  # nothing is stated
        ({"compile_s": 3.0, "capture_s": 1.0}, 6.0),  # where the whole of both is not stated
        ({"weights_s": 11.0}, None),  # more than the start: parts that overlap
    ],
)
def test_the_rest_is_what_the_stated_parts_leave(tmp_path, parts, rest_s):
    directory = made(tmp_path, {"trial1_quick_plain": (10.0, parts)})
    (row,) = start_up.of_study(summarize(directory))
    assert row.rest_s == rest_s


def test_the_report_and_its_data_show_the_starts(tmp_path):
    directory = made(tmp_path, STARTS)
    build.build(directory)
    derived = directory / "derived"
    assert "| quick/plain | cold | 1 | 50.0 | 2.0 | 40.0 | 30.0 | – | 8.0 |" in (
        (derived / "report.md").read_text()
    )
    assert '<h2 id="start-up">' in (derived / "report.html").read_text()
    data = json.loads((derived / "metrics_data.json").read_text())
    assert [row["rest_s"] for row in data["start_up"]] == [8.0, 9.5, 3.5]


def test_a_record_from_before_has_no_such_table(tmp_path):
    directory = made_record.write(tmp_path / "made", FACTORS)
    build.build(directory)
    derived = directory / "derived"
    assert "Start-up" not in (derived / "report.md").read_text()
    assert "start-up" not in (derived / "report.html").read_text()
    assert "start_up" not in json.loads((derived / "metrics_data.json").read_text())

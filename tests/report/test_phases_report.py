"""Prefill, decode and their lengths in a whole report, from records whose every time is set."""

import json
import re

import made_record
import msgspec
import pytest
from builders import LLAMA_2_7B

from enginebench.record import schema_phases
from enginebench.report import build, phases_report
from enginebench.summarize.study_summary import summarize

ONE = {"concurrency": [1]}
PROMPTS = [{"name": f"p-{n}", "prompt_tokens": n, "output_tokens": 9, **ONE} for n in (8, 16, 32)]
OUTPUTS = [{"name": f"o-{n}", "prompt_tokens": 8, "output_tokens": n, **ONE} for n in (17, 33, 65)]
GRID = [
    {"name": f"g-{p}-{o}", "prompt_tokens": p, "output_tokens": o, "concurrency": [2]}
    for p in (8, 16, 32)
    for o in (2, 4, 8)
]
SPREAD = {"prompt_tokens": 8, "output_tokens": {"min": 2, "max": 6}, "concurrency": [2]}
WORKLOADS = [*PROMPTS, *OUTPUTS, *GRID, {"name": "spread", **SPREAD}]
FACTORS = {"slow/plain": (2, 2.2), "quick/plain": (1, 1.1)}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    where = made_record.write(
        tmp_path_factory.mktemp("phases") / "made", FACTORS, workloads=WORKLOADS
    )
    facts = json.loads((where / "study.json").read_text())
    facts["model"]["config"] = LLAMA_2_7B
    # So fast that nothing is near its floor.
    facts["ceiling"] = {
        "name": "CPU",
        "bandwidth_bytes_per_s": 1e14,
        "flops_per_s": {"float32": 1e15},
        "source": "made up",
    }
    (where / "study.json").write_text(json.dumps(facts))
    build.build(where)
    return where


def test_the_report_has_every_part_in_both_forms(directory):
    for name, heading in (("report.md", "## {}\n"), ("report.html", ">{}</h2>")):
        text = (directory / "derived" / name).read_text()
        assert heading.format("Prefill and decode") in text
        assert heading.format("Batching and the spread of output lengths") in text
        assert "Time of a request (E2E), s: P50 / P95, 2 in flight" in text
    figures = {path.name for path in (directory / "derived" / "figures").iterdir()}
    names = ("phase-prefill", "phase-decode", "phase-itl", "roofline")
    assert {f"{name}.{kind}" for name in names for kind in ("png", "svg")} <= figures


def test_decode_is_fitted_exactly(directory):
    # 10 ms a token times the mean factor: geometric, √2.2·2 = 2.098 and √1.1 = 1.049.
    rows = phases_report.values(summarize(directory))["phase_table"].rows
    decode = {row[0]: row for row in rows if row[1].startswith("decode")}
    assert decode["quick/plain"][5] == "10.49 ± 0.00 ms per output token"
    assert decode["slow/plain"][5] == "20.98 ± 0.00 ms per output token"
    assert decode["quick/plain"][2] == "8 to 64 of the output after the first"
    assert decode["quick/plain"][6] == "1.00 ± 0.00"


def test_the_grid_has_a_text_for_every_cell_and_no_p95_of_few_requests(directory):
    e2e, ttft, itl = phases_report.heat_tables(summarize(directory))
    assert e2e.headings == ["engine/variant", "prompt", "2 out", "4 out", "8 out"]
    assert [row.name for row in e2e.rows[:3]] == [
        ["slow/plain", "8"], ["slow/plain", "16"], ["slow/plain", "32"],
    ]  # fmt: skip
    assert len(ttft.rows) == 6
    assert all(text.endswith(" / –") for row in e2e.rows for text, _ in row.cells)
    # Gaps: 6 requests of 2, 4 and 8 tokens have 6, 18 and 42; a p95 needs 20.
    assert [text.endswith(" / –") for text, _ in itl.rows[0].cells] == [True, True, False]
    shades = [shade for row in e2e.rows for _, shade in row.cells]
    assert min(shades) == 0 and max(shades) == pytest.approx(1)


def test_the_data_file_has_the_type_that_it_states(directory):
    text = (directory / "derived" / "phases_data.json").read_text()
    data = msgspec.json.decode(text, type=schema_phases.Phases)
    assert {phase.name for phase in data.phases} == {"prefill", "decode", "itl"}
    assert len(data.grid) == 18 and data.roofline and data.batching
    assert all(p.floor_s for phase in data.phases for c in phase.curves for p in c.points)


def test_a_study_without_lengths_has_none_of_it(tmp_path):
    where = made_record.write(tmp_path / "made", FACTORS)
    build.build(where)
    assert not (where / "derived" / "phases_data.json").exists()
    for name in ("report.md", "report.html"):
        text = (where / "derived" / name).read_text()
        assert not re.search(r"Prefill and decode|Batching and the spread", text)

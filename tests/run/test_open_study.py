"""Open loops in a whole study, against doubles, and what the report says of the client."""

import json

import pytest
from builders import rows_of
from project import enginebench, make_project, study, write_study

from enginebench.record import reading

TRACE = "time_s,prompt_tokens,output_tokens\n0,12,3\n0.1,200,4\n0.3,16,90\n"


@pytest.fixture(scope="module")
def done(cache, tmp_path_factory):
    """A study of two open workloads, one from a trace, with the client calibrated: its results."""
    project = make_project(tmp_path_factory.mktemp("project"), "alpha")
    (project / "trace.csv").write_text(TRACE)
    common = {"prompt_tokens": 24, "output_tokens": 6, "warmup_output_tokens": 2}
    workloads = [
        {"name": "steady", "rate": [20, 40], "duration_s": 0.5, "max_in_flight": 4},
        {
            "name": "traced",
            "rate": [20],
            "duration_s": 0.3,
            "arrivals": "trace",
            "trace": "trace.csv",
        },
    ]
    data = study({"engine": "alpha"}, workloads=[common | w for w in workloads], calibration_s=0.1)
    file = write_study(project, data)
    run = enginebench("study", file, "--root", project, "--cache", cache, cwd=project)
    assert run.returncode in (0, 1), run.stderr
    return reading.latest(project / "results")


def rows(done, cell):
    (file,) = done.glob(f"raw/*/{cell}/requests.jsonl")
    return [row for row in rows_of(file) if row["phase"] == "measured"]


def test_every_request_has_both_of_its_times(done):
    for cell, count in (("steady-r20", 10), ("steady-r40", 20), ("traced-r20", 6)):
        found = rows(done, cell)
        assert len(found) == count
        assert all(row["error"] is None and row["planned_s"] <= row["sent_s"] for row in found)
        planned = [row["planned_s"] for row in found]
        assert planned == sorted(planned)


def test_a_trace_gives_lengths_too_cut_to_those_of_the_workload(done):
    found = rows(done, "traced-r20")
    assert [row["prompt_tokens_asked"] for row in found] == [12, 24, 16] * 2
    assert [row["output_tokens_asked"] for row in found] == [3, 4, 6] * 2
    assert len({row["prompt_sha256"] for row in found}) == 6


def test_the_report_says_what_was_offered_and_how_far_off_the_client_is(done):
    report = (done / "derived" / "report.md").read_text()
    assert "requests/s offered (steady)" in report
    assert "| engine/variant | requests/s offered |" in report
    assert "TTFT from due p50 ms" in report
    assert "against a server whose token times are known" in report
    assert "alpha/default steady, 20 requests/s offered" in report
    html = (done / "derived" / "report.html").read_text()
    assert "How far the client itself can be off" in html


def test_the_record_has_the_clients_own_figures_and_its_calibration(done):
    facts = json.loads((done / "study.json").read_text())
    assert [found["streams"] for found in facts["calibration"]] == [4, 6]
    for file in done.glob("raw/*/*/cell.json"):
        own = json.loads(file.read_text())["client"]
        assert own["pieces"] > 0 and own["lag_s_max"] >= own["lag_s_p50"]
        assert own["stamps"] in ("kernel", "both", "client")
    data = json.loads((done / "derived" / "metrics_data.json").read_text())
    offered = {c["rate"]: c["figures"]["requests_offered_per_s"] for c in data["cells"]}
    assert offered[20] > 0

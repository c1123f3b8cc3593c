"""Open loops in a whole study, against doubles, and what the report says of the client."""

import json
import socket

import pytest
from builders import rows_of
from project import make_project, result, run_study, study

from enginebench.load import clock

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
    run = run_study(project, cache, data)
    assert run.returncode == 0, run.stdout + run.stderr
    return result(project)


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
    # Tokens at 20 ms, the slowest pace of a calibration: 4 and 6 streams make 200 and 300 a second.
    levels = [(found["streams"], found["tokens_per_s"]) for found in facts["calibration"]]
    assert levels == [(4, 200), (6, 300)]
    with socket.socket() as probe:
        stamps = "kernel" if clock.enable_stamps(probe) else "client"
    for cell, streams in (("steady-r20", 4), ("steady-r40", 4), ("traced-r20", 6)):
        (file,) = done.glob(f"raw/*/{cell}/cell.json")
        own = json.loads(file.read_text())["client"]
        assert (own["processes"], own["streams"], own["stamps"]) == (1, streams, stamps)
        assert 1 <= own["connections"] <= streams  # kept and used again
        # The double writes a head, each token and two ends; the network may join them.
        asked = [row["output_tokens_asked"] for row in rows(done, cell)]
        assert len(asked) <= own["pieces"] <= sum(asked) + 3 * len(asked)


def test_the_offered_rate_is_that_of_the_schedule_and_not_of_the_answers(done):
    data = json.loads((done / "derived" / "metrics_data.json").read_text())
    offered = {
        f"{c['workload']}-r{c['rate']:g}": c["figures"]["requests_offered_per_s"]
        for c in data["cells"]
    }
    # The trace, at 20 requests/s: 0, 1/30 and 1/10 s, and again from 0.15 s on: 5 gaps in 0.25 s.
    assert offered["traced-r20"] == pytest.approx(20)
    for cell, count in (("steady-r20", 10), ("steady-r40", 20)):
        planned = [row["planned_s"] for row in rows(done, cell)]
        assert offered[cell] == pytest.approx((count - 1) / (planned[-1] - planned[0]))

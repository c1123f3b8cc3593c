"""W&B, offline: what was written is read back with W&B's own messages. Nothing is sent anywhere."""

import dataclasses
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import wandb_stub
from builders import request, rows_of
from project import enginebench, make_project, study, write_study

from enginebench.base.errors import UserError
from enginebench.record import locating, reading
from enginebench.report import wandb_report, wandb_runs
from enginebench.summarize.study_summary import summarize

SECRET = "local-5e1f0a7c9b"
DEAD_END = "http://127.0.0.1:9"  # nobody listens


def environment(**changes):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    dead = {"HTTP_PROXY": DEAD_END, "HTTPS_PROXY": DEAD_END, "WANDB_BASE_URL": DEAD_END}
    return kept | dead | changes


pytestmark = pytest.mark.slow  # the package alone takes seconds to load


@pytest.fixture(scope="module")
def measured(cache, tmp_path_factory):
    """A study of two doubles, run where wandb is not installed: it is never needed."""
    project = make_project(tmp_path_factory.mktemp("wandb"), "alpha", "beta")
    data = study({"engine": "alpha"}, {"engine": "beta"}, workloads=study()["workloads"][1:])
    command = ("study", write_study(project, data), "--root", project, "--cache", cache)
    done = enginebench(*command, cwd=project, env=environment() | without_wandb(project))
    assert done.returncode == 0, done.stderr
    return project, locating.latest(project / "results")


def without_wandb(project):
    """As if the packages were not there."""
    for name in ("wandb", "wandb_workspaces"):
        (project / "absent" / name).mkdir(parents=True, exist_ok=True)
        (project / "absent" / name / "__init__.py").write_text("raise ImportError")
    return {"PYTHONPATH": str(project / "absent")}


def test_without_the_package_there_is_one_line_that_says_what_to_do(measured):
    project, directory = measured
    done = enginebench("wandb", cwd=project, env=environment() | without_wandb(project))
    assert done.returncode == 2
    assert "expected the package to be installed" in done.stderr and "make wandb" in done.stderr
    assert not (directory / "wandb").exists()


def test_when_it_is_disabled_nothing_is_written(measured):
    project, directory = measured
    for more in ({}, without_wandb(project)):
        done = enginebench("wandb", cwd=project, env=environment(WANDB_MODE="disabled") | more)
        assert (done.returncode, done.stderr) == (0, "")
        assert "nothing was written" in done.stdout
    assert not (directory / "wandb").exists()


@pytest.mark.parametrize(
    ("given", "how"),
    [
        ({}, "offline"),
        ({"WANDB_API_KEY": SECRET}, "online"),
        ({"WANDB_API_KEY": SECRET, "WANDB_MODE": "offline"}, "offline"),
        ({"WANDB_API_KEY": SECRET, "WANDB_MODE": "disabled"}, "disabled"),
        ({"WANDB_MODE": "online"}, "offline"),  # without a key there is nobody to be
    ],
)
def test_a_key_or_its_absence_decides_and_the_mode_goes_first(given, how):
    assert wandb_runs.mode(given) == how


@pytest.fixture(scope="module")
def logged(measured):
    pytest.importorskip("wandb")
    project, directory = measured
    env = environment(WANDB_API_KEY=SECRET, WANDB_MODE="offline")
    for _ in range(2):  # the second time replaces the first
        done = enginebench("wandb", cwd=project, env=env)
        assert done.returncode == 0, done.stderr
    return directory, done


def test_offline_it_says_where_the_runs_are_and_how_they_are_uploaded(logged):
    directory, done = logged
    assert "2 runs were written to" in done.stdout and "none was uploaded" in done.stdout
    assert f"make wandb DIR=results/{directory.name}" in done.stdout
    assert len(list((directory / "wandb").glob("offline-run-*"))) == 2


def test_the_key_is_nowhere(logged):
    directory, done = logged
    assert SECRET not in done.stdout + done.stderr
    for path in directory.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


def records(file):
    """The records of an offline file: a log of 32 KiB blocks, each record W&B's own message."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # no room for a head: the rest of the block is empty
            at += 32768 - at % 32768
            continue
        _, size, kind = struct.unpack_from("<IHB", data, at)
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or its last piece
            yield Record.FromString(whole)
            whole = b""


def items(updates):
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in updates}


@pytest.fixture(scope="module")
def read_back(logged):
    """Of alpha's run: its record, config, summary, rows of history, and artifacts."""
    directory, _ = logged
    name = wandb_runs.run_id(directory, "trial1_alpha_default")
    (file,) = directory.glob(f"wandb/offline-run-*-{name}/*.wandb")
    found = list(records(file))
    (run,) = [r.run for r in found if r.WhichOneof("record_type") == "run"]
    summary = {}
    for each in found:
        if each.WhichOneof("record_type") == "summary":
            summary |= items(each.summary.update)
    rows = [items(r.history.item) for r in found if r.WhichOneof("record_type") == "history"]
    artifacts = [r.artifact for r in found if r.WhichOneof("record_type") == "artifact"]
    return directory, run, summary, rows, artifacts


def derived(directory, name):
    return json.loads((directory / "derived" / name).read_text())


def test_a_run_has_its_group_and_what_it_was_made_with(read_back):
    directory, run, *_ = read_back
    config = items(run.config.update)
    assert (run.run_group, run.project) == (directory.name, "enginebench")
    assert run.display_name == "alpha/default trial 1"
    assert (config["engine"], config["variant"], config["trial"]) == ("alpha", "default", 1)
    facts = reading.read_document(directory / "raw" / "trial1_alpha_default" / "launch.json", Any)
    assert config["command"] == facts["command"] and config["dtype"] == "float32"
    study = reading.read_document(directory / "study.json", Any)
    assert config["machine"] == study["machine"]
    assert config["model"]["sha256"] == study["model"]["sha256"]


def test_the_summary_has_the_figures_of_the_report(read_back):
    directory, _, summary, *_ = read_back
    cells = [c for c in derived(directory, "metrics_data.json")["cells"] if c["engine"] == "alpha"]
    assert len(cells) == 2
    for cell in cells:
        prefix = f"many-c{cell['concurrency']}"
        assert summary[f"{prefix}/verdict"] == cell["verdict"]
        for name in ("output_tokens_per_s", "ttft_s_p50", "tpot_s_p50", "memory_peak_bytes"):
            assert summary[f"{prefix}/{name}"] == pytest.approx(cell["figures"][name])


def test_the_series_are_those_of_the_record_on_a_time_of_their_own(read_back):
    directory, _, _, rows, _ = read_back
    cell = next(
        c for c in derived(directory, "kv_cache_data.json")
        if (c["label"], c["concurrency"]) == ("alpha/default", 4)
    )  # fmt: skip
    held = [row["many-c4/kv_held_tokens"] for row in rows if "many-c4/kv_held_tokens" in row]
    assert held == cell["held_tokens"]
    times = [row["many-c4/time_s"] for row in rows if "many-c4/time_s" in row]
    assert times[0] == 0 and times == sorted(times)
    assert any("many-c4/memory_bytes" in row for row in rows)
    rate = [
        row["many-c4/output_tokens_per_s"] for row in rows if "many-c4/output_tokens_per_s" in row
    ]
    (figures,) = (
        c["figures"] for c in derived(directory, "metrics_data.json")["cells"]
        if (c["label"], c["concurrency"]) == ("alpha/default", 4)
    )  # fmt: skip
    assert sum(rate) == figures["output_tokens"]  # steps of a second


def test_tables_have_a_row_a_request_and_a_row_a_cell(read_back):
    directory, run, _, rows, _ = read_back
    paths = {
        name.removesuffix("/path"): value
        for row in rows
        for name, value in row.items()
        if name.endswith("/path")
    }
    (files,) = directory.glob(f"wandb/offline-run-*-{run.run_id}/files")
    tables = {name: json.loads((files / path).read_text()) for name, path in paths.items()}
    lines = rows_of(directory / "raw/trial1_alpha_default/many-c4/requests.jsonl")
    measured = [row for row in lines if row["phase"] == "measured"]
    table = tables["requests/many-c4"]
    assert table["columns"] == list(wandb_runs.REQUEST_COLUMNS)
    made = table["columns"].index("output_tokens")
    assert [row[made] for row in table["data"]] == [row["output_tokens"] for row in measured]
    assert sorted(row[2:4] for row in tables["cells"]["data"]) == [  # the plan shuffles them
        ["many", "2 in flight"],
        ["many", "4 in flight"],
    ]


def test_the_raw_record_is_an_artifact(read_back):
    directory, *_, artifacts = read_back
    (raw,) = (found for found in artifacts if found.type == "raw-record")
    inside = {entry.path: Path(entry.local_path) for entry in raw.manifest.contents}
    launch = directory / "raw" / "trial1_alpha_default"
    files = [directory / "study.json", *(path for path in launch.rglob("*") if path.is_file())]
    assert inside == {str(path.relative_to(directory)): path.resolve() for path in files}


KEY = "0" * 40  # of the form that W&B wants


def test_what_was_written_offline_is_uploaded_whole_by_wandbs_own_reader(logged):
    directory, _ = logged
    name = wandb_runs.run_id(directory, "trial1_alpha_default")
    (written,) = directory.glob(f"wandb/offline-run-*-{name}")
    with wandb_stub.serving() as server:
        env = environment(WANDB_BASE_URL=server.url, WANDB_API_KEY=KEY)
        command = [sys.executable, "-m", "wandb", "sync", str(written)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, cwd=directory)
    assert done.returncode == 0, done.stderr
    assert_whole(server, directory, name)
    streamed = [row for sent in server.streamed for row in history(sent)]
    assert any("many-c4/kv_held_tokens" in row for row in streamed)


def history(sent):
    lines = sent.get("files", {}).get("wandb-history.jsonl", {}).get("content", ())
    return [json.loads(line) for line in lines]


def assert_whole(server, directory, name):
    """Group, config, summary, tables and the raw record's very bytes have come."""
    given = next(v for v in server.variables("UpsertBucket") if v["name"] == name)
    assert given["groupName"] == directory.name
    assert json.loads(given["config"])["engine"]["value"] == "alpha"
    assert json.loads(server.sent["run/wandb-summary.json"])["many-c4/verdict"]
    launch = directory / "raw" / "trial1_alpha_default"
    files = [directory / "study.json", *(path for path in launch.rglob("*") if path.is_file())]
    for path in files:
        sent = server.sent[f"record-{name}/{path.relative_to(directory)}"]
        assert sent == path.read_bytes(), path


def test_with_a_key_runs_are_uploaded_and_the_report_is_made(logged):
    directory, _ = logged
    project = directory.parent.parent
    with wandb_stub.serving() as server:
        env = environment(WANDB_BASE_URL=server.url, WANDB_API_KEY=KEY)
        done = enginebench("wandb", cwd=project, env=env)
    assert done.returncode == 0, done.stderr
    assert "2 runs were uploaded; report: http" in done.stdout
    assert KEY not in done.stdout + done.stderr
    assert_whole(server, directory, wandb_runs.run_id(directory, "trial1_alpha_default"))
    (view,) = server.variables("upsertView")
    assert (view["entityName"], view["projectName"]) == ("somebody", "enginebench")
    assert "many-c4/output_tokens_per_s" in view["spec"]


def test_requests_without_a_time_or_a_count_have_none_in_the_table():
    from enginebench.metrics.request_table import gather

    row = request(planned_s=1.0, error="x")
    whole = {"planned_s": 2.0, "sent_s": 2.5, "event_s": [3.0, 4.5], "event_tokens": [1, 2]} | {
        "event_chars": [1, 1], "prompt_tokens": 7, "output_tokens": 3, "error": None,
    }  # fmt: skip
    found = gather([row, request(**whole)])
    assert wandb_runs.request_rows(found) == [
        [0, -1.5, None, None, None, None, None, None, True],
        [1, -0.5, 0.0, 0.5, 0.75, 2.0, 7, 3, False],
    ]
    assert wandb_runs.tokens_per_s(found) == [(3.5, 1.0), (4.5, 0.0), (5.5, 2.0)]
    early = gather([request(**whole | {"event_s": [1.0, 1.5]})])  # a clock was set
    assert wandb_runs.tokens_per_s(early) == [(3.5, 0.0)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of wandb-workspaces' own making
def test_the_report_has_a_run_set_an_engine_and_panels_of_every_quantity(measured):
    pytest.importorskip("wandb_workspaces")
    _, directory = measured
    made = wandb_report.build(summarize(directory), directory, "somebody", "enginebench")
    spec = json.loads(made._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))
    (grid,) = (block for block in spec["blocks"] if block["type"] == "panel-grid")
    # The plan shuffles the engines.
    run_sets = sorted(grid["metadata"]["runSets"], key=lambda found: found["name"])
    assert [found["name"] for found in run_sets] == ["alpha", "beta"]
    assert "alpha" in json.dumps(run_sets[0]["filters"])
    assert directory.name in json.dumps(run_sets[0]["filters"])
    panels = json.dumps(grid["metadata"]["panelBankSectionConfig"]["panels"])
    for name in ("output_tokens_per_s", "ttft_s_p50", "usd_per_million_output_tokens",
                 "memory_peak_bytes", "memory_bytes", "kv_used_tokens"):  # fmt: skip
        assert f"many-c4/{name}" in panels
    assert '"cells"' in json.dumps(spec["blocks"])  # the table


def test_the_library_is_asked_for_by_name_where_it_is_absent(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="make wandb"):
        wandb_runs.library()


class Refusing:
    """Stands for the package: what begins a run fails."""

    class Error(Exception):
        pass

    def __init__(self, error):
        self.error = error

    def Settings(self, **_):
        return None

    def init(self, **given):
        self.given = given
        raise self.error

    def teardown(self):
        pass


@pytest.mark.parametrize(
    "error", [ValueError("a\nb"), Refusing.Error(""), OSError("disk"), TypeError()]
)
def test_whatever_fails_in_the_package_is_one_line(measured, monkeypatch, error):
    _, directory = measured
    monkeypatch.setattr(wandb_runs, "library", lambda: Refusing(error))
    with pytest.raises(UserError, match="W&B: could not log") as caught:
        wandb_runs.log(summarize(directory), directory, "offline", print)
    assert "\n" not in caught.value.message


def test_tags_and_names_are_no_longer_than_wandb_takes(measured, monkeypatch):
    _, directory = measured
    refusing = Refusing(ValueError("seen"))
    monkeypatch.setattr(wandb_runs, "library", lambda: refusing)
    summary = summarize(directory)
    named = msgspec.structs.replace(summary.study.study, name="a" * 70)
    study = msgspec.structs.replace(summary.study, study=named)
    summary = dataclasses.replace(summary, study=study)
    with pytest.raises(UserError):
        wandb_runs.log(summary, directory, "offline", print)
    assert all(1 <= len(tag) <= 64 for tag in refusing.given["tags"])
    assert refusing.given["tags"][1] == "a" * 64
    assert len(refusing.given["group"]) <= 128 and len(refusing.given["name"]) <= 128

"""Going on with a study that was cut off, and ending one when its time is up."""

import json

import pytest
from project import enginebench, make_project, study, write_study

from enginebench.base.errors import UserError
from enginebench.record import files
from enginebench.run import resume

ENGINES = ({"engine": "alpha"}, {"engine": "beta"})


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path, "alpha", "beta")


def run(project, cache, *options, **changes):
    changes = {"workloads": study()["workloads"][:1], "trials": 2} | changes
    file = write_study(project, study(*ENGINES, **changes))
    where = ("--root", project, "--cache", cache)
    return enginebench("study", file, *options, *where, cwd=project)


def directory(project):
    (found,) = (project / "results").glob("*-test")
    return found


def started(project):
    """The launches that were started, in order."""
    rows = files.read_lines(directory(project) / "events.jsonl")
    return [row["launch"] for row in rows if row["step"] == "up"]


def verdicts(project):
    data = json.loads((directory(project) / "derived" / "metrics_data.json").read_text())
    return [cell["verdict"] for cell in data["cells"]]


def test_what_is_missing_or_has_failed_is_run_again_and_nothing_else(project, cache):
    assert run(project, cache).returncode == 0
    first = started(project)  # then a cell is lost ...
    (directory(project) / "raw" / first[1] / "alone-c1" / "cell.json").unlink()
    file = directory(project) / "raw" / first[2] / "launch.json"  # ... and one start had failed
    failed = json.loads(file.read_text()) | {"failure": {"message": "gone", "log_tail": []}}
    file.write_text(json.dumps(failed))
    done = run(project, cache, "--resume")
    assert done.returncode == 0, done.stderr
    assert "2 engine starts are there" in done.stdout
    assert started(project) == [*first, first[1], first[2]]
    assert verdicts(project) == ["valid"] * 4
    report = (directory(project) / "derived" / "report.md").read_text()
    assert "cut off and resumed (1)" in report
    done = run(project, cache, "--resume")
    assert "every engine start is there already" in done.stdout
    assert len(started(project)) == 6


def test_a_study_whose_time_is_up_ends_between_two_engines_and_can_be_gone_on_with(project, cache):
    done = run(project, cache, "--limit", "0")
    assert done.returncode == 3, done.stderr
    assert "time is up: 3 of 4 engine starts are left" in done.stdout
    assert "go on: the same command with --resume" in done.stdout
    assert len(started(project)) == 1
    assert not (directory(project) / "finished.json").exists()
    done = run(project, cache, "--resume")
    assert done.returncode == 0, done.stderr
    assert len(started(project)) == len(set(started(project))) == 4
    assert verdicts(project) == ["valid"] * 4


FACTS = {
    "schema": files.SCHEMA,
    "started_at": "2026-11-21T10:00:00",
    "study": {"name": "test", "seed": 0},
    "runner": "process",
    "device": "cpu",
    "prompts": {"sha256": "a"},
    "model": {"sha256": "b"},
    "git": {"commit": "c", "dirty": False},
    "machine": {"cpu": "some", "cpus": 2, "gpus": [{"name": "one"}]},
}


def written(results, name, **changes):
    """A record of nothing but its facts."""
    path = results / name
    path.mkdir(parents=True)
    (path / "study.json").write_text(json.dumps(FACTS | changes))
    return path


def test_the_last_record_of_that_name_is_gone_on_with(tmp_path):
    assert files.last(tmp_path, "test") is None
    written(tmp_path, "first")
    last = written(tmp_path, "a-last", started_at="2026-11-21T11:00:00")
    written(tmp_path, "other", started_at="2026-11-21T12:00:00", study={"name": "other"})
    assert files.last(tmp_path, "test") == last


def test_a_record_that_somebody_writes_is_left_alone(tmp_path):
    first = files.Writer.create(tmp_path, "test")
    with pytest.raises(UserError, match="another study is still at it; wait for its end"):
        files.Writer(first.directory)


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("study", {"study": {"name": "test", "seed": 1}}),
        ("prompts", {"prompts": {"sha256": "z"}}),
        ("model", {"model": {"sha256": "z"}}),
        ("commit", {"git": {"commit": "z", "dirty": False}}),
        ("commit", {"git": {"commit": "c", "dirty": True}}),
        ("runner", {"runner": "container"}),
        ("processors", {"machine": FACTS["machine"] | {"cpus": 4}}),
        ("GPUs", {"machine": FACTS["machine"] | {"gpus": [{"name": "another"}]}}),
    ],
)
def test_a_record_of_something_else_is_not_gone_on_with(tmp_path, what, change):
    directory = written(tmp_path, "one")
    resume.require_same(directory, FACTS | {"started_at": "later"})
    with pytest.raises(UserError, match=f"expected to go on with the same {what}, found") as error:
        resume.require_same(directory, FACTS | change)
    assert "start anew without --resume" in error.value.message

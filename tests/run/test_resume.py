"""Resuming a study that was interrupted, and ending one when its time is up."""

import json

import pytest
from house import enginebench, make_house, study, write_study

from enginebench.base.errors import UserError
from enginebench.record import files
from enginebench.run import resume

ENGINES = ({"engine": "alpha"}, {"engine": "beta"})


@pytest.fixture
def house(tmp_path):
    return make_house(tmp_path, "alpha", "beta")


def run(house, cache, *options, **changes):
    changes = {"workloads": study()["workloads"][:1], "trials": 2} | changes
    file = write_study(house, study(*ENGINES, **changes))
    where = ("--root", house, "--cache", cache)
    return enginebench("study", file, *options, *where, cwd=house)


def directory(house):
    (found,) = (house / "results").glob("*-test")
    return found


def started(house):
    """The launches that were started, in order."""
    rows = files.read_lines(directory(house) / "events.jsonl")
    return [row["launch"] for row in rows if row["step"] == "up"]


def verdicts(house):
    data = json.loads((directory(house) / "derived" / "metrics_data.json").read_text())
    return [cell["verdict"] for cell in data["cells"]]


def test_what_is_missing_or_has_failed_is_run_again_and_nothing_else(house, cache):
    assert run(house, cache).returncode == 0
    first = started(house)  # then a cell is lost ...
    (directory(house) / "raw" / first[1] / "alone-c1" / "cell.json").unlink()
    file = directory(house) / "raw" / first[2] / "launch.json"  # ... and one start had failed
    failed = json.loads(file.read_text()) | {"failure": {"message": "gone", "log_tail": []}}
    file.write_text(json.dumps(failed))
    done = run(house, cache, "--resume")
    assert done.returncode == 0, done.stderr
    assert "2 of 4 engine starts complete" in done.stdout
    assert started(house) == [*first, first[1], first[2]]
    assert verdicts(house) == ["valid"] * 4
    report = (directory(house) / "derived" / "report.md").read_text()
    assert "cut off and gone on with (1)" in report
    done = run(house, cache, "--resume")
    assert "every engine start is complete" in done.stdout
    assert len(started(house)) == 6


def test_a_study_whose_time_is_up_ends_between_two_engines_and_can_be_resumed(house, cache):
    done = run(house, cache, "--limit", "0")
    assert done.returncode == 3, done.stderr
    assert "time is up: 3 of 4 engine starts remain" in done.stdout
    assert "continue with: the same command with --resume" in done.stdout
    assert len(started(house)) == 1
    assert not (directory(house) / "finished.json").exists()
    done = run(house, cache, "--resume")
    assert done.returncode == 0, done.stderr
    assert len(started(house)) == len(set(started(house))) == 4
    assert verdicts(house) == ["valid"] * 4


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


def test_the_last_record_of_that_name_is_resumed(tmp_path):
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
def test_a_record_of_something_else_is_not_resumed(tmp_path, what, change):
    directory = written(tmp_path, "one")
    resume.require_same(directory, FACTS | {"started_at": "later"})
    with pytest.raises(UserError, match=f"expected the same {what} as in the record") as error:
        resume.require_same(directory, FACTS | change)
    assert "start anew without --resume" in error.value.message

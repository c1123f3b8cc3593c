"""Resuming a study that was interrupted, and ending one when its time is up."""

import json
from types import SimpleNamespace

import pytest
from builders import rows_of
from project import make_project, metrics, run_study, study

from enginebench.base.errors import UserError
from enginebench.record import locating, schema
from enginebench.record.files import Writer
from enginebench.run import resume

ENGINES = ({"engine": "alpha"}, {"engine": "beta"})


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path, "alpha", "beta")


def run(project, cache, *options, **changes):
    changes = {"workloads": study()["workloads"][:1], "trials": 2} | changes
    return run_study(project, cache, study(*ENGINES, **changes), *options)


def directory(project):
    (found,) = (project / "results").glob("*-test")
    return found


def started(project):
    """The launches that were started, in order."""
    rows = rows_of(directory(project) / "events.jsonl")
    return [row["launch"] for row in rows if row["step"] == "up"]


def verdicts(project):
    return [cell["verdict"] for cell in metrics(project)["cells"]]


def test_what_is_missing_or_has_failed_is_run_again_and_nothing_else(project, cache):
    assert run(project, cache).returncode == 0
    first = started(project)  # then a cell is lost ...
    (directory(project) / "raw" / first[1] / "alone-c1" / "cell.json").unlink()
    file = directory(project) / "raw" / first[2] / "launch.json"  # ... and one start had failed
    failed = json.loads(file.read_text()) | {"failure": {"message": "gone", "log_tail": []}}
    file.write_text(json.dumps(failed))
    done = run(project, cache, "--resume")
    assert done.returncode == 0, done.stderr
    assert "2 of 4 engine starts complete" in done.stdout
    assert started(project) == [*first, first[1], first[2]]
    assert verdicts(project) == ["valid"] * 4
    report = (directory(project) / "derived" / "report.md").read_text()
    assert "cut off and resumed (1)" in report
    done = run(project, cache, "--resume")
    assert "every engine start is complete" in done.stdout
    assert len(started(project)) == 6


def test_a_study_whose_time_is_up_ends_between_two_engines_and_can_be_resumed(project, cache):
    done = run(project, cache, "--limit", "0")
    assert done.returncode == 3, done.stderr
    assert "time is up: 3 of 4 engine starts remain" in done.stdout
    assert "continue with: the same command with --resume" in done.stdout
    assert len(started(project)) == 1
    assert not (directory(project) / "finished.json").exists()
    done = run(project, cache, "--resume")
    assert done.returncode == 0, done.stderr
    assert len(started(project)) == len(set(started(project))) == 4
    assert verdicts(project) == ["valid"] * 4


FACTS = {
    "schema": schema.SCHEMA,
    "started_at": "2026-11-21T10:00:00",
    "clock": {"t_s": 0.0, "wall_s": 0.0},
    "study": {"name": "test", "seed": 0, "engines": [], "workloads": []},
    "runner": "process",
    "device": "cpu",
    "prompts": {"path": "prompts.txt", "sha256": "a", "count": 1},
    "model": {"sha256": "b", "name": "m", "hashed": "", "has_random_weights": True, "config": {}},
    "git": {"commit": "c", "dirty": False},
    "machine": {
        "system": "Linux",
        "python": "3.11",
        "cpu": "some",
        "cpus": 2,
        "memory_bytes": 1,
        "gpus": [{"name": "one"}],
    },
    "plan": [],
}


def written(results, name, **changes):
    """A record of nothing but its facts."""
    path = results / name
    path.mkdir(parents=True)
    (path / "study.json").write_text(json.dumps(FACTS | changes))
    return path


def test_the_last_record_of_that_name_is_resumed(tmp_path):
    assert locating.last(tmp_path, "test") is None
    written(tmp_path, "first")
    last = written(tmp_path, "a-last", started_at="2026-11-21T11:00:00")
    written(tmp_path, "other", started_at="2026-11-21T12:00:00", study={"name": "other"})
    assert locating.last(tmp_path, "test") == last


def test_a_record_that_somebody_writes_is_left_alone(tmp_path):
    first = Writer.create(tmp_path, "test")
    with pytest.raises(UserError, match="another study is still at it; wait for its end"):
        Writer(first.directory)


@pytest.mark.parametrize(
    ("what", "change"),
    [
        (r"study \(seed\)", {"study": FACTS["study"] | {"seed": 1}}),
        ("prompts", {"prompts": FACTS["prompts"] | {"sha256": "z"}}),
        ("model", {"model": FACTS["model"] | {"sha256": "z"}}),
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


@pytest.mark.parametrize(
    ("launch", "stands"),
    [
        ({"failure": None}, True),
        ({}, False),  # the harness was cut off
        ({"failure": {"message": "no", "log_tail": []}}, False),
        ({"failure": None, "trial": "one"}, False),  # damaged since
        ([], False),
    ],
)
def test_a_launch_stands_if_it_came_to_its_end_and_can_be_read(tmp_path, launch, stands):
    directory = tmp_path / "raw" / "trial1_a_b"
    directory.mkdir(parents=True)
    facts = {"engine": "a", "variant": "b", "trial": 1, "settings": {}, "command": [], "env": {}}
    written = facts | launch if isinstance(launch, dict) else launch
    (directory / "launch.json").write_text(json.dumps(written))
    item = SimpleNamespace(id="trial1_a_b", cells=())
    found = resume.keep_complete(tmp_path, SimpleNamespace(launches=[item]))
    assert (found.complete, directory.exists()) == ({"trial1_a_b"} if stands else set(), stands)


@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_launch_with_a_damaged_file_is_run_again(tmp_path, is_damaged):
    writer = Writer.create(tmp_path, "one")
    facts = {"engine": "a", "variant": "b", "trial": 1, "settings": {}, "command": [], "env": {}}
    writer.write_lines("raw/trial1_a_b/w-c1/requests.jsonl", [{"index": 0}])
    writer.write_launch("trial1_a_b", schema.Launch(**facts, failure=None))
    if is_damaged:
        (writer.directory / "raw/trial1_a_b/w-c1/requests.jsonl").write_text("")
    item = SimpleNamespace(id="trial1_a_b", cells=())
    found = resume.keep_complete(writer.directory, SimpleNamespace(launches=[item]))
    assert found.complete == (set() if is_damaged else {"trial1_a_b"})


def test_what_a_person_put_beside_the_launches_stays(tmp_path):
    raw = tmp_path / "raw"
    (raw / "notes").mkdir(parents=True)
    (raw / "trial1_a_b").mkdir()  # begun, and cut off
    (raw / "a-file").write_text("mine")
    (raw / "a-link").symlink_to(tmp_path)
    items = [SimpleNamespace(id=name, cells=()) for name in ("trial1_a_b", "trial2_a_b")]
    found = resume.keep_complete(tmp_path, SimpleNamespace(launches=items))
    assert found.attempted == {"trial1_a_b"}
    assert sorted(path.name for path in raw.iterdir()) == ["a-file", "a-link", "notes"]

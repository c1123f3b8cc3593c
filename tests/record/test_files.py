import contextlib
import errno
import gzip
import json
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
from builders import rows_of

from enginebench.base.errors import UserError
from enginebench.record import locating, reading, schema
from enginebench.record.files import Writer

ROWS = [{"index": 0, "text": "é\n\u2028"}, {"index": 1, "text": None}]


@pytest.fixture
def writer(tmp_path):
    return Writer.create(tmp_path / "results", "small")


def everything_below(directory):
    return {path.name: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_a_study_of_the_same_day_gets_a_number(tmp_path):
    first, second, third = (Writer.create(tmp_path / "r", "small") for _ in range(3))
    assert first.directory.name.endswith("-small")
    assert second.directory.name == f"{first.directory.name}-2"
    assert third.directory.name == f"{first.directory.name}-3"


@pytest.mark.parametrize("results", ["file", "file/below"])
def test_a_file_where_results_should_be_is_refused(tmp_path, results):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="--results"):
        Writer.create(tmp_path / results, "small")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_results_directory_without_write_access_is_refused(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match=r"cannot write results there \(Permission denied\)"):
        Writer.create(tmp_path / "r", "small")


def test_a_link_to_nowhere_is_refused(tmp_path, monkeypatch):
    (tmp_path / "r").symlink_to(tmp_path / "gone")
    make, tries = Path.mkdir, []

    def count(*arguments, **options):
        tries.append(arguments)
        assert len(tries) < 50
        make(*arguments, **options)

    monkeypatch.setattr(Path, "mkdir", count)
    with pytest.raises(UserError):
        Writer.create(tmp_path / "r", "small")


@pytest.mark.parametrize("name", ["raw/a/b/rows.jsonl", "rows.jsonl.gz"])
def test_lines_come_back_as_they_were_written(writer, name):
    writer.write_lines(name, iter(ROWS), compress=name.endswith(".gz"))
    assert rows_of(writer.directory / name) == ROWS


def test_compressed_lines_are_compressed_and_always_the_same_bytes(writer):
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        writer.write_lines(name, ROWS, compress=True)
    one, other = everything_below(writer.directory).values()
    assert one == other
    assert one[4:8] == bytes(4)  # no time inside
    assert len(gzip.decompress(one).splitlines()) == 2


def test_json_comes_back_as_it_was_written(writer):
    writer.write_json("study.json", {"a": [1, None, "é"]})
    assert reading.read_document(writer.directory / "study.json", Any) == {"a": [1, None, "é"]}


def test_events_are_added_in_order_with_their_time(writer):
    writer.event("launch", engine="fast")
    writer.event("ready")
    first, second = rows_of(writer.directory / "events.jsonl")
    assert (first["step"], first["engine"], second["step"]) == ("launch", "fast", "ready")
    assert first["t_s"] <= second["t_s"]


def test_a_full_disk_keeps_what_was_recorded_before(writer):
    writer.write_lines("cell/requests.jsonl.gz", ROWS, compress=True)
    writer.write_json("study.json", {"first": True})
    before = everything_below(writer.directory)
    with files_of_at_most(100_000):
        for name in ("study.json", "new.json", "cell/requests.jsonl.gz"):
            with pytest.raises(UserError, match=rf"{name}: cannot write \(File too large\)"):
                writer.write_json(name, {"second": "x" * 200_000})
        with pytest.raises(UserError, match="cannot write"):
            writer.write_lines("many.jsonl", ({"text": "y" * 1000} for _ in range(2000)))
    assert everything_below(writer.directory) == before


@contextlib.contextmanager
def files_of_at_most(size):
    """As on a disk that is full: the kernel refuses a write in the middle of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_directory_that_cannot_be_made_is_one_line(writer):
    (writer.directory / "raw").write_text("in the way")
    with pytest.raises(UserError, match="cannot write"):
        writer.launch_directory("trial1-fast-default")


@pytest.mark.parametrize("study", [{"schema": schema.SCHEMA + 1}, {"name": "small"}])
def test_a_study_of_another_schema_is_refused(writer, study):
    writer.write_json("study.json", study)
    with pytest.raises(UserError, match=rf"expected schema {schema.SCHEMA}, found"):
        reading.read_study(writer.directory)


def test_the_latest_study_is_the_one_started_last(tmp_path):
    times = {"b": "2026-11-20T10:00:00", "c": "2026-11-21T09:00:00", "a": "2026-11-20T23:00:00"}
    for name, started_at in times.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "study.json").write_text(json.dumps({"started_at": started_at}))
    (tmp_path / "z-without-a-study").mkdir()
    assert locating.latest(tmp_path) == tmp_path / "c"


@pytest.mark.parametrize("name", ["empty", "gone"])
def test_there_may_be_no_study_yet(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="expected a study's record, found none"):
        locating.latest(tmp_path / name)


def write_everywhere(tmp_path, text):
    writer = Writer.create(tmp_path, "small")  # it knows the secrets of this time
    writer.write_json("a.json", {"command": ["--key", text]})
    writer.write_lines("a.jsonl", [{"error": f"before{text}after"}])
    writer.write_lines("a.jsonl.gz", [{"text": text}], compress=True)
    writer.event("launch", command=text)
    files = everything_below(writer.directory)
    files["a.jsonl.gz"] = gzip.decompress(files["a.jsonl.gz"])
    assert len(files) == 4
    return files


@pytest.mark.parametrize("name", ["HF_TOKEN", "WANDB_API_KEY", "My_Secret", "db_password"])
def test_a_secret_of_the_environment_is_never_written(tmp_path, monkeypatch, name):
    monkeypatch.setenv(name, "hf_veryprivate")
    for file, content in write_everywhere(tmp_path, "hf_veryprivate").items():
        assert b"veryprivate" not in content, file
        assert b"***" in content, file


@pytest.mark.parametrize("secret", ['pass"word"1', "back\\slash1", "schlüssel1"])
def test_a_secret_that_json_escapes_is_never_written(tmp_path, monkeypatch, secret):
    monkeypatch.setenv("DB_PASSWORD", secret)
    for file, content in write_everywhere(tmp_path, secret).items():
        assert json.dumps(secret)[1:-1].encode() not in content, file


def test_a_number_named_like_a_secret_leaves_json_readable(tmp_path, monkeypatch):
    monkeypatch.setenv("MAX_NUM_BATCHED_TOKENS", "131072")
    monkeypatch.setenv("SOME_KEY", "131072")
    writer = Writer.create(tmp_path, "small")
    writer.write_json("a.json", {"memory_bytes": 131072})
    assert reading.read_document(writer.directory / "a.json", Any) == {"memory_bytes": 131072}


def test_a_record_that_was_removed_while_it_is_written_is_one_line_that_says_so(writer):
    shutil.rmtree(writer.directory)
    for write in (
        lambda: writer.write_json("study.json", {}),
        lambda: writer.write_lines("raw/a/requests.jsonl", []),
        lambda: writer.write_launch("a", schema.Launch(**FACTS)),
        lambda: writer.event("down"),
        lambda: writer.launch_directory("b"),
    ):
        with pytest.raises(UserError, match="found that it was removed; run the study again"):
            write()
    assert not writer.directory.exists()


FACTS = {"engine": "a", "variant": "b", "trial": 1, "settings": {}, "command": [], "env": {}}

"""What may have become of a file since it was written: always one line, never anything else."""

import gzip
import json
import os

import pytest
from builders import request, rows_of

from enginebench.record import locating, reading
from enginebench.record.encoding import Encoder
from enginebench.record.reading import RecordError
from enginebench.record.schema import Cell, Request
from enginebench.record.schema_samples import Scrape

LINE = Encoder(()).line(request(text="some"), "here")


def damage(path, kind=Request):
    """The one line that a damaged file is."""
    with pytest.raises(RecordError) as error:
        list(reading.read_rows(path, kind))
    assert "\n" not in error.value.message and str(path) in error.value.message
    assert len(error.value.message) < 600
    return error.value


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (LINE[:-30], "cut off after"),
        (b"\xff\xfe\x00\x01\n", "malformed"),
        (LINE.replace(b"some", b"so\xffe"), "UTF-8"),
        (b"[1, 2]\n", "Expected `object`, got `array`"),
        (b"null\n", "Expected `object`, got `null`"),
        (b"\n", "an empty line"),
        (LINE.replace(b'"event_s":[],', b""), "missing required field `event_s`"),
        (LINE.replace(b'"event_s":[]', b'"event_s":[NaN]'), "malformed"),
        (LINE.replace(b'"event_s":[]', b'"event_s":[1e999]'), "out of range"),
        (LINE.replace(b'"event_s":[]', b'"event_s":["1"]'), r"Expected `float`, got `str`"),
        (LINE.replace(b'"measured"', b'"half"'), "Invalid enum value 'half'"),
        (b'{"x":' * 100_000 + b"\n", "too many levels of nesting"),
        (b'{"text": "\\ud800", "event_s": [NaN]}\n', "something else"),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_a_damaged_line_is_named_and_those_before_it_are_read(tmp_path, second, reason):
    file = tmp_path / "requests.jsonl"
    file.write_bytes(LINE + second)
    rows = reading.read_rows(file, Request)
    assert next(rows) == request(text="some")
    error = damage(file)
    assert error.line == 2
    assert reason in error.reason


def test_a_whole_row_without_its_newline_counts(tmp_path):
    file = tmp_path / "requests.jsonl"
    file.write_bytes(LINE + LINE[:-1])
    assert len(rows_of(file)) == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "0 bytes"),
        (b"no gzip at all\n", "Not a gzipped file"),
        (gzip.compress(LINE * 1000, mtime=0)[:-20], "cut off after line"),
        (gzip.compress(LINE, mtime=0)[:12] + b"\xff" * 40, "something else"),
    ],
)
def test_a_damaged_gzip_file_is_one_line(tmp_path, content, reason):
    file = tmp_path / "agreement.jsonl.gz"
    file.write_bytes(content)
    assert reason in damage(file).reason


def test_a_gzip_bomb_ends_at_the_longest_line(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "LONGEST_LINE_BYTES", 1 << 20)
    file = tmp_path / "scrapes.jsonl.gz"
    file.write_bytes(
        gzip.compress(b'{"t_s": 0, "status": 200, "text": "' + b"x" * (8 << 20), mtime=0)
    )
    assert damage(file, Scrape).line == 1


def test_a_gzip_file_of_endless_lines_ends_too(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MOST_UNPACKED_BYTES", 10_000)
    file = tmp_path / "agreement.jsonl.gz"
    file.write_bytes(gzip.compress(LINE * 1000, mtime=0))
    assert "more" in damage(file).reason


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")  # to open it for reading would wait for a writer
    (tmp_path / "zero.jsonl").symlink_to("/dev/zero")
    (tmp_path / "directory.jsonl").mkdir()
    (tmp_path / "to_nowhere.jsonl").symlink_to(tmp_path / "gone")
    found = {
        name: damage(tmp_path / f"{name}.jsonl").reason
        for name in ("pipe", "zero", "directory", "to_nowhere", "absent")
    }
    assert found == {
        "pipe": "no regular file",
        "zero": "a symbolic link",
        "directory": "no regular file",
        "to_nowhere": "a symbolic link",
        "absent": "none",
    }


def test_a_directory_that_links_out_of_the_record_is_refused(tmp_path):
    outside = tmp_path / "outside" / "cell"
    outside.mkdir(parents=True)
    (outside / "requests.jsonl").write_bytes(LINE)
    record = tmp_path / "record"
    (record / "raw").mkdir(parents=True)
    (record / "study.json").write_text("{}")
    (record / "raw" / "launch").symlink_to(tmp_path / "outside")
    assert "symbolic link" in damage(record / "raw" / "launch" / "cell" / "requests.jsonl").reason


def test_a_record_may_itself_be_reached_by_a_link(tmp_path):
    (tmp_path / "record" / "raw").mkdir(parents=True)
    (tmp_path / "record" / "study.json").write_text("{}")
    (tmp_path / "record" / "raw" / "requests.jsonl").write_bytes(LINE)
    (tmp_path / "latest").symlink_to(tmp_path / "record")
    assert len(rows_of(tmp_path / "latest" / "raw" / "requests.jsonl")) == 1


@pytest.mark.parametrize(
    "content",
    [b"", b"{half", b"\xff\xfe", b"[]", b"null", b'{"started": 1}', b"[" * 100_000],
    ids=lambda value: repr(value[:10]),
)
def test_a_damaged_document_is_one_line(tmp_path, content):
    file = tmp_path / "cell.json"
    file.write_bytes(content)
    with pytest.raises(RecordError, match=r"cell\.json: expected a JSON file of type Cell, found"):
        reading.read_document(file, Cell)


def test_a_document_that_is_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "cell.json")
    with pytest.raises(RecordError, match="no regular file"):
        reading.read_document(tmp_path / "cell.json", Cell)


def test_a_document_has_its_longest_size(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "LARGEST_DOCUMENT_BYTES", 1000)
    (tmp_path / "cell.json").write_text(json.dumps("x" * 1000))
    with pytest.raises(RecordError, match="expected at most 0 MiB"):
        reading.read_document(tmp_path / "cell.json", Cell)


def test_half_a_character_becomes_the_replacement_character(tmp_path):
    file = tmp_path / "requests.jsonl"
    file.write_bytes(LINE.replace(b"some", b"a\\ud83d b\\ud83d\\ude00"))
    (row,) = reading.read_rows(file, Request)
    assert row.text == "a\ufffd b\U0001f600"


def test_an_unreadable_study_is_skipped_with_a_warning_and_the_others_are_found(tmp_path):
    for name, content in {
        "bad-empty": b"",
        "bad-bytes": b"\xff",
        "good": b'{"started_at": "2026-11-20T10:00:00", "study": {"name": "test"}}',
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "study.json").write_bytes(content)
    (tmp_path / "bad-directory" / "study.json").mkdir(parents=True)
    warnings = []
    assert locating.latest(tmp_path, warnings.append) == tmp_path / "good"
    assert locating.last(tmp_path, "test") == tmp_path / "good"
    assert len(warnings) == 3 and all("study.json" in line for line in warnings)


def test_a_study_without_its_plan_is_one_line(tmp_path):
    (tmp_path / "study.json").write_text('{"schema": 2, "study": {}}')
    with pytest.raises(RecordError, match=r"study\.json: .* missing required field"):
        reading.read_study(tmp_path)


def test_a_line_of_events_that_was_cut_off_is_left_out(tmp_path):
    file = tmp_path / "events.jsonl"
    file.write_bytes(LINE[:50] + b"\n" + LINE + LINE[:50])
    assert list(reading.whole_rows(file, Request)) == [request(text="some")]

"""Every raw file has its sha256, made as it was written."""

import hashlib
import json
import math

import msgspec
import pytest

from enginebench.record import manifest, reading, schema, schema_study
from enginebench.record.files import Writer

FACTS = {"engine": "a", "variant": "b", "trial": 1, "settings": {}, "command": [], "env": {}}


@pytest.fixture
def record(tmp_path):
    """A small record: its directory, and the checksums that it lists."""
    writer = Writer.create(tmp_path, "small")
    writer.write_json("study.json", {"schema": 3})
    directory = writer.launch_directory("trial1_a_b")
    (directory / "server.log").write_text("ready\n")
    writer.write_lines("raw/trial1_a_b/w-c1/requests.jsonl", [{"index": 0}])
    writer.write_lines("raw/trial1_a_b/w-c1/scrapes.jsonl.gz", [{"t_s": 0.0}], compress=True)
    writer.write_launch("trial1_a_b", schema.Launch(**FACTS))
    writer.event("finished")
    writer.write_finished(schema_study.Finished(finished_at="now"))
    return writer.directory


class Listing(msgspec.Struct):
    """The field that both launch.json and finished.json have."""

    files: schema.Files


def listed(record, path):
    return reading.read_document(record / path, Listing).files


def test_the_checksums_are_those_of_the_bytes_on_disk(record):
    files = listed(record, "raw/trial1_a_b/launch.json") | listed(record, "finished.json")
    assert set(files) == {
        "study.json",
        "events.jsonl",
        "raw/trial1_a_b/launch.json",
        "raw/trial1_a_b/server.log",
        "raw/trial1_a_b/w-c1/requests.jsonl",
        "raw/trial1_a_b/w-c1/scrapes.jsonl.gz",
    }
    for path, found in files.items():
        content = (record / path).read_bytes()
        assert (found.bytes, found.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert manifest.checksum(record / path) == found
    assert manifest.damages(record, files) == {}


def test_the_documents_with_checksums_are_of_their_types(record):
    reading.read_document(record / "raw/trial1_a_b/launch.json", schema.Launch)
    reading.read_document(record / "finished.json", schema_study.Finished)


def damage(path, how, tmp_path):
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "cut":
        path.write_bytes(content[:-1])
    elif how == "altered":
        path.write_bytes(content[:-2] + b"x" + content[-1:])
    elif how == "link":
        target = tmp_path / "elsewhere"
        target.write_bytes(content)
        path.unlink()
        path.symlink_to(target)
    else:
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("missing", "expected the file that was recorded, found none"),
        ("cut", "expected 12 bytes, found 11"),  # {"index":0} and a newline
        ("altered", "altered since it was recorded"),
        ("link", "found a symbolic link"),
        ("directory", "found no regular file"),
    ],
)
def test_what_became_of_a_file_is_named(record, tmp_path, how, text):
    path = "raw/trial1_a_b/w-c1/requests.jsonl"
    damage(record / path, how, tmp_path)
    found = manifest.damages(record, listed(record, "raw/trial1_a_b/launch.json"))
    assert list(found) == [path] and text in found[path]


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "raw/../../outside", ""])
def test_a_path_that_leads_out_of_the_record_is_not_read(record, path):
    (record.parent / "outside").write_text("x")
    files = {path: schema.Checksum(bytes=1, sha256=hashlib.sha256(b"x").hexdigest())}
    assert "leads out of it" in manifest.damages(record, files)[path]


def test_a_number_that_json_has_not_does_not_lose_a_launch(tmp_path):
    writer = Writer.create(tmp_path, "small")
    launch = schema.Launch(**FACTS, version={"x": math.nan}, ready_s=math.inf)
    writer.write_launch("trial1_a_b", launch)
    written = json.loads((writer.directory / "raw/trial1_a_b/launch.json").read_text())
    assert (written["version"], written["ready_s"]) == ({"x": None}, None)
    assert written["engine"] == "a"

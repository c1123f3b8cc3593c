"""Checking a record in one command, and its signature."""

import json
import lzma
import os
import shutil
import subprocess

import pytest
from made_record import write
from project import enginebench

from enginebench.record import reading, schema, schema_study
from enginebench.record.files import Writer
from enginebench.report import build

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")


@pytest.fixture
def record(tmp_path):
    """A finished record with all its checksums."""
    directory = write(tmp_path / "made", {"quick/plain": (1,)})
    writer = Writer(directory)
    writer.write_json("study.json", json.loads((directory / "study.json").read_text()))
    for launch in sorted((directory / "raw").iterdir()):
        facts = reading.read_document(launch / "launch.json", schema.Launch)
        writer.write_launch(launch.name, facts)
    writer.event("finished")
    writer.write_finished(schema_study.Finished())
    return directory


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


def verify(record, *flags):
    done = enginebench("verify", record, *flags, cwd=record.parent)
    assert "Traceback" not in done.stderr
    return done


def test_a_record_as_it_was_written_is_whole(record):
    done = verify(record)
    assert (done.returncode, done.stderr) == (0, "")
    # study.json, events.jsonl, launch.json, and four files of each of two cells.
    assert "11 of 11 files with a checksum are as recorded" in done.stdout


def test_an_altered_a_missing_and_an_unlisted_file_are_named(record):
    raw = record / "raw/trial1_quick_plain"
    (raw / "many-c1/processes.jsonl").unlink()
    file = raw / "many-c4/requests.jsonl"
    file.write_text(file.read_text().replace("0.1", "0.2"))
    (raw / "notes.txt").write_text("a person's")
    done = verify(record)
    assert done.returncode == 1
    assert "many-c1/processes.jsonl: expected the file that was recorded, found none" in done.stdout
    assert "many-c4/requests.jsonl: altered since it was recorded" in done.stdout
    assert "notes.txt: has no checksum" in done.stdout
    assert "9 of 11 files" in done.stdout


def publish(record, to):
    return enginebench("publish", record, "--to", to, cwd=record.parent)


def test_a_published_record_is_packed_and_still_whole(record):
    to = record.parent / "published"
    done = publish(record, to)
    assert (done.returncode, done.stderr) == (0, "")
    published = to / record.name
    packed = [file.name for file in published.glob("raw/*/many-c1/*")]
    assert {"requests.jsonl.gz", "scrapes.jsonl.xz"} <= set(packed)
    assert not {"requests.jsonl", "scrapes.jsonl.gz"} & set(packed)
    assert (record / "raw/trial1_quick_plain/many-c1/requests.jsonl").exists()
    assert "11 of 11 files with a checksum are as recorded" in verify(published).stdout
    first, second = (build.build(directory) for directory in (record, published))
    assert first.cells == second.cells


@pytest.mark.parametrize(
    ("packed", "name"),
    [("requests.jsonl.gz", "requests.jsonl"), ("scrapes.jsonl.xz", "scrapes.jsonl.gz")],
)
def test_a_damaged_packed_file_is_named(record, packed, name):
    publish(record, record.parent / "published")
    published = record.parent / "published" / record.name
    file = published / "raw/trial1_quick_plain/many-c1" / packed
    file.write_bytes(file.read_bytes()[:-20])
    done = verify(published)
    assert done.returncode == 1
    assert f"many-c1/{name}: expected the file that was recorded, found a dam" in done.stdout
    assert any(packed[:8] in str(cell.findings) for cell in build.build(published).invalid)


def test_other_pages_in_a_packed_file_are_found(record):
    publish(record, record.parent / "published")
    published = record.parent / "published" / record.name
    pages = published / "raw/trial1_quick_plain/many-c1/scrapes.jsonl.xz"
    pages.write_bytes(lzma.compress(lzma.decompress(pages.read_bytes()).replace(b"200", b"201")))
    assert "scrapes.jsonl.gz: altered since it was recorded" in verify(published).stdout


def test_a_damaged_list_of_what_was_packed_anew_makes_its_cells_invalid(record):
    publish(record, record.parent / "published")
    published = record.parent / "published" / record.name
    (published / "published.json").write_text("{}}")
    assert len(build.build(published).invalid) == 2
    done = verify(published)
    assert done.returncode == 2 and "published.json" in done.stderr


def test_an_xz_file_that_asks_for_much_memory_is_refused(record):
    publish(record, record.parent / "published")
    published = record.parent / "published" / record.name
    large = [{"id": lzma.FILTER_LZMA2, "dict_size": 512 << 20}]
    pages = published / "raw/trial1_quick_plain/many-c1/scrapes.jsonl.xz"
    pages.write_bytes(lzma.compress(b"{}", filters=large))
    done = verify(published)
    assert done.returncode == 1 and "a damaged packed file" in done.stdout


def test_a_record_that_is_not_whole_is_not_published(record):
    (record / "raw/trial1_quick_plain/many-c1/processes.jsonl").unlink()
    done = publish(record, record.parent / "published")
    assert done.returncode == 2
    assert "expected a whole record to publish, found 1 faults" in done.stderr
    assert not (record.parent / "published").exists()


def test_no_published_record_is_overwritten(record):
    publish(record, record.parent / "published")
    done = publish(record, record.parent / "published")
    assert done.returncode == 2 and "expected no record of that name, found one" in done.stderr


def test_what_is_no_record_is_one_line(tmp_path):
    done = verify(tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_a_signature_is_made_and_checked(record, key):
    assert verify(record, "--sign", key).returncode == 0
    done = verify(record)
    assert done.returncode == 0 and "Good" in done.stdout
    signers = record.parent / "signers"
    signers.write_text(f"ada {key.with_suffix('.pub').read_text()}")
    assert verify(record, "--signers", signers).returncode == 0
    signers.write_text("")
    assert verify(record, "--signers", signers).returncode == 1
    finished = record / "finished.json"
    finished.write_text(finished.read_text() + " ")
    assert verify(record).returncode == 1


def test_a_damaged_record_is_not_signed(record, key):
    (record / "raw/trial1_quick_plain/many-c1/processes.jsonl").unlink()
    done = verify(record, "--sign", key)
    assert done.returncode == 2
    assert "expected a whole record to sign, found 1 faults" in done.stderr
    assert not (record / "finished.json.sig").exists()


@pytest.mark.parametrize("how", ["a pipe", "binary", "missing"])
def test_a_signed_file_that_cannot_be_read_is_named_and_not_waited_for(record, key, how):
    verify(record, "--sign", key)
    file = record / "finished.json"
    file.unlink()
    if how == "a pipe":
        os.mkfifo(file)
    elif how == "binary":
        file.write_bytes(b"\xff\xfe\x00")
    done = verify(record)
    assert done.returncode in (1, 2)
    assert "finished.json" in done.stdout

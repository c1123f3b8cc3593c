"""An air-gapped kit: its parts, and what its script does with a good and with a damaged one.

Packing and running a whole kit of real engines is tests/test_kit_rehearsal.py.
"""

import json
import platform
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from house import ROOT, enginebench

from enginebench import kit

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
STAND_IN = """#!/bin/sh
# Stands for the kit's Python: notes how it was called, leaves results, ends as it is told.
echo "$@" >> calls
mkdir -p results/one
echo "$(wc -l < calls)" > results/one/finished.json
exit "$(cat code)"
"""


@pytest.fixture
def made(tmp_path):
    """A kit of a small tree, in parts of 4 KiB; its installed harness is a stand-in."""
    tree = tmp_path / "tree"
    (tree / ".venv" / "bin").mkdir(parents=True)
    (tree / ".venv" / ".complete").touch()
    python = tree / ".venv" / "bin" / "python"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    (tree / "code").write_text("0")
    (tree / "large").write_bytes(bytes(range(256)) * 100)
    out = tmp_path / "kit"
    out.mkdir()
    manifest = {
        "format": kit.FORMAT,
        "study": "small",
        "file": "studies/small.yaml",
        "device": "cpu",
        "python": PYTHON,
        "machine": platform.machine(),
        "parts": kit.write_parts(tree, out, 4096),
    }
    (out / "kit.json").write_text(json.dumps(manifest))
    shutil.copy(ROOT / "src" / "enginebench" / "kit_host.py", out / "run.py")
    return out


def run(made, *options):
    call = [sys.executable, "run.py", *options]
    return subprocess.run(call, cwd=made, capture_output=True, text=True)


def calls(made):
    return (made / "work" / "calls").read_text().splitlines()


def test_a_kit_is_joined_run_and_archived_with_one_command(made):
    done = run(made)
    assert done.returncode == 0, done.stderr
    assert (made / "work" / "large").read_bytes() == bytes(range(256)) * 100
    assert calls(made) == [
        "-m enginebench study studies/small.yaml --runner process --resume --profile cpu"
    ]
    with tarfile.open(made / "results.tar.gz") as file:
        assert file.extractfile("results/one/finished.json").read() == b"1\n"


def test_called_again_it_goes_on_and_replaces_the_archive(made):
    assert run(made).returncode == 0
    (made / "work" / "code").write_text("3")
    done = run(made, "--limit", "5")
    assert done.returncode == 3
    assert "unpacked already" in done.stdout
    assert "call this again to go on" in done.stdout
    limit = calls(made)[1].split("--limit ")[1]
    assert 4.5 < float(limit) <= 5
    with tarfile.open(made / "results.tar.gz") as file:
        assert file.extractfile("results/one/finished.json").read() == b"2\n"


def flip(part):
    content = bytearray(part.read_bytes())
    content[100] ^= 1
    part.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda made: flip(made / "part-002"), "part-002: expected sha256"),
        (lambda made: flip(sorted(made.glob("part-*"))[-1]), "expected sha256"),
        (lambda made: (made / "part-001").unlink(), "1 parts are missing (part-001)"),
        (lambda made: (made / "part-000").write_bytes(b""), "part-000: expected sha256"),
        (lambda made: (made / "kit.json").unlink(), "expected the kit's manifest"),
        (lambda made: (made / "work").mkdir(), "expected an empty place"),
    ],
)
def test_a_damaged_kit_is_one_line_and_nothing_is_unpacked(made, damage, expected):
    damage(made)
    done = run(made)
    assert done.returncode == 2
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (made / "work" / "large").exists()


@pytest.mark.parametrize(("name", "value"), [("python", "2.7"), ("machine", "vax"), ("format", 9)])
def test_a_kit_for_another_machine_is_refused(made, name, value):
    manifest = json.loads((made / "kit.json").read_text())
    (made / "kit.json").write_text(json.dumps(manifest | {name: value}))
    done = run(made)
    assert done.returncode == 2
    assert f"expected {name} " in done.stderr
    assert str(value) in done.stderr


def test_an_unpacking_that_was_cut_off_is_done_again(made):
    (made / "work.part").mkdir()
    (made / "work.part" / "large").write_text("half")
    assert run(made).returncode == 0
    assert (made / "work" / "large").stat().st_size == 25600


def test_no_part_is_larger_than_asked_and_together_they_are_the_archive(made, tmp_path):
    parts = json.loads((made / "kit.json").read_text())["parts"]
    assert {part["bytes"] for part in parts[:-1]} == {4096}
    assert 0 < parts[-1]["bytes"] <= 4096
    joined = b"".join((made / part["name"]).read_bytes() for part in parts)
    (tmp_path / "whole.tar").write_bytes(joined)
    with tarfile.open(tmp_path / "whole.tar") as file:
        owners = {(member.uid, member.mtime, member.uname) for member in file.getmembers()}
    assert owners == {(0, 0, "")}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("gpu",), "tgi/launch.yaml: no x-native key"),
        (("smoke", "--packages", "vllm"), "expected ENGINE=FILE"),
        (("smoke", "--out", ROOT / "docs"), "expected an empty directory for the kit"),
        (("nonesuch",), "nonesuch"),
    ],
)
def test_what_cannot_be_packed_is_one_line(tmp_path, options, expected):
    done = enginebench("kit", *options, "--root", ROOT, cwd=tmp_path)
    assert done.returncode == 2
    assert expected in done.stderr
    assert not (tmp_path / "kit").exists()
    assert Path(ROOT / "docs" / "method.md").exists()

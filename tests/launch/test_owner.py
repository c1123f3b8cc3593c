"""Whether the harness that a mark names is gone: only where that is certain."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from enginebench.base import proc
from enginebench.launch import owner

MARK = "from enginebench.launch import owner; print(owner.mark(), flush=True)"


@pytest.fixture(autouse=True)
def locks(tmp_path, monkeypatch):
    """Lock files of this test only."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(owner, "_locks", {})
    return tmp_path


@pytest.fixture
def other(locks):
    """Another harness that runs: its mark, and its process."""
    code = [sys.executable, "-P", "-c", MARK + "; input()"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(code, env={"TMPDIR": str(locks), **_path()}, **pipes) as process:
        yield process.stdout.readline().strip(), process
        process.kill()


def _path():
    return {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}


def test_a_living_harness_is_not_gone_and_a_killed_one_is(other):
    mark, process = other
    assert not owner.is_gone(mark)
    process.kill()
    process.wait()
    assert owner.is_gone(mark)


def test_another_process_of_the_same_number_is_not_the_harness():
    place, pid, ticks = owner.mark().split("-")
    assert not owner.is_gone(f"{place}-{pid}-{ticks}")
    assert owner.is_gone(f"{place}-{pid}-{int(ticks) - 1}")  # started one tick before


def test_a_mark_holds_no_name_of_the_host_and_no_time_of_day(monkeypatch):
    before = owner.mark()
    monkeypatch.setattr("platform.node", lambda: "renamed")
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert owner.mark() == before


@pytest.mark.parametrize("mark", ["0a1b2c-17-1700000000", "1-0", "", "host-x-y", "../../etc-1-2"])
def test_a_mark_of_another_form_belongs_to_nobody_who_could_be_judged(mark):
    assert not owner.is_gone(mark)


def test_a_harness_of_another_namespace_or_machine_is_gone_only_if_its_lock_is_free(locks):
    elsewhere = f"{'0' * 16}-1-1"  # no such process has to be found here
    assert not owner.is_gone(elsewhere)
    (locks / f"enginebench-{elsewhere}.lock").touch()  # nobody holds it
    assert owner.is_gone(elsewhere)


def test_a_harness_whose_lock_is_held_is_not_gone_even_where_it_cannot_be_seen(other, tmp_path):
    mark, _ = other
    empty = tmp_path / "proc"
    (empty / "sys/kernel/random").mkdir(parents=True)
    (empty / "sys/kernel/random/boot_id").write_text("another boot\n")
    assert not owner.is_gone(mark, empty)


def test_of_killed_harnesses_the_lock_files_are_removed_and_no_others(other, locks):
    mark, process = other
    (locks / "enginebench-notes.lock").write_text("a person's")
    owner.remove_stale_locks()
    assert (locks / f"enginebench-{mark}.lock").exists()
    process.kill()
    process.wait()
    owner.remove_stale_locks()
    assert [path.name for path in locks.glob("*.lock")] == ["enginebench-notes.lock"]


def test_a_link_where_the_lock_should_be_is_not_followed(locks):
    me = proc.read("self")
    target = locks / "target"
    link = (
        Path(tempfile.gettempdir()) / f"enginebench-{owner._place()}-{me.pid}-{me.start_ticks}.lock"
    )
    link.symlink_to(target)
    owner.mark()
    assert not target.exists()

"""Processes read from a directory that looks like /proc."""

import os

import pytest

from enginebench.base import proc


def put(root, pid, name="python", state="S", parent=1, session=7, ticks=100, environ=b""):
    """A process as proc(5) describes it: the 22nd field is its start."""
    directory = root / str(pid)
    directory.mkdir(parents=True)
    before = f"{pid} ({name}) {state} {parent} {session} {session} 0 -1 0 0 0 0 0 1 2 0 0 20 0 1 0"
    (directory / "stat").write_text(f"{before} {ticks} 4096 10\n")
    (directory / "environ").write_bytes(environ)


def test_the_start_of_a_process_is_the_22nd_field_even_after_an_odd_name(tmp_path):
    put(tmp_path, 12, name="a) S 1 (b", state="Z", parent=3, session=9, ticks=4711)
    found = proc.read(12, tmp_path)
    assert found == proc.Process(12, "a) S 1 (b", "Z", 3, 9, 4711)
    assert found.has_ended


@pytest.mark.parametrize("content", [b"", b"12 (cut", b"12 (x) S 1 2", b"x (y) S " + b"1 " * 30])
def test_what_cannot_be_read_is_no_process(tmp_path, content):
    put(tmp_path, 12)
    (tmp_path / "12" / "stat").write_bytes(content)
    assert proc.read(12, tmp_path) is None
    assert proc.read(13, tmp_path) is None
    assert list(proc.everyone(tmp_path)) == []


def test_a_variable_is_found_by_its_whole_name(tmp_path):
    put(tmp_path, 12, environ=b"NOT_IT=1\0IT=a=b\0IT_TOO=2\0")
    assert proc.variable(12, "IT", tmp_path) == "a=b"
    assert proc.variable(12, "NONE", tmp_path) is None
    assert proc.variable(99, "IT", tmp_path) is None


def test_descendants_are_those_whose_parents_lead_here(tmp_path):
    for pid, parent in ((10, 1), (11, 10), (12, 11), (20, 1)):
        put(tmp_path, pid, parent=parent)
    assert {found.pid for found in proc.descendants(10, tmp_path)} == {11, 12}


def test_this_very_process_is_read_from_the_real_proc():
    me = proc.read("self")
    assert (me.pid, me.parent, me.session) == (os.getpid(), os.getppid(), os.getsid(0))

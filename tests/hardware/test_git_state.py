"""Which code ran: by git, or by what a kit says that it was packed from."""

import json
import shutil
import subprocess

import pytest

from enginebench.hardware import machine
from enginebench.hardware.machine import GitState

pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="no git here")
SOMEBODY = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.com"]


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A repository of one commit, and its name."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    root = tmp_path / "tree"
    root.mkdir()
    (root / "file").write_text("one")

    def git(*arguments):
        call = ["git", "-C", str(root), *SOMEBODY, *arguments]
        return subprocess.check_output(call, text=True, stderr=subprocess.STDOUT).strip()

    git("init", "--quiet")
    git("add", "file")
    git("commit", "--quiet", "-m", "first")
    return root, git("rev-parse", "HEAD")


def test_a_tree_without_changes_is_its_commit(tree):
    root, commit = tree
    assert machine.git_state(root) == GitState(commit, False)


@pytest.mark.parametrize("name", ["file", "another"])
def test_a_change_or_a_new_file_makes_it_dirty(tree, name):
    root, commit = tree
    (root / name).write_text("two")
    assert machine.git_state(root) == GitState(commit, True)


def test_where_git_cannot_say_neither_is_known(tree, monkeypatch):
    root, _ = tree
    assert machine.git_state(root.parent) == GitState(None, None)  # no repository
    monkeypatch.setenv("PATH", "/nowhere")  # no git
    assert machine.git_state(root) == GitState(None, None)


def test_a_kit_says_what_it_was_packed_from_and_git_is_not_asked(tree):
    root, _ = tree
    packed = {"commit": "0123abc", "dirty": True}
    (root / machine.PACKED_FROM).write_text(json.dumps(packed))
    assert machine.git_state(root) == GitState(**packed)


@pytest.mark.parametrize("content", ["", "[]", "5", "[" * 100_000])
def test_what_a_kit_says_in_another_form_is_not_known(tree, content):
    root, _ = tree
    (root / machine.PACKED_FROM).write_text(content)
    assert machine.git_state(root) == GitState(None, None)

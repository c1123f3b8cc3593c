"""What is printed must never end a study: readers that have gone, closed streams, old terminals."""

import os
import subprocess
import sys

import pytest

CODE = """
import sys
from enginebench.cli import terminal
terminal.never_fail()
for number in range(3):
    terminal.log(f"× {number}")
    terminal.log_to_stderr("…")
console = terminal.new_console()
console.print("× table")
open(sys.argv[1], "w").write("done")
"""


def run(tmp_path, shell="", **env):
    """Print from a process whose streams are as the shell's redirections say."""
    done, code = tmp_path / "done", tmp_path / "code.py"
    code.write_text(CODE, encoding="utf-8")
    call = ["sh", "-c", f'"$@" {shell}', "sh", sys.executable, "-P", code, done]
    found = subprocess.run(call, capture_output=True, env=os.environ | env, timeout=60)
    return done.exists(), found


@pytest.mark.parametrize(
    "shell",
    [">&-", "2>&-", ">&- 2>&-", ">/dev/full", "2>/dev/full", "| true", "| sh -c 'sleep 0.5'"],
)
def test_a_stream_that_cannot_be_written_stops_nothing(tmp_path, shell):
    is_done, found = run(tmp_path, shell)
    assert is_done
    assert b"Traceback" not in found.stdout + found.stderr


def test_a_terminal_of_another_encoding_shows_what_it_can(tmp_path):
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    is_done, found = run(tmp_path, **ascii_only)
    assert is_done and found.returncode == 0, found.stderr
    assert found.stdout.startswith(b"? 0\n? 1\n")


def test_what_is_printed_arrives(tmp_path):
    _, found = run(tmp_path, PYTHONUTF8="1")
    assert found.stdout.decode() == "× 0\n× 1\n× 2\n× table\n"
    assert found.stderr.decode() == "…\n" * 3

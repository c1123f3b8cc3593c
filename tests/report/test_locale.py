"""A report on a machine whose locale is ASCII: its files are UTF-8 all the same."""

import os

import made_record
from project import enginebench


def test_a_report_does_not_depend_on_the_locale(tmp_path):
    record = made_record.write(tmp_path / "results" / "made", {"quick/plain": (1, 2)})
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = enginebench("report", record, cwd=tmp_path, env=os.environ | ascii_only)
    assert done.returncode == 0, done.stderr
    assert "×" in (record / "derived" / "report.md").read_text(encoding="utf-8")

"""Progress through a large record."""

import io

from rich.console import Console

from enginebench.cli import progress


def test_progress_is_a_line_now_and_then_where_there_is_no_terminal(monkeypatch):
    monkeypatch.setattr(progress, "LARGE_BYTES", 100)
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    shown = io.StringIO()
    with progress.reading(Console(file=shown, width=80), 400) as on_bytes:
        on_bytes(100)
        on_bytes(300)
    lines = shown.getvalue().splitlines()
    assert [line.split(" of ")[0] for line in lines] == [
        "reading the record: 25%",
        "reading the record: 100%",
    ]


def test_of_a_small_record_no_progress_is_shown():
    shown = io.StringIO()
    with progress.reading(Console(file=shown), 1000) as on_bytes:
        on_bytes(1000)
    assert shown.getvalue() == ""

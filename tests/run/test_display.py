"""What is seen while a study runs: the live view, and events for programs."""

import io
import json
import subprocess
import sys

import pytest
from project import enginebench, make_project, study, write_study
from rich.console import Console

from enginebench.load.spec import LoadProgress
from enginebench.run import display
from enginebench.run.display import Display

GAUGES = {
    "requests_running": 3.0,
    "requests_waiting": 2.0,
    "kv_used_ratio": 0.25,
    "output_tokens_total": None,
}


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self, monkeypatch):
        self.now_s = 100.0
        monkeypatch.setattr(display.time, "perf_counter", lambda: self.now_s)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def seen(show):
    console = Console(file=io.StringIO(), width=100)
    console.print(show)
    return console.file.getvalue()


def made(emit=display.ignore_events):
    return Display(Console(file=io.StringIO()), 60.0, 4, emit)


def test_the_live_view_says_what_client_and_engine_say(clock):
    show, live = made(), LoadProgress()
    show.cell("vllm/default many-c4, trial 1", 8, live)
    show.engine(GAUGES)
    live.requests_done, live.in_flight, live.pieces = 3, 4, 120
    clock.now_s += 2.0
    show.engine(GAUGES)
    text = seen(show)
    assert "cell 1 of 4" in text
    assert "3/8 requests" in text
    assert "4 in flight" in text
    assert "60 tokens/s" in text
    assert "engine: 3 running, 2 waiting, KV cache 25% used" in text


def test_what_an_engine_does_not_say_is_not_shown(clock):
    show = made()
    show.cell("label", 8, LoadProgress())
    show.engine(dict.fromkeys(display.GAUGES) | {"requests_waiting": 0.0})
    text = seen(show)
    assert "engine: 0 waiting" in text
    assert "running" not in text
    assert "KV" not in text
    show.engine(dict.fromkeys(display.GAUGES))
    assert "engine" not in seen(show)


def test_the_rate_is_that_of_now_and_not_of_the_whole_cell(clock):
    rates = []

    def emit(event, **fields):
        if event == "progress":
            rates.append(fields["tokens_per_s"])

    show, live = made(emit), LoadProgress()
    show.cell("label", 8, live)
    for second in range(10):  # 100 pieces a second, then none
        clock.now_s += 1.0
        live.pieces += 100 if second < 5 else 0
        show.engine(GAUGES)
    assert rates[4] == 100.0
    assert rates[-1] == 0.0


def test_an_engine_that_counts_its_tokens_is_believed_more_than_the_pieces(clock):
    show, live = made(), LoadProgress()
    show.cell("label", 8, live)
    show.engine(GAUGES | {"output_tokens_total": 1000.0})
    live.pieces = 30  # several tokens in each
    clock.now_s += 2.0
    show.engine(GAUGES | {"output_tokens_total": 1100.0})
    assert "50 tokens/s" in seen(show)
    clock.now_s += 1.0
    show.engine(GAUGES)  # it did not answer
    assert "10 tokens/s" in seen(show)


def test_a_look_at_an_engine_outside_of_a_cell_is_nothing(clock):
    events = []
    show = made(lambda event, **fields: events.append(event))
    show.engine(GAUGES)
    show.cell("label", 1, LoadProgress())
    show.cell_done("label", "fine")
    show.engine(GAUGES)
    assert events == ["cell_started", "cell_done"]


def events_of(text):
    return [json.loads(line) for line in text.splitlines()]


def test_events_come_in_the_order_of_the_study_and_words_go_to_stderr(tmp_path, cache):
    project = make_project(tmp_path, "alpha")
    file = write_study(project, study({"engine": "alpha"}))
    done = enginebench("study", file, "--json", "--root", project, "--cache", cache, cwd=project)
    assert done.returncode == 0, done.stderr
    assert "output tokens/s" in done.stderr
    events = events_of(done.stdout)
    names = [row["event"] for row in events]
    cell = ["stage", "cell_started", "progress", "cell_done"]
    once = [name for k, name in enumerate(names) if name != "progress" or names[k - 1] != name]
    assert once == ["planned", "stage", *cell * 3, "finished"]
    progress = [row for row in events if row["event"] == "progress"]
    assert {row[name] for row in progress for name in display.SHOWN} == {None}  # it says none
    last_looks = {row["cell"]: row["requests_done"] for row in progress}
    assert sorted(last_looks.values()) == [2, 4, 8]
    assert [row["cells_done"] for row in events if row["event"] == "cell_done"] == [1, 2, 3]
    last = events[-1]
    cells = ("alone-c1", "many-c2", "many-c4")
    assert sorted(last["valid"]) == [f"trial1_alpha_default/{cell}" for cell in cells]
    assert last["invalid"] == last["suspect"] == last["failed_starts"] == []
    assert (project / last["report"]).exists()


@pytest.mark.slow
def test_a_reader_of_events_that_goes_away_does_not_stop_the_study(tmp_path, cache):
    project = make_project(tmp_path, "alpha")
    file = write_study(project, study({"engine": "alpha"}, workloads=study()["workloads"][:1]))
    command = "{ %s -m enginebench study %s --json --root %s --cache %s; echo $? >code; } | head -1"
    subprocess.run(
        command % (sys.executable, file, project, cache),
        shell=True,
        cwd=project,
        capture_output=True,
    )
    assert (project / "code").read_text() == "0\n"
    (found,) = project.glob("results/*/finished.json")
    assert json.loads(found.read_text())

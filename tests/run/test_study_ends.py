"""Engines and studies that come to a bad end: what is recorded, and what is left running."""

import os
import resource
import signal
import subprocess
import sys
import time

import psutil
import pytest
from builders import rows_of
from project import (
    enginebench,
    engines_left,
    make_project,
    metrics,
    pass_on_the_token,
    problems,
    result,
    run_study,
    study,
    wait_for_step,
)

from enginebench.launch import leftovers
from enginebench.plan import plan, study_file

GOOD = {"engine": "alpha"}


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path, "alpha", "beta")


@pytest.fixture(scope="module")
def broken(cache, tmp_path_factory):
    """A study of one engine that fails in three ways and of one that does not: as ``whole``."""
    project = make_project(tmp_path_factory.mktemp("broken"), "alpha", "beta")
    bad = [
        {"engine": "alpha", "variant": name, "settings": {"BEHAVIOUR": name}}
        for name in ("dies-loading", "refuses", "dies-in-cell")
    ]
    data = study(*bad, {"engine": "beta"}, ready_timeout_s=600)
    return project, run_study(project, cache, data, timeout=120)


def test_an_engine_that_dies_while_loading_is_shown_with_its_log_and_the_next_ones_run(broken):
    project, done = broken
    assert done.returncode == 2
    assert "exit code 3 before it was ready" in done.stdout
    assert "fatal: the weights are not what they should be" in done.stdout
    assert all("not run: alpha" in text for text in problems(project, "alpha", "dies-loading"))
    assert problems(project, "beta") == [""] * 3
    assert engines_left(project) == []


def test_a_request_that_the_engine_refuses_ends_the_start_at_once(broken):
    _, done = broken  # and not after the 600 s that an engine has to get ready
    assert "it refused the study's first request (HTTP 400" in done.stdout


def test_an_engine_that_dies_in_a_cell_leaves_an_invalid_cell_and_the_study_goes_on(broken):
    project, _ = broken
    cells = [cell for cell in metrics(project)["cells"] if cell["variant"] == "dies-in-cell"]
    assert len(cells) == 3
    assert all("exit code 9" in cell["problems"][0] for cell in cells)
    assert "fatal: out of something" in cells[0]["log_tail"]
    report = (result(project) / "derived" / "report.md").read_text()
    assert "## Invalid and suspect cells" in report and "exit code 9" in report


@pytest.mark.slow
def test_an_engine_that_never_gets_ready_ends_at_its_deadline_with_the_last_answer(project, cache):
    bad = {"engine": "alpha", "settings": {"BEHAVIOUR": "never-ready"}}
    done = run_study(project, cache, study(bad, ready_timeout_s=2))
    assert done.returncode == 2
    assert "not ready within 2 s" in done.stdout
    assert "HTTP 503 from /health" in done.stdout
    assert engines_left(project) == []


def listen_for_hangups():
    """Below nohup they are ignored, as the study then does."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.slow
@pytest.mark.parametrize("step", ["up", "ready", "load"])
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_study_stops_its_engine_and_keeps_its_record(project, cache, step, sign):
    many = study(GOOD, trials=50)
    process = run_study(project, cache, many, start=subprocess.Popen, preexec_fn=listen_for_hangups)
    wait_for_step(project, step)
    process.send_signal(sign)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert engines_left(project) == []
    done = enginebench("report", cwd=project)
    assert done.returncode == 0, done.stderr
    assert any("not run: the study ended before this cell" in t for t in problems(project, "alpha"))


def test_an_engine_does_not_outlive_a_harness_that_was_killed(project, cache):
    process = run_study(project, cache, study(GOOD, trials=50), start=subprocess.Popen)
    wait_for_step(project, "ready")
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 10
    while engines_left(project) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert engines_left(project) == []


@pytest.mark.slow
@pytest.mark.parametrize("step", ["up", "ready", "load"])
def test_a_harness_that_is_killed_leaves_no_secret_in_clear(project, cache, step):
    pass_on_the_token(project / "alpha" / "launch.yaml")
    secret = "hf_" + "x7Kq" * 6  # the double prints it
    env = os.environ | {"HF_TOKEN": secret}
    process = run_study(project, cache, study(GOOD, trials=50), start=subprocess.Popen, env=env)
    wait_for_step(project, step)
    process.kill()
    process.communicate()
    (directory,) = (project / "results").iterdir()
    logs = [path.read_text() for path in directory.rglob("server.log")]
    assert step == "up" or "***" in logs[0]
    for path in directory.rglob("*"):
        assert path.is_dir() or secret.encode() not in path.read_bytes(), path


@pytest.mark.slow
def test_what_an_engine_of_a_killed_harness_had_started_is_ended_by_the_next_study(project, cache):
    code = "from enginebench.launch import owner; print(owner.mark())"
    mark = subprocess.check_output([sys.executable, "-P", "-c", code], text=True).strip()
    dead = {leftovers.VARIABLE: f"{mark}/1"}
    start = ["sh", "-c", "sleep 60 >/dev/null & echo $!"]  # its parent is gone at once
    orphan = int(subprocess.check_output(start, env=dict(os.environ) | dead, text=True))
    done = run_study(project, cache, study(GOOD))
    assert done.returncode == 0, done.stderr
    assert f"ended what a killed enginebench had left behind: sleep ({orphan})" in done.stdout
    assert not psutil.pid_exists(orphan)


def cells_in_order(data):
    return [cell.id for cell in plan.make(study_file.parse(data, "here")).launches[0].cells]


def test_a_full_disk_is_one_line_and_keeps_what_was_recorded(project, cache):
    """A limit on the size of files stands in for the disk: the same OSError at the same place."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))

    big = study(GOOD)
    big["workloads"][1]["requests_per_stream"] = 12  # its requests.jsonl outgrows the limit
    seeds = (big | {"seed": seed} for seed in range(20))  # the order of a start's cells is drawn
    first = next(s for s in seeds if cells_in_order(s)[0] == "alone-c1")
    done = run_study(project, cache, first, preexec_fn=limit)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "cannot write" in line and "kept and readable" in line, line
    kept = list((result(project) / "raw").glob("*/alone-c1/requests.jsonl"))
    assert len(kept) == 1 and len(rows_of(kept[0])) == 3
    assert engines_left(project) == []
    assert enginebench("report", cwd=project).returncode == 0


def test_an_interrupt_is_deferred_until_the_block_ends_even_with_other_threads():
    code = """
import signal, threading, time
from enginebench.run.interrupts import DeferredInterrupts
signal.signal(signal.SIGINT, signal.default_int_handler)
threading.Thread(target=time.sleep, args=(0.5,), daemon=True).start()
try:
    with DeferredInterrupts().defer():
        signal.raise_signal(signal.SIGINT)
        print("held")
    print("not reached")
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["held", "interrupted"], done.stderr

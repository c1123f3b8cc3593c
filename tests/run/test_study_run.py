"""Whole studies against doubles, in real processes: order of steps, failures, cleaning up."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from project import (
    add_engine,
    enginebench,
    make_project,
    metrics,
    result,
    run_study,
    study,
    taken_port,
    wait_for_step,
    write_study,
)

from enginebench.launch import leftovers
from enginebench.record import files

GOOD = {"engine": "alpha"}
SECRET = "hf_" + "x7Kq" * 6
LAUNCH = ["up", "ready", *["warm", "load", "record"] * 3, "down"]


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path, "alpha", "beta")


def steps(project):
    return [row["step"] for row in files.read_lines(result(project) / "events.jsonl")]


def problems(project, engine, variant="default"):
    cells = [c for c in metrics(project)["cells"] if c["label"] == f"{engine}/{variant}"]
    return [" ".join(cell["problems"]) for cell in cells]


def engines_left(project):
    """Processes of a double started from this project."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(str(project) in word for word in process.info["cmdline"] or [])
    ]


@pytest.fixture(scope="module")
def whole(cache, tmp_path_factory):
    """A study of two engines in two trials that compares answers: its project and how it ended.

    Beta cannot be asked to ignore the end of sequence, and the caller has a token.
    """
    project = make_project(tmp_path_factory.mktemp("whole"), "alpha", "beta")
    launch_file = project / "beta" / "launch.yaml"
    launch_file.write_text(launch_file.read_text() + "x-without-end-of-sequence: true\n")
    asked = {"prompts": 2, "prompt_tokens": 24, "output_tokens": 6}
    data = study(GOOD, {"engine": "beta"}, trials=2, agreement=asked)
    return project, run_study(project, cache, data, env=os.environ | {"HF_TOKEN": SECRET})


def test_a_study_runs_every_step_in_order_and_every_cell_counts(whole):
    project, done = whole
    assert done.returncode == 0, done.stdout + done.stderr
    # Answers are compared once, before anything is measured.
    first = ["up", "ready", "agree", *LAUNCH[2:]]
    assert steps(project) == [*first * 2, *LAUNCH * 2, "finished"]
    data = metrics(project)
    assert len(data["cells"]) == 12
    assert all(cell["is_valid"] for cell in data["cells"])
    for path in (result(project) / "raw").glob("*/*/requests.jsonl"):
        rows = [row for row in files.read_lines(path) if row["phase"] == "measured"]
        assert rows
        assert all(row["output_tokens"] == row["output_tokens_asked"] for row in rows)
        assert all(row["error"] is None for row in rows)
    assert engines_left(project) == []


def test_an_engine_that_asks_for_it_is_given_a_model_without_an_end_and_no_other_is(whole):
    models = {}
    for path in (result(whole[0]) / "raw").glob("*/launch.json"):
        facts = json.loads(path.read_text())
        (flag,) = (word for word in facts["command"] if word.startswith("--model="))
        models[facts["engine"]] = Path(flag.removeprefix("--model="))
    assert models["beta"] == models["alpha"].with_name(models["alpha"].name + ".without-eos")
    ends = {
        name: json.loads((model / "generation_config.json").read_text())["eos_token_id"]
        for name, model in models.items()
    }
    assert ends["beta"] == [] != ends["alpha"]


def test_every_engine_and_trial_gets_the_same_prompts_and_none_twice(whole):
    seen = {}
    for path in sorted((result(whole[0]) / "raw").glob("*/*/requests.jsonl")):
        hashes = [row["prompt_sha256"] for row in files.read_lines(path)]
        assert len(set(hashes)) == len(hashes)
        seen.setdefault(path.parent.name, set()).add(tuple(hashes))
    assert len(seen) == 3
    assert all(len(versions) == 1 for versions in seen.values())


def test_answers_are_compared_on_prompts_that_nothing_measured_is_asked(whole):
    project, _ = whole
    (found,) = metrics(project)["agreement"]
    assert (found["identical"], found["prompts"], found["unanswered"]) == (2, 2, 0)
    rows = list(files.read_lines(result(project) / "raw/trial1_beta_default/agreement.jsonl.gz"))
    assert [len(row["token_ids"]) for row in rows] == [6, 6]
    measured = result(project) / "raw/trial1_beta_default/alone-c1/requests.jsonl"
    prompts = {row["prompt_sha256"] for row in files.read_lines(measured)}
    assert not prompts & {row["prompt_sha256"] for row in rows}


def test_a_token_in_the_environment_is_in_no_file_and_no_output(whole):
    project, done = whole
    assert SECRET not in done.stdout + done.stderr
    logs = list(result(project).rglob("server.log"))
    assert "***" in logs[0].read_text()  # the double prints the token it was given
    for path in result(project).rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path


def test_the_report_is_rebuilt_from_raw_to_the_same_bytes(whole):
    project, _ = whole
    folder = result(project) / "derived"
    before = {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert {"report.md", "report.html", "metrics_data.json", "metrics_summary.csv"} <= {
        str(path) for path in before
    }
    shutil.rmtree(folder)
    done = enginebench("report", cwd=project)
    assert done.returncode == 0, done.stderr
    after = {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert after == before


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


def test_a_directory_placed_beside_the_others_is_an_engine(project, cache):
    copy = project / "gamma"
    shutil.copytree(project / "alpha", copy)
    launch = (copy / "launch.yaml").read_text()
    (copy / "launch.yaml").write_text(launch.replace("BEHAVIOUR:-normal", "BEHAVIOUR:-early-end"))
    assert "gamma" in enginebench("engines", "--root", project, cwd=project).stdout
    done = run_study(
        project, cache, study(GOOD, {"engine": "gamma"}, workloads=study()["workloads"][:1])
    )
    assert done.returncode == 1
    assert "gamma/default" in (result(project) / "derived" / "report.md").read_text()
    assert all(text == "" for text in problems(project, "alpha"))
    assert all("did not make exactly the tokens" in text for text in problems(project, "gamma"))


@pytest.mark.slow
def test_an_engine_that_never_gets_ready_ends_at_its_deadline_with_the_last_answer(project, cache):
    bad = {"engine": "alpha", "settings": {"BEHAVIOUR": "never-ready"}}
    done = run_study(project, cache, study(bad, ready_timeout_s=2))
    assert done.returncode == 2
    assert "not ready within 2 s" in done.stdout
    assert "HTTP 503 from /health" in done.stdout
    assert engines_left(project) == []


def test_a_port_in_use_is_one_line_that_names_the_port(project, cache):
    with taken_port() as port:
        done = run_study(project, cache, study(GOOD, port=port))
    assert done.returncode == 2
    assert f"port {port}: expected a free port" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("step", ["up", "ready", "load"])
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_study_stops_its_engine_and_keeps_its_record(project, cache, step, sign):
    many = study(GOOD, trials=50)
    process = run_study(project, cache, many, start=subprocess.Popen)
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
def test_what_an_engine_of_a_killed_harness_had_started_is_ended_by_the_next_study(project, cache):
    dead = {leftovers.MARK: "1-0"}  # process 1 was not started at the beginning of time
    start = ["sh", "-c", "sleep 60 >/dev/null & echo $!"]  # its parent is gone at once
    orphan = int(subprocess.check_output(start, env=dict(os.environ) | dead, text=True))
    done = run_study(project, cache, study(GOOD))
    assert done.returncode == 0, done.stderr
    assert f"ended what a killed enginebench had left behind: sleep ({orphan})" in done.stdout
    assert not psutil.pid_exists(orphan)


def test_a_full_disk_is_one_line_and_keeps_what_was_recorded(project, cache):
    """A limit on the size of files stands in for the disk: the same OSError at the same place."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))

    big = study(GOOD)
    big["workloads"][1]["requests_per_stream"] = 12  # its requests.jsonl outgrows the limit
    done = run_study(project, cache, big, preexec_fn=limit)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "cannot write" in line and "kept and readable" in line
    kept = list((result(project) / "raw").glob("*/alone-c1/requests.jsonl"))
    assert len(kept) == 1 and len(list(files.read_lines(kept[0]))) == 3
    assert engines_left(project) == []
    assert enginebench("report", cwd=project).returncode == 0


def test_a_results_directory_that_cannot_be_written_is_one_line(project, cache):
    (project / "results").write_text("a file in the way")
    done = run_study(project, cache, study(GOOD))
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "expected a directory for results, found something else" in line


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"engines": [{"engine": "alpah"}]},
            r"test.yaml: engines\[0\].engine: alpah: no engine.*did you mean 'alpha'",
        ),
        ({"prompts": {"path": "empty.txt"}}, r"empty.txt: expected at least one prompt"),
        ({"prompts": {"path": "nowhere.txt"}}, r"nowhere.txt: expected a file of prompts"),
        ({"model": "./nowhere"}, r"model: expected .*found './nowhere'"),
        (
            {"settings": {"BEHAVIOR": "x"}},
            r"test.yaml: settings.BEHAVIOR: .*did you mean 'BEHAVIOUR'",
        ),
        (
            {
                "workloads": [
                    {"name": "w", "prompt_tokens": 1, "output_tokens": 1, "concurrency": [4000]}
                ]
            },
            r"prompt_tokens: expected \d+ different prompts of exactly 1 tokens",
        ),
        (
            {
                "workloads": [
                    {"name": "w", "prompt_tokens": 9000, "output_tokens": 1, "concurrency": [1]}
                ]
            },
            r"workload w: expected prompt and output to fit the model's context of 4096",
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(project, cache, change, expected):
    (project / "empty.txt").write_text("\n")
    done = run_study(project, cache, study(GOOD) | change)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert re.search(expected, line), line
    assert not (project / "results").exists()


@pytest.mark.slow
def test_a_missing_environment_is_built_first(project, tmp_path):
    done = run_study(project, tmp_path / "no-cache", study(GOOD))
    assert done.returncode == 0, done.stderr
    assert "installing its own Python environment" in done.stdout


def test_a_cache_that_cannot_be_written_is_one_line(project, tmp_path):
    (tmp_path / "in-the-way").write_text("")
    done = run_study(project, tmp_path / "in-the-way", study(GOOD))
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_proxy_in_the_environment_is_not_asked_for_this_machine(project, cache):
    env = os.environ | {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    env |= {"NO_PROXY": "", "no_proxy": ""}
    done = run_study(project, cache, study(GOOD), env=env)
    assert done.returncode == 0, done.stderr


def test_an_interrupt_is_put_off_while_signals_are_held_even_with_other_threads():
    code = """
import signal, threading, time
from enginebench.run import interrupts
signal.signal(signal.SIGINT, signal.default_int_handler)
threading.Thread(target=time.sleep, args=(0.5,), daemon=True).start()
try:
    with interrupts.signals_held():
        signal.raise_signal(signal.SIGINT)
        print("held")
    print("not reached")
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["held", "interrupted"], done.stderr


def test_one_engine_is_benched_with_its_part_of_a_study(project, cache):
    part = {"engine": "beta", "workloads": ["alone"]}
    write_study(project, study({"engine": "alpha", "variant": "a"}, part))
    done = enginebench(
        "bench", "beta", "--study", "test", "--root", project, "--cache", cache, cwd=project
    )
    assert done.returncode == 0, done.stderr
    assert {cell["label"] for cell in metrics(project)["cells"]} == {"beta/default"}
    ran = files.read_study(result(project))["study"]["workloads"]
    assert [workload["name"] for workload in ran] == ["alone"]  # none that nobody of it runs


def test_an_engine_that_the_study_does_not_name_is_benched_with_its_defaults(project, cache):
    add_engine(project, "delta")
    write_study(project, study(GOOD, workloads=study()["workloads"][:1]))
    done = enginebench(
        "bench", "delta", "--study", "test", "--root", project, "--cache", cache, cwd=project
    )
    assert done.returncode == 0, done.stderr
    assert {cell["label"] for cell in metrics(project)["cells"]} == {"delta/default"}

"""Every verb of the command line: what it prints, and its exit code.

Whole studies, through doubles of engines, are run in tests/run.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import fields
from importlib import metadata

import made_record
import pytest
from project import ROOT, add_engine, enginebench, make_project, study, write_study

from enginebench.cli import exit_codes
from enginebench.cli.app import app, run_cli
from enginebench.cli.options import RunOptions
from enginebench.kit import host

VERBS = [command.name or command.callback.__name__ for command in app.registered_commands]


@pytest.fixture
def call(capsys, monkeypatch):
    """Calls the program in this process: its exit code, standard output and standard error."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            run_cli(lambda: app([str(argument) for argument in arguments]))
        return ended.value.code or 0, *capsys.readouterr()

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_project(tmp_path, "alpha", "beta")


def one_line(text):
    (line,) = text.strip().splitlines()
    return line


# The program as a whole


def test_help_names_every_verb_with_a_whole_sentence(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = call("--help")
    assert code == 0
    listed = re.findall(r"^  ([a-z]+) +(.+)$", out.partition("Commands:")[2], re.M)
    assert [name for name, _ in listed] == VERBS
    assert [text for _, text in listed if not text.endswith(".") or text.endswith("...")] == []


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_its_help(call, verb):
    code, out, _ = call(verb, "--help")
    assert code == 0
    assert re.search(rf"^Usage: .* {verb} \[OPTIONS\]", out)


@pytest.mark.parametrize("verb", ["study", "bench"])
def test_every_run_option_is_an_option_of_both_verbs_that_run_engines(call, verb):
    _, out, _ = call(verb, "--help")
    named = {"wants_json": "json", "resumes": "resume", "limit_min": "limit"}
    for field in fields(RunOptions):
        assert f"--{named.get(field.name, field.name)} " in out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["stduy"], "No such command 'stduy'"),
        (["study", "--limt", "3"], "No such option: --limt"),
        (["study", "--limit", "-1"], "--limit"),
        (["study", "--runner", "vm"], "--runner"),
        (["bench"], "Missing argument"),
    ],
)
def test_an_unknown_verb_or_option_is_named_and_the_exit_code_is_2(call, arguments, expected):
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert expected in err


def test_without_a_verb_the_help_is_shown(call):
    code, out, err = call()
    assert code == 2
    assert "Commands:" in out + err


def test_the_version_is_that_of_the_package(call):
    assert call("version") == (0, f"{metadata.version('enginebench')}\n", "")


def test_the_kit_has_copies_of_the_exit_codes_as_it_runs_without_the_package():
    for name in ("USER_ERROR", "TIME_IS_UP", "INTERRUPTED"):
        assert getattr(host, name) == getattr(exit_codes, name)


# plan, study, bench


def test_a_plan_says_what_would_run_and_starts_nothing(call, project):
    write_study(project, study({"engine": "alpha"}, {"engine": "beta"}, trials=2))
    code, out, err = call("plan", "test")
    # Two engines, twice, with 1 + 2 cells each; at 1, 2 and 4 streams of two requests: 14 a start.
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0].startswith("test: 4 engine starts, 12 cells, 56 requests; about ")
    starts = [line for line in lines if line.startswith("  trial")]
    assert len(starts) == 4
    (alpha,) = (line for line in starts if re.match(r"  trial 1  alpha/default ", line))
    assert all(cell in alpha for cell in ("alone-c1", "many-c2", "many-c4", "(about "))
    assert lines[-1].startswith("Order: of 2 trials a variant has the same place in at most 1 ")
    assert not (project / "results").exists()


def test_a_plan_without_a_name_is_that_of_the_study_for_this_machine(call, project):
    write_study(project, study({"engine": "alpha"}, name="cpu"))
    code, out, _ = call("plan")
    assert code == 0
    assert out.splitlines()[0] == "profile cpu: study studies/cpu.yaml"
    assert out.splitlines()[1].startswith("cpu: 1 engine starts, 3 cells, 14 requests")


@pytest.mark.parametrize("verb", ["plan", "study", "kit"])
def test_a_study_that_is_not_there_is_one_line(call, project, verb):
    code, out, err = call(verb, "nonesuch")
    assert (code, out) == (2, "")
    assert "studies/nonesuch.yaml" in one_line(err)


def test_an_engine_that_is_not_there_is_refused_before_anything_else(call, project):
    code, out, err = call("bench", "alpah", "--study", "nonesuch")
    assert (code, out) == (2, "")
    assert "did you mean 'alpha'" in one_line(err)


def test_an_image_for_an_engine_that_the_study_does_not_run_is_one_line(call, project):
    write_study(project, study({"engine": "alpha"}))
    code, _, err = call("study", "test", "--image", "gamma=one")
    assert code == 2
    assert one_line(err).startswith(
        "enginebench: --image: expected ENGINE=IMAGE with an engine of the study (alpha), "
        "found 'gamma=one'"
    )


def script(project, engine, name, *arguments):
    """A script of a real engine's directory, in the directory of a double."""
    shutil.copy(ROOT / "vllm" / name, project / engine / name)
    command = [sys.executable, project / engine / name, *arguments]
    return subprocess.run(list(map(str, command)), cwd=project, capture_output=True, text=True)


def test_an_engines_own_script_benches_the_engine_of_its_directory(project, cache):
    write_study(project, study({"engine": "alpha"}, {"engine": "beta"}))
    done = script(project, "beta", "metrics.py", "--study", "test", "--cache", cache)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("beta/default alone-c1") > 0
    assert "alpha" not in done.stdout
    assert len(list((project / "results").glob("*-test-beta"))) == 1


def test_the_script_for_memory_takes_its_own_study_unless_one_is_named(project):
    done = script(project, "beta", "kv_cache.py")
    assert done.returncode == 2
    assert "studies/kv-cpu.yaml" in one_line(done.stderr)
    done = script(project, "beta", "kv_cache.py", "--study", "nonesuch")
    assert "studies/nonesuch.yaml" in one_line(done.stderr)


# report, wandb


@pytest.fixture
def record(tmp_path, monkeypatch):
    """A record in results/ of the working directory."""
    monkeypatch.chdir(tmp_path)
    return made_record.write(tmp_path / "results" / "made", {"a/x": (1.0, 1.1), "b/y": (2.0, 2.1)})


def test_a_report_of_the_latest_record_prints_its_table_and_where_it_is(call, record):
    code, out, err = call("report")
    assert (code, err) == (0, "")
    assert "a/x" in out and "b/y" in out
    report = "results/made/derived/report.html"
    assert out.splitlines()[-1] == f"report: {report} (and report.md beside it)"
    assert (record / "derived" / "report.html").exists()


def test_a_strict_report_of_cells_that_are_not_valid_ends_with_1(call, record):
    for path in record.glob("raw/*/*/cell.json"):
        path.unlink()  # as if the study had ended before them
    assert call("report", record)[0] == 0
    assert call("report", record, "--strict")[0] == exit_codes.INVALID


@pytest.mark.parametrize("verb", ["report", "wandb"])
def test_where_there_is_no_record_it_is_one_line(call, project, verb):
    code, _, err = call(verb)
    assert code == 2
    assert "results" in one_line(err)


def test_wandb_that_is_disabled_writes_nothing(call, record, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    before = sorted(record.rglob("*"))
    code, out, _ = call("wandb")
    assert (code, out) == (0, "W&B is disabled (WANDB_MODE=disabled): nothing was written\n")
    assert sorted(record.rglob("*")) == before


@pytest.mark.slow
def test_offline_wandb_says_how_to_upload_with_a_command_that_exists(record):
    pytest.importorskip("wandb")
    env = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    done = enginebench("wandb", cwd=record.parent.parent, env=env | {"WANDB_MODE": "offline"})
    assert done.returncode == 0, done.stderr
    command = re.search(r"Upload them with: (\S+) sync results/made/wandb/", done.stdout)[1]
    assert (record.parent.parent / command).exists()


# check, kv

HEADER = "model,gpu,batch,in,out,throughput\n"


def test_a_table_with_an_impossible_row_names_it_and_ends_with_1(call, tmp_path):
    # A step reads the 15.0 GB of weights once, at 300 GB/s on an L4: at most 20 steps a second.
    # One sequence gets one token a step: 10 tokens/s are possible, 1000 are not.
    table = tmp_path / "table.csv"
    table.write_text(HEADER + "llama-3-8b,l4,1,128,128,10\n")
    code, out, _ = call("check", table)
    assert code == 0
    table.write_text(HEADER + "llama-3-8b,l4,1,128,128,10\nllama-3-8b,l4,1,128,128,1000\n")
    code, out, _ = call("check", table)
    assert code == exit_codes.INVALID
    assert out.splitlines()[0].startswith("line 3: impossible: llama-3-8b, batch 1: ")
    assert re.search(r"^1 impossible|, 1 impossible", out, re.M)


def test_a_table_with_other_columns_and_an_unknown_precision_are_one_line(call, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("a,b\n1,2\n")
    code, _, err = call("check", table)
    assert (code, "expected columns model, gpu" in one_line(err)) == (2, True)
    code, _, err = call("check", table, "--precision", "float17")
    assert code == 2
    assert one_line(err).startswith("enginebench: --precision: expected one of ")
    assert "found 'float17'" in err


def test_kv_says_how_many_tokens_and_requests_fit(call):
    code, out, _ = call("kv", "llama-3-8b", "--memory-gib", "24", "--share", "1")
    # 2 (keys, values) · 32 layers · 8 heads · 128 · 2 bytes = 131,072 bytes a token. The weights,
    # 8.03e9 · 2 bytes, are 14.96 GiB: of 24 GiB, 9.04 remain: 74,0xx tokens, 18 times 4096.
    assert code == 0
    assert "131,072 bytes a token" in out
    assert re.search(r"so 74,0\d\d tokens fit: 18 requests of 4,096 tokens", out)


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["llama-3-8b", "--memory-gib", "1"], 1, ""),
        (["llama-3-8b"], 2, "expected --gpu or --memory-gib, found neither"),
        (["llama-3-8b", "--gpu", "l5"], 2, "l5"),
        (["llama-3-8b", "--gpu", "l4", "--dtype", "int3"], 2, "--dtype: expected one of"),
        (["llama-3-8b", "--gpu", "l4", "--kv-dtype", "int3"], 2, "--kv-dtype: expected one of"),
        (["./nowhere"], 2, "nowhere"),
    ],
)
def test_kv_of_what_does_not_fit_ends_with_1_and_of_what_is_unknown_with_2(
    call, arguments, code, expected
):
    ended, _, err = call("kv", *arguments)
    assert ended == code
    assert expected in err
    assert len(err.splitlines()) == (code == 2)


# setup, engines, doctor, down, kit


def test_engines_are_listed_with_the_settings_that_each_understands(call, project):
    code, out, _ = call("engines")
    assert code == 0
    assert out.splitlines() == [
        "alpha  settings: BEHAVIOUR, DTYPE, FEATURE",
        "beta  settings: BEHAVIOUR, DTYPE, FEATURE",
    ]


def test_setup_installs_an_engine_once_and_nothing_for_one_that_only_runs_in_a_container(
    call, project, cache
):
    launch_file = add_engine(project, "gamma") / "launch.yaml"
    launch_file.write_text(launch_file.read_text().partition("x-native")[0])
    code, out, _ = call("setup", "alpha", "gamma", "--device", "cpu", "--cache", cache)
    assert code == 0
    assert "installing" not in out  # the cache has alpha's environment
    assert one_line(out) == "gamma: runs only in a container; nothing to install"
    assert call("setup", "nonesuch")[0] == 2


def test_doctor_says_what_this_machine_lacks_and_which_study_runs(call, project):
    write_study(project, study({"engine": "alpha"}, name="cpu"))
    code, out, _ = call("doctor")
    assert code == 0
    assert re.search(r"^lack  Docker: none \(", out, re.M)
    assert re.search(r"^ok    model embedded: ", out, re.M)
    assert out.splitlines()[-1].startswith("so `make study` runs studies/cpu.yaml: ")


def test_down_where_there_is_no_docker_removes_nothing(call):
    code, out, err = call("down")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "removed: nothing"


def test_a_kit_of_an_engine_that_only_runs_in_a_container_is_refused(call, tmp_path):
    out = tmp_path / "kit"
    code, _, err = call("kit", "gpu", "--device", "cuda", "--root", ROOT, "--out", out)
    assert code == 2
    assert "launch.yaml: no x-native key" in one_line(err)
    assert not out.exists()


def test_a_machine_without_memory_is_one_line_and_exit_code_2(call, monkeypatch):
    monkeypatch.setattr("enginebench.record.locating.latest", _raise_memory_error)
    code, _, error = call("report")
    assert code == 2 and one_line(error).startswith("enginebench: out of memory; ")


def _raise_memory_error(*_):
    raise MemoryError

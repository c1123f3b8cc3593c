"""Whole studies against doubles, in real processes: order of steps, failures, cleaning up."""

import json
import os
import shutil
from pathlib import Path

import pytest
from builders import rows_of
from project import (
    add_engine,
    enginebench,
    engines_left,
    make_project,
    metrics,
    pass_on_the_token,
    problems,
    result,
    run_study,
    study,
    write_study,
)

from enginebench.record import reading

GOOD = {"engine": "alpha"}
NAMES = ("alpha", "beta")
SECRET = "hf_" + "x7Kq" * 6
LAUNCH = ["up", "ready", *["warm", "load", "record"] * 3, "down"]


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path, "alpha", "beta")


def steps(project):
    return [row["step"] for row in rows_of(result(project) / "events.jsonl")]


@pytest.fixture(scope="module")
def whole(cache, tmp_path_factory):
    """A study of two engines in two trials that compares answers: its project and how it ended.

    Beta cannot be asked to ignore the end of sequence, and the caller has a token.
    """
    project = make_project(tmp_path_factory.mktemp("whole"), "alpha", "beta")
    launch_file = project / "beta" / "launch.yaml"
    launch_file.write_text(launch_file.read_text() + "x-without-end-of-sequence: true\n")
    pass_on_the_token(launch_file)
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
        rows = [row for row in rows_of(path) if row["phase"] == "measured"]
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
        hashes = [row["prompt_sha256"] for row in rows_of(path)]
        assert len(set(hashes)) == len(hashes)
        seen.setdefault(path.parent.name, set()).add(tuple(hashes))
    assert len(seen) == 3
    assert all(len(versions) == 1 for versions in seen.values())


def test_answers_are_compared_on_prompts_that_nothing_measured_is_asked(whole):
    project, _ = whole
    (found,) = metrics(project)["agreement"]
    assert (found["identical"], found["prompts"], found["unanswered"]) == (2, 2, 0)
    rows = rows_of(result(project) / "raw/trial1_beta_default/agreement.jsonl.gz")
    assert [len(row["token_ids"]) for row in rows] == [6, 6]
    measured = result(project) / "raw/trial1_beta_default/alone-c1/requests.jsonl"
    prompts = {row["prompt_sha256"] for row in rows_of(measured)}
    assert not prompts & {row["prompt_sha256"] for row in rows}


def test_every_start_is_recorded_with_what_its_log_says_of_it(whole):
    starts = [
        json.loads(path.read_text())["start_up"]
        for path in (result(whole[0]) / "raw").glob("*/launch.json")
    ]
    assert [(one["weights_s"], one["init_s"], one["compile_cache"]) for one in starts] == [
        (0.25, None, None)
    ] * 4
    kinds = {row["label"]: (row["kind"], row["starts"]) for row in metrics(whole[0])["start_up"]}
    assert kinds == {"alpha/default": ("not known", 2), "beta/default": ("not known", 2)}


def test_perplexity_is_asked_once_of_each_variant_on_the_prompts_of_the_comparison(whole):
    project, _ = whole
    assert [one["ratio"] for one in metrics(project)["perplexity"]] == [1, 1]
    scored = sorted(path.parent.name for path in result(project).rglob("perplexity.jsonl"))
    assert scored == ["trial1_alpha_default", "trial1_beta_default"]
    where = result(project) / "raw" / scored[0]
    asked = [row["prompt_sha256"] for row in rows_of(where / "agreement.jsonl.gz")]
    assert [row["prompt_sha256"] for row in rows_of(where / "perplexity.jsonl")] == asked


def test_a_token_in_the_environment_is_in_no_file_and_no_output(whole):
    project, done = whole
    assert SECRET not in done.stdout + done.stderr
    # The double prints the token it was given: beta's launch file asks for it, alpha's does not.
    first = {name: next(result(project).glob(f"raw/*_{name}_*/server.log")) for name in NAMES}
    lines = {name: path.read_text().splitlines()[0] for name, path in first.items()}
    assert lines == {"alpha": "no token", "beta": "***"}
    assert {path.stat().st_mode & 0o777 for path in first.values()} == {0o600}
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
def test_a_missing_environment_is_built_first(project, tmp_path):
    done = run_study(project, tmp_path / "no-cache", study(GOOD))
    assert done.returncode == 0, done.stderr
    assert "installing its own Python environment" in done.stdout


@pytest.mark.slow
def test_a_proxy_in_the_environment_is_not_asked_for_this_machine(project, cache):
    env = os.environ | {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    env |= {"NO_PROXY": "", "no_proxy": ""}
    done = run_study(project, cache, study(GOOD), env=env)
    assert done.returncode == 0, done.stderr


def test_one_engine_is_benched_with_its_part_of_a_study(project, cache):
    part = {"engine": "beta", "workloads": ["alone"]}
    write_study(project, study({"engine": "alpha", "variant": "a"}, part))
    done = enginebench(
        "bench", "beta", "--study", "test", "--root", project, "--cache", cache, cwd=project
    )
    assert done.returncode == 0, done.stderr
    assert {cell["label"] for cell in metrics(project)["cells"]} == {"beta/default"}
    ran = reading.read_study(result(project)).study.workloads
    assert [workload.name for workload in ran] == ["alone"]  # none that nobody of it runs


def test_an_engine_that_the_study_does_not_name_is_benched_with_its_defaults(project, cache):
    add_engine(project, "delta")
    write_study(project, study(GOOD, workloads=study()["workloads"][:1]))
    done = enginebench(
        "bench", "delta", "--study", "test", "--root", project, "--cache", cache, cwd=project
    )
    assert done.returncode == 0, done.stderr
    assert {cell["label"] for cell in metrics(project)["cells"]} == {"delta/default"}

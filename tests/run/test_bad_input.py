"""What a study cannot be run with: one line that says what to do, and exit code 2."""

import re

import pytest
from project import (
    make_project,
    run_study,
    study,
    taken_port,
)

GOOD = {"engine": "alpha"}


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path, "alpha", "beta")


def test_a_port_in_use_is_one_line_that_names_the_port(project, cache):
    with taken_port() as port:
        done = run_study(project, cache, study(GOOD, port=port))
    assert done.returncode == 2
    assert f"port {port}: expected a free port" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


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


def test_a_cache_that_cannot_be_written_is_one_line(project, tmp_path):
    (tmp_path / "in-the-way").write_text("")
    done = run_study(project, tmp_path / "in-the-way", study(GOOD))
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1

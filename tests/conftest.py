"""Shared by all tests."""

import os
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent

# `python -m pytest` puts the working directory on the path; from the repository's root, `vllm/`
# would then answer to `import vllm`.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
sys.path.append(str(ROOT / "tests" / "support"))

hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


@pytest.fixture(scope="session")
def sources():
    from enginebench.plan import prompt_files

    return list(prompt_files.read(ROOT / "prompts.txt").texts)


@pytest.fixture(scope="session")
def embedded_model(sources, tmp_path_factory):
    from enginebench.plan import random_model

    return random_model.make(sources, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """The environment of the doubles and the embedded model, made once for all tests."""
    from project import enginebench, make_project

    path = tmp_path_factory.mktemp("cache")
    project = make_project(tmp_path_factory.mktemp("first"), "alpha")
    done = enginebench("setup", "--root", project, "--cache", path, cwd=project)
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """A directory with the stub of NVML, for the loader's path."""
    path = tmp_path_factory.mktemp("nvml")
    flags = ["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    target = path / "libnvidia-ml.so.1"
    subprocess.run(
        ["cc", *flags, "-o", target, ROOT / "tests" / "support" / "nvml_stub.c"], check=True
    )
    return path


@pytest.fixture(autouse=True, scope="session")
def engines_run_as_processes():
    """Whatever this machine has: tests of containers say so themselves."""
    os.environ["ENGINEBENCH_RUNNER"] = "process"

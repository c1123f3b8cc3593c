"""Which study runs, and as what, where nobody says: by what the machine has."""

import pytest
from project import ROOT, enginebench, make_project, study, write_study

from enginebench.hardware import machine
from enginebench.hardware.nvml import GpuFacts
from enginebench.launch import compose, docker_daemon
from enginebench.run import profile

GPU = [GpuFacts("NVIDIA L4", 24 << 30, "1", mig=False)]
COMPOSE = compose.Compose(("docker", "compose"), "2.40")


class Daemon:
    version = "28.2"

    def __init__(self, runs_gpus=True):
        self.runs_gpus = runs_gpus


@pytest.fixture
def choose(monkeypatch):
    def chosen(gpus, daemon, found_compose=COMPOSE, **asked):
        monkeypatch.setattr(machine, "gpus", lambda: gpus)
        monkeypatch.setattr(docker_daemon, "connect", lambda: daemon)
        monkeypatch.setattr(compose, "find", lambda: found_compose)
        # A daemon that does not answer is a reason in words.
        monkeypatch.setattr(docker_daemon, "Docker", Daemon)
        return profile.choose(**asked)

    return chosen


@pytest.mark.parametrize(
    ("gpus", "daemon", "study", "device", "runner", "why"),
    [
        (GPU, Daemon(), "gpu", "cuda", "container", "found NVIDIA L4, found Docker 28.2"),
        ([], Daemon(), "cpu", "cpu", "container", "no GPU found, found Docker 28.2"),
        ([], "Connection refused", "cpu", "cpu", "process", "no Docker (Connection refused)"),
        (
            GPU,
            "Permission denied",
            "gpu-llama-2-7b",
            "cuda",
            "process",
            "no Docker (Permission denied)",
        ),
        (GPU, Daemon(runs_gpus=False), "gpu-llama-2-7b", "cuda", "process", "without the NVIDIA"),
    ],
)
def test_the_machine_decides_and_says_why(choose, gpus, daemon, study, device, runner, why):
    found = choose(gpus, daemon)
    assert (found.study, found.device, found.runner) == (study, device, runner)
    assert why in found.why


def test_docker_without_compose_runs_no_containers(choose):
    found = choose([], Daemon(), None)
    assert found.runner == "process"
    assert "Docker 28.2 without compose" in found.why


def test_what_is_asked_for_is_done_and_said(choose):
    found = choose(GPU, Daemon(), device="cpu", runner="process")
    assert (found.study, found.device, found.runner) == ("cpu", "cpu", "process")
    assert "cpu asked for" in found.why and "as asked for" in found.why
    assert choose([], Daemon(), device="cuda").study == "gpu"  # refused later, if it cannot be


def test_every_study_that_may_be_chosen_is_there():
    for name in profile.STUDIES.values():
        assert (ROOT / "studies" / f"{name}.yaml").exists()


def test_a_study_for_a_gpu_is_refused_where_there_is_none(tmp_path, cache):
    project = make_project(tmp_path, "alpha")
    file = write_study(project, study({"engine": "alpha"}, device="cuda"))
    done = enginebench("study", file, "--root", project, "--cache", cache, cwd=project)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "expected an NVIDIA GPU for this study, found none" in line

"""`enginebench doctor` on machines that have different things: each gets its own true answer."""

import os
import shutil

import pytest
from project import ROOT, enginebench

WITHOUT_DOCKER = {"DOCKER_HOST": "unix:///nowhere/docker.sock", "ENGINEBENCH_RUNNER": ""}


def examined(**env):
    """What doctor says, by what it says it of: the mark and the text."""
    done = enginebench("doctor", "--root", ROOT, cwd=ROOT, env=os.environ | env)
    assert done.returncode == 0, done.stderr
    told, last = {}, ""
    for line in done.stdout.splitlines():
        mark, _, text = line.partition("  ")
        if mark in ("ok", "lack"):
            last, _, found = text.strip().partition(": ")
            told[last] = [mark, found]
        elif line.startswith("        "):
            told[last].append(line.strip())
    return told, done.stdout.splitlines()[-1]


def test_a_machine_without_docker_and_gpu_runs_processes_on_its_cpu():
    told, verdict = examined(**WITHOUT_DOCKER, HF_TOKEN="")
    assert told["Docker"][:2] == ["lack", "none (No such file or directory)"]
    assert "start it" in told["Docker"][2]
    assert told["GPU"][0] == "lack"
    assert "GPU in Docker" not in told
    assert told["HF_TOKEN"][0] == "lack"
    assert told["ports"][0] == "ok"
    assert "studies/cpu.yaml: no GPU found, no Docker" in verdict
    assert "processes of their own" in verdict


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler (cc) for the stub")
def test_a_machine_with_a_gpu_says_which_and_what_containers_lack(library):
    secret = "hf_" + "q9Zw" * 6
    told, verdict = examined(**WITHOUT_DOCKER, LD_LIBRARY_PATH=str(library), HF_TOKEN=secret)
    assert told["GPU"] == ["ok", "Scripted GPU 0 40 GiB; driver 000.00.scripted"]
    assert told["GPU in Docker"][:2] == ["lack", "no Docker"]
    assert told["HF_TOKEN"] == ["ok", "set"]
    assert "found Scripted GPU 0, no Docker" in verdict
    assert secret not in str(told)


@pytest.mark.containers
def test_a_machine_with_docker_and_no_gpu_runs_containers():
    told, verdict = examined(ENGINEBENCH_RUNNER="")
    assert told["Docker"][0] == told["compose"][0] == "ok"
    assert told["GPU"][0] == "lack"
    assert "no GPU found, found Docker" in verdict
    assert verdict.endswith("engines run in containers")

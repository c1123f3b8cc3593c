"""Starting and ending a real process that stands for an engine."""

import os
import sys
import time
from pathlib import Path

import pytest

from enginebench.base import linux, proc
from enginebench.engines.dialect import Dialect
from enginebench.engines.directory import Engine
from enginebench.launch import process

pytestmark = pytest.mark.serial

#: Starts a daemon as they have always been started: a session of its own, and two forks.
DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        if {clears}:
            os.execve(sys.executable, [sys.executable, "-c", {rest!r}], {{"PATH": "/bin"}})
        exec({rest!r})
    os._exit(0)
print("up", flush=True)
time.sleep(60)
"""
REST = "import os, time; open({path!r}, 'w').write(str(os.getpid())); time.sleep(60)"


@pytest.fixture(autouse=True)
def orphans_of_other_tests():
    yield
    linux.adopt_orphans(False)


def engine(**changes):
    dialect = Dialect(generate_path="/", body=lambda _: {}, read=lambda _: None, metrics={})
    return Engine("double", Path(), dialect, None, (), {}, **changes)


def start(code, directory, of=None, **env):
    command = process.Command((sys.executable, "-c", code), env, 1)
    return process.start(of or engine(), command, directory)


def wait_for(condition, seconds=10):
    until_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.02)


@pytest.mark.parametrize("clears", [False, True], ids=["with its mark", "without environment"])
def test_a_daemon_that_an_engine_has_started_is_ended_with_it(tmp_path, clears):
    path = tmp_path / "pid"
    code = DAEMON.format(clears=clears, rest=REST.format(path=str(path)))
    server = start(code, tmp_path)
    wait_for(lambda: path.exists() and path.read_text())
    daemon = proc.read(path.read_text())
    assert daemon.session != server.pid
    server.stop(lambda: False)
    assert proc.read(daemon.pid) is None  # and nobody has to wait for it any more
    assert proc.read(server.pid) is None


def test_processes_of_another_start_are_left_alone(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one = start("import time; time.sleep(60)", tmp_path / "one")
    two = start("import time; time.sleep(60)", tmp_path / "two")
    one.stop(lambda: False)
    assert (one.death() is None, two.death()) == (False, None)
    two.stop(lambda: False)


def test_an_engine_that_died_by_a_real_time_signal_is_dead_in_words(tmp_path):
    server = start("import os, signal; os.kill(os.getpid(), signal.SIGRTMIN + 5)", tmp_path)
    wait_for(lambda: server.death() is not None)
    assert server.death() == "the engine's process was killed by SIGRTMIN+5"
    server.stop(lambda: False)


def test_an_engine_gets_no_secret_that_its_launch_file_does_not_name(monkeypatch):
    for name in ("WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "MY_TOKEN"):
        monkeypatch.setenv(name, "of the caller")
    monkeypatch.setenv("ALL_PROXY", "http://ada:secret@proxy:1")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    found = process.inherited_environment(engine(passed=("HF_TOKEN", "WANDB_API_KEY")))
    assert found["OMP_NUM_THREADS"] == "3" and found["PATH"] == os.environ["PATH"]
    assert found["HF_TOKEN"] == "of the caller"
    assert not {"WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "MY_TOKEN", "ALL_PROXY"} & set(found)


def test_what_an_engine_prints_is_redacted_while_it_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_abcdef")
    code = "import os, time; print(os.environ['HF_TOKEN'], flush=True); time.sleep(60)"
    server = start(code, tmp_path, engine(passed=("HF_TOKEN",)))
    try:
        wait_for(lambda: server.log_text() != "")
        assert (tmp_path / "server.log").read_text() == "***\n"
        assert server.log_tail() == ["***"]
    finally:
        server.stop(lambda: False)

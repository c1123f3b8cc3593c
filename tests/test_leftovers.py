import os
import subprocess
import sys

import psutil

from enginebench import leftovers

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]


def started(mark):
    env = os.environ | ({leftovers.MARK: mark} if mark else {})
    process = subprocess.Popen(SLEEP, env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "up\n"
    return process


def test_only_what_a_dead_harness_has_started_is_ended():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    dead = f"{gone.pid}-{psutil.Process(gone.pid).create_time() * 100:.0f}"
    gone.wait()
    # Another process may have the number of a dead one: it was started at another time.
    reused = f"{os.getpid()}-{psutil.Process().create_time() * 100 - 500:.0f}"
    others = [started(None), started(leftovers.mark())]
    orphans = [started(dead), started(reused)]
    said = []
    try:
        leftovers.end(said.append)
        assert not any(psutil.pid_exists(process.pid) for process in orphans)
        assert [process.poll() for process in others] == [None, None]
        (line,) = said
        assert all(f"({process.pid})" in line for process in orphans)
        said.clear()
        leftovers.end(said.append)
        assert said == []
    finally:
        for process in (*others, *orphans):
            process.kill()
            process.communicate()

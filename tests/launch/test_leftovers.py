import os
import subprocess
import sys

import psutil

from enginebench.launch import leftovers

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]


def started(mark):
    env = os.environ | ({leftovers.MARK: mark} if mark else {})
    process = subprocess.Popen(SLEEP, env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "up\n"
    return process


def test_only_what_a_dead_harness_has_started_is_ended():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    dead = leftovers._mark(psutil.Process(gone.pid))
    gone.wait()
    # Another process may have the number of a dead one: it was started at another time.
    host, pid, started_at = leftovers.mark().split("-")
    reused = f"{host}-{pid}-{int(started_at) - 500}"
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


def test_a_containers_name_tells_whose_it_was():
    host, pid, started_at = leftovers.mark().split("-")
    assert leftovers.name_prefix() == f"enginebench-{host}-{pid}-{started_at}"
    gone = f"{int(started_at) - 500}"
    orphan = f"enginebench-{host}-{pid}-{gone}-trial1_vllm_default"
    assert leftovers._is_orphan(orphan)
    assert not leftovers._is_orphan(f"{leftovers.name_prefix()}-trial1_vllm_default")
    # Another machine may use the same daemon: whether its harness lives cannot be seen from here.
    assert not leftovers._is_orphan(orphan.replace(host, "000000"))
    assert not leftovers._is_orphan("vllm_vllm_1")

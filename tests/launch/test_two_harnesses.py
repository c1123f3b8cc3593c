"""A second harness in other namespaces, under another host name: it ends nothing that is alive."""

import os
import shutil
import subprocess
import sys

import pytest

from enginebench.base import proc
from enginebench.launch import leftovers

IS_ROOT = os.geteuid() == 0
USER = [] if IS_ROOT else ["--user", "--map-root-user"]
NAMESPACES = ["unshare", *USER, "--uts", "--pid", "--fork"]
RENAMED = ["sh", "-c", 'hostname elsewhere && exec "$@"', "sh"]
#: A harness that starts a double, and says its number.
HARNESS = """
import subprocess, sys, time
from enginebench.launch import leftovers
env = {leftovers.VARIABLE: leftovers.launch_mark()}
code = "import os, time; print(os.readlink('/proc/self'), flush=True); time.sleep(60)"
double = subprocess.Popen([sys.executable, "-c", code], env=env)
input()
"""
#: Another one, which looks for leftovers: only looks, as others use this machine too.
FINDER = """
from enginebench.base import proc
from enginebench.launch import leftovers
print(*[process.pid for process in leftovers.find()])
print(*[process.pid for process in leftovers._marked(lambda mark: True, proc.PROC)])
"""


def works():
    done = subprocess.run([*NAMESPACES, "true"], capture_output=True) if has_unshare else None
    return done is not None and done.returncode == 0


has_unshare = shutil.which("unshare") is not None
pytestmark = [
    pytest.mark.serial,
    pytest.mark.slow,
    pytest.mark.skipif(not works(), reason="needs user namespaces (unshare)"),
]


@pytest.fixture(params=["host", "namespaces", "namespaces and its own /tmp"])
def places(request, tmp_path):
    """Where the first harness runs, where the second; each a command's beginning and a TMPDIR."""
    inside = [*NAMESPACES, *RENAMED]
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    if request.param == "host":
        return ([], tmp_path / "one"), (inside, tmp_path / "one")
    same = request.param == "namespaces"
    return (inside, tmp_path / "one"), ([], tmp_path / ("one" if same else "two"))


def python(place, code, **options):
    begin, temporary = place
    env = os.environ | {"TMPDIR": str(temporary)}
    return subprocess.Popen(
        [*begin, sys.executable, "-P", "-c", code],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


def test_the_engine_of_a_living_harness_is_left_alone_wherever_the_other_one_runs(places):
    first, second = places
    with python(first, HARNESS) as harness:
        try:
            double = int(harness.stdout.readline())
            for place in (first, second):
                gone, marked = python(place, FINDER).communicate(timeout=30)[0].splitlines()
                assert str(double) not in gone.split()
                if IS_ROOT:  # otherwise the environment of a process outside cannot be read
                    assert str(double) in marked.split()
        finally:
            _end(double)
            harness.stdin.close()


def _end(pid):
    process = proc.read(pid)
    leftovers.kill([] if process is None else [process])

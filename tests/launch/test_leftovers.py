import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from enginebench.launch import docker_daemon, leftovers, owner

pytestmark = pytest.mark.serial  # any study ends what is left behind on the machine

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
MARK = "from enginebench.launch import owner; print(owner.mark())"


def started(mark):
    env = os.environ | ({leftovers.VARIABLE: mark} if mark else {})
    process = subprocess.Popen(SLEEP, env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "up\n"
    return process


@pytest.fixture(scope="module")
def dead():
    """The mark of a harness that has ended."""
    return subprocess.check_output([sys.executable, "-P", "-c", MARK], text=True).strip()


def ended(orphans, others):
    """What is said of an end of leftovers; the orphans are gone after it, and the others not."""
    said = []
    try:
        leftovers.end(said.append)
        for process in orphans:
            process.wait(10)  # by themselves they would live for a minute
        assert [process.poll() for process in others] == [None] * len(others)
    finally:
        for process in (*orphans, *others):
            process.kill()
            process.communicate()
    return said


def test_only_what_a_dead_harness_has_started_is_ended(dead):
    # Another process may have the number of a dead one: it was started at another time.
    place, pid, ticks = owner.mark().split("-")
    reused = f"{place}-{pid}-{int(ticks) - 500}"
    for _ in range(5):  # a study elsewhere on this machine may have been quicker
        orphans = [started(f"{dead}/1"), started(f"{reused}/2")]
        said = "\n".join(ended(orphans, [started(None), started(f"{owner.mark()}/1")]))
        if all(f"({process.pid})" in said for process in orphans):
            break
    else:
        raise AssertionError(said)
    assert said.startswith("ended what a killed enginebench had left behind: ")


class Listed:
    """A container or a network of a Docker daemon that is only a list."""

    def __init__(self, everything, name, project):
        self.everything, self.name = everything, name
        self.labels = {leftovers.PROJECT: project}
        self.attrs = {"Labels": self.labels}
        everything.append(self)

    def remove(self, **_):
        self.everything.remove(self)


@pytest.fixture
def daemon(monkeypatch):
    """Containers and networks; ``names`` says what is left of them."""
    containers, networks = [], []
    client = SimpleNamespace(
        containers=SimpleNamespace(list=lambda **_: list(containers)),
        networks=SimpleNamespace(list=lambda **_: list(networks)),
    )
    monkeypatch.setattr(docker_daemon, "connect", lambda: SimpleNamespace(client=client))
    return SimpleNamespace(
        container=lambda name, project: Listed(containers, name, project),
        network=lambda name, project: Listed(networks, name, project),
        names=lambda: [thing.name for thing in (*containers, *networks)],
    )


def test_of_a_dead_harness_of_this_machine_containers_and_networks_are_removed(daemon, dead):
    orphan = f"enginebench-{dead}-trial1_vllm_default"
    daemon.container(f"{orphan}-1", orphan)
    daemon.network(f"{orphan}_default", orphan)
    said = []
    leftovers.end(said.append)
    assert daemon.names() == []
    assert said == [
        "removed what a killed enginebench had left behind: "
        f"container {orphan}-1, network {orphan}_default"
    ]


def test_what_a_living_harness_or_another_machine_or_a_person_has_is_left_alone(daemon, dead):
    mine = f"{leftovers.name_prefix()}-trial1_vllm_default"
    # Whether a harness of another machine lives cannot be seen from here.
    theirs = f"enginebench-{'0' * 16}-{dead.partition('-')[2]}-trial1_vllm_default"
    for project in (mine, theirs, "vllm"):
        daemon.container(f"{project}-1", project)
        daemon.network(f"{project}_default", project)
    before = daemon.names()
    assert len(before) == 6
    said = []
    leftovers.end(said.append)
    assert daemon.names() == before
    assert said == []


def test_a_containers_name_begins_with_the_mark_of_its_harness():
    assert leftovers.name_prefix() == f"enginebench-{owner.mark()}"

"""What a daemon's answer to ``docker info`` becomes; no daemon is needed here."""

from pathlib import Path

import pytest

from enginebench.launch import docker_daemon


@pytest.mark.parametrize(
    ("info", "runs_gpus"),
    [
        ({"Runtimes": {"runc": {}, "nvidia": {}}}, True),
        ({"Runtimes": {"runc": {}}, "DiscoveredDevices": [{"ID": "nvidia.com/gpu=0"}]}, True),
        ({"Runtimes": {"runc": {}}, "DiscoveredDevices": None}, False),
        ({}, False),
    ],
)
def test_a_daemon_runs_gpus_by_its_runtime_or_by_its_devices(info, runs_gpus):
    assert docker_daemon._described(None, "28", info).runs_gpus is runs_gpus


def test_where_a_daemon_keeps_images_is_not_known_unless_it_is_stated():
    assert docker_daemon._described(None, "28", {}).root is None
    assert docker_daemon._described(None, "28", {"DockerRootDir": "/d"}).root == Path("/d")

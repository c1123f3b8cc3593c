"""What Docker's own words about a container become; no daemon is needed here."""

import pytest

from enginebench.launch import container_observer
from enginebench.launch.server import ContainerSample


def state(code, oom=False):
    return {"ExitCode": code, "OOMKilled": oom}


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (state(3), "the engine's container ended with exit code 3"),
        (state(0), "the engine's container ended with exit code 0"),
        (state(137), "the engine's container was killed by SIGKILL"),
        (state(139), "the engine's container was killed by SIGSEGV"),
        (state(255), "the engine's container ended with exit code 255"),
        (
            state(137, oom=True),
            "the engine's container ran out of its memory limit (OOM, exit code 137)",
        ),
    ],
)
def test_how_a_container_ended_is_said_in_words(found, text):
    assert container_observer.death_text(found) == text


def test_memory_is_counted_without_the_file_cache_that_could_be_dropped():
    first = {"usage": 1000, "limit": 5000, "stats": {"total_inactive_file": 300, "rss": 650}}
    second = {"usage": 1000, "limit": 5000, "stats": {"inactive_file": 200, "anon": 700}}
    cpu = {"cpu_usage": {"total_usage": 2_500_000_000}}
    for memory, used in ((first, 700), (second, 800)):
        row = container_observer.sample({"memory_stats": memory, "cpu_stats": cpu}, 1.0)
        assert row == ContainerSample(1.0, used, 5000, 2.5)


def test_a_container_that_has_gone_has_no_figures():
    assert container_observer.sample({"memory_stats": {}, "cpu_stats": {}}, 1.0) is None

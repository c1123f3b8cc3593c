"""What Docker's own words about a container become; no daemon is needed here."""

import pytest
from builders import GIB

from enginebench.base.errors import EngineError
from enginebench.launch import container_observer, images
from enginebench.launch.device_free import await_free, gpu_holders


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
    wanted = {"memory_limit_bytes": 5000, "cpu_s": 2.5}
    assert container_observer.meters({"memory_stats": first, "cpu_stats": cpu}) == wanted | {
        "memory_bytes": 700
    }
    assert container_observer.meters({"memory_stats": second, "cpu_stats": cpu}) == wanted | {
        "memory_bytes": 800
    }


def test_a_container_that_has_gone_has_no_figures():
    assert container_observer.meters({"memory_stats": {}, "cpu_stats": {}}) == {
        "memory_bytes": None,
        "memory_limit_bytes": None,
        "cpu_s": None,
    }


def row(used, processes=None):
    return {"index": 1, "memory_used_bytes": used, "processes": processes}


def test_the_holder_of_a_gpus_memory_is_named():
    assert gpu_holders(row(9 * GIB, {"999999999": 8 * GIB}), 80 * GIB) == [
        "process 999999999 on GPU 1 (8.0 GiB)"
    ]
    assert gpu_holders(row(9 * GIB), 80 * GIB) == [
        "somebody that NVML does not name on GPU 1 (9.0 GiB)"
    ]


def test_what_a_driver_holds_by_itself_is_free_memory():
    assert gpu_holders(row(1 * GIB, {"999999999": GIB}), 80 * GIB) == []
    assert gpu_holders(row(None), None) == []  # not told: nothing to go by


def test_memory_that_gets_free_is_waited_for_and_memory_that_does_not_is_refused():
    answers = [["one"], ["one"], []]
    await_free(lambda: answers.pop(0), "vllm", 60)
    assert answers == []
    with pytest.raises(EngineError, match=r"vllm: not started: after 0 s .*held by a; b; end that"):
        await_free(lambda: ["a", "b"], "vllm", 0)


def test_a_pull_says_how_far_it_is():
    layers = [(1 << 30, 2 << 30), (1 << 30, 2 << 30)]
    assert images.progress_text(layers, 30) == "2.0 of 4.0 GiB pulled, about 30 s left"
    assert images.progress_text([], 30) == "waiting for the registry"

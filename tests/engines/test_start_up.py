"""What the logs of engines say of their starts."""

import pytest
import yaml
from project import ROOT, add_engine

from enginebench.base.errors import UserError
from enginebench.engines import start_up
from enginebench.engines.directory import load_engine
from enginebench.engines.start_up import StartUp

# Lines of vLLM 0.32.0 on a CPU, first and second start.
COLD = """\
(Worker pid=17088) INFO [base_loader.py:82] Initializing model took 0.161591 seconds
(Worker pid=17088) INFO [default_loader.py:501] Loading weights took 0.12 seconds
(Worker pid=17088) INFO [decorators.py:743] [backbone] saved AOT compiled function to x
INFO [core.py:402] init engine (profile, create kv cache, warmup model) took 48.08 s
"""
LOAD_FAILED = "Compiling model again due to a load failure from x, reason: y\n"
# Written from its sources: on a GPU, with a draft model, its compiled graphs from the cache.
ON_A_GPU = """\
Loading weights took 24.84 seconds
Loading weights took 1.16 seconds
Directly load the compiled graph(s) for compile range (1, 2048) from the cache, took 2.1 s
[backbone] torch.compile took 5.50 s in total
[eagle_head] torch.compile and initial profiling/warmup run together took 1.25 s in total
Graph capturing finished in 7 secs, took 0.53 GiB
init engine (profile, create kv cache, warmup model) took 21.50 s (compilation: 6.75 s)
"""


def read(engine, log):
    return start_up.read(load_engine(ROOT, engine).start_up, log)


@pytest.mark.parametrize(
    ("engine", "log", "found"),
    [
        ("vllm", COLD, StartUp(weights_s=0.12, init_s=48.08, compile_cache="new")),
        (
            "vllm",
            COLD + LOAD_FAILED,
            StartUp(weights_s=0.12, init_s=48.08, compile_cache="found"),
        ),
        ("vllm", ON_A_GPU, StartUp(26.0, 6.75, 7.0, 21.5, "found")),  # 24.84 + 1.16, 5.5 + 1.25
        ("vllm", "", StartUp()),
        ("trtllm", "Model init total -- 49.14s\n", StartUp(weights_s=49.14)),
        (
            "baseline",
            "start-up: weights=0.714 init=9.250 compile=8.125 cache=new\n",
            StartUp(0.714, 8.125, None, 9.25, "new"),
        ),
        ("baseline", "start-up: weights=0.714 init=0.250\n", StartUp(0.714, init_s=0.25)),
        ("tgi", "INFO shard-manager: Shard ready in 18.016616627s rank=0\n", StartUp()),
    ],
)
def test_a_log_gives_the_seconds_that_it_states_and_no_others(engine, log, found):
    assert read(engine, log) == found


def test_a_time_that_is_no_number_is_not_measured():
    patterns = {"weights": r"took (\S+)", "compile": r"built in (\S*) s"}
    assert start_up.read(patterns, "took 1.2.3\nbuilt in  s") == StartUp()
    assert start_up.read(patterns, f"took 1\ntook {'9' * 400}\nbuilt in nan s") == StartUp()


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("x-start-up: 5", "a int in place of the patterns of x-start-up"),
        ("x-start-up: {load: 'x (.*)'}", "'load', which is none of weights, compile"),
        ("x-start-up: {weights: took}", "x-start-up.weights: 0 groups in place of 1"),
        ("x-start-up: {cache_new: '(a)'}", "x-start-up.cache_new: 1 groups in place of 0"),
        ("x-start-up: {weights: '('}", "x-start-up.weights: '(', no pattern"),
        ("x-start-up: {weights: 3}", "x-start-up.weights: 3, no pattern"),
        ("x-start-up: {weights: 'a{9999999999999}()'}", "no pattern"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_refused_in_one_line(tmp_path, key, reason):
    file = add_engine(tmp_path, "one") / "launch.yaml"
    launch = yaml.safe_load(file.read_text())
    del launch["x-start-up"]
    file.write_text(f"{yaml.safe_dump(launch)}{key}\n")
    with pytest.raises(UserError) as caught:
        load_engine(tmp_path, "one")
    assert reason in caught.value.message and "\n" not in caught.value.message

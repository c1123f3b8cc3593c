"""The four launch files as compose resolves them: alike where a comparison needs it."""

import functools
import os
import re
import shutil
import subprocess

import pytest
import yaml
from project import ROOT

from enginebench.engines.directory import HARNESS_VARIABLES, load_engine
from enginebench.engines.interpolation import interpolate

ENGINES = ("baseline", "tgi", "trtllm", "vllm")
PATHS = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "MODEL": "/models/m"}
COMPOSE = {"compose 1": ["docker-compose"], "compose 2": ["docker", "compose"]}


def is_there(command):
    if shutil.which(command[0]) is None:
        return False
    done = subprocess.run([*command, "version"], capture_output=True, text=True)
    wanted = "1." if command == ["docker-compose"] else "2."
    return done.returncode == 0 and bool(re.search(rf"version v?{re.escape(wanted)}", done.stdout))


def by_compose(command, file, env):
    return yaml.safe_load(resolved(tuple(command), file, tuple(env.items())))


@functools.cache  # each call takes the better part of a second
def resolved(command, file, env):
    done = subprocess.run(
        [*command, "-f", str(file), "config"],
        env=PATHS | dict(env),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (service,) = yaml.safe_load(done.stdout)["services"].values()
    return yaml.safe_dump(service)


def by_ourselves(file, env):
    """Flags and environment only, which is all that the equalised settings stand in."""
    engine = load_engine(file.parent.parent, file.parent.name)
    values = PATHS | env
    return {
        "command": [interpolate(flag, values, "") for flag in engine.flags],
        "environment": {k: interpolate(text, values, "") for k, text in engine.env.items()},
    }


@pytest.fixture(params=["ourselves", *(pytest.param(c, marks=pytest.mark.slow) for c in COMPOSE)])
def resolve(request):
    if request.param == "ourselves":
        return lambda engine, **env: by_ourselves(ROOT / engine / "launch.yaml", env)
    command = COMPOSE[request.param]
    if not is_there(command):
        pytest.skip(f"{request.param} is not installed")
    return lambda engine, **env: by_compose(command, ROOT / engine / "launch.yaml", env)


def flag(name):
    def find(service):
        texts = [word.removeprefix(f"{name}=") for word in service["command"] if name + "=" in word]
        return yaml.safe_load(texts[0]) if len(texts) == 1 else texts

    return find


def switch(name, value):
    return lambda service: value if name in service["command"] else None


def variable(name):
    return lambda service: yaml.safe_load(str(service["environment"].get(name)))


def option(*names):
    """A value in the options file that TensorRT-LLM is given through the environment."""

    def find(service):
        value = yaml.safe_load(service["environment"]["LLM_OPTIONS"])
        for name in names:
            value = value[name]
        return value

    return find


#: What must be the same: its value by default, and where each engine has it. The baseline has
#: no cache to share prefixes in, sizes one in blocks, and prefills in pieces where it batches
#: continuously; README.md of an engine says what else it lacks.
EQUAL = {
    "dtype": (
        "bfloat16",
        {
            "baseline": flag("--dtype"),
            "vllm": flag("--dtype"),
            "tgi": flag("--dtype"),
            "trtllm": option("dtype"),
        },
    ),
    "longest sequence": (
        2048,
        {
            "baseline": flag("--max-model-len"),
            "vllm": flag("--max-model-len"),
            "tgi": flag("--max-total-tokens"),
            "trtllm": flag("--max_seq_len"),
        },
    ),
    "requests in a batch": (
        256,
        {
            "baseline": flag("--max-num-seqs"),
            "vllm": flag("--max-num-seqs"),
            "tgi": flag("--max-batch-size"),
            "trtllm": flag("--max_batch_size"),
        },
    ),
    "tokens in a step": (
        2048,
        {
            "baseline": flag("--max-batch-tokens"),
            "vllm": flag("--max-num-batched-tokens"),
            "tgi": flag("--max-batch-prefill-tokens"),
            "trtllm": flag("--max_num_tokens"),
        },
    ),
    "share of the memory": (
        0.90,
        {
            "vllm": flag("--gpu-memory-utilization"),
            "tgi": flag("--cuda-memory-fraction"),
            "trtllm": option("kv_cache_config", "free_gpu_memory_fraction"),
        },
    ),
    "prefix cache": (
        False,
        {
            "vllm": switch("--no-enable-prefix-caching", False),
            "tgi": lambda service: bool(variable("PREFIX_CACHING")(service)),
            "trtllm": option("kv_cache_config", "enable_block_reuse"),
        },
    ),
    "chunked prefill": (
        True,
        {
            "vllm": switch("--enable-chunked-prefill", True),
            "tgi": lambda service: bool(variable("PREFILL_CHUNKING")(service)),
            "trtllm": option("enable_chunked_prefill"),
        },
    ),
}
#: The variable that sets it for all at once, and a value other than the default.
CHANGED = {
    "dtype": ("DTYPE", "float16"),
    "longest sequence": ("MAX_MODEL_LEN", 1024),
    "requests in a batch": ("MAX_NUM_SEQS", 64),
    "tokens in a step": ("MAX_NUM_BATCHED_TOKENS", 4096),
    "share of the memory": ("GPU_MEMORY_UTILIZATION", 0.5),
}
CELLS = [(setting, engine) for setting, (_, where) in EQUAL.items() for engine in where]


@pytest.mark.parametrize("engine", ENGINES)
def test_every_equalised_setting_has_the_value_of_the_table(engine, resolve):
    service = resolve(engine)
    expected = {setting: value for setting, (value, where) in EQUAL.items() if engine in where}
    found = {setting: EQUAL[setting][1][engine](service) for setting in expected}
    assert found == expected


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("settings", [{}, {"DTYPE": "float16"}])
def test_the_dtype_on_record_is_the_one_that_the_engine_is_given(engine, settings, resolve):
    given = EQUAL["dtype"][1][engine](resolve(engine, **settings))
    assert load_engine(ROOT, engine).dtype_under(settings) == given


@pytest.mark.parametrize("engine", ENGINES)
def test_one_variable_changes_a_setting_for_every_engine(engine, resolve):
    service = resolve(engine, **{name: str(value) for name, value in CHANGED.values()})
    for setting, (_, value) in CHANGED.items():
        if engine in EQUAL[setting][1]:
            assert EQUAL[setting][1][engine](service) == value, setting


#: For each cell of the table, an edit of one launch file that changes this setting there alone.
EDITS = {
    "dtype": ("${DTYPE:-bfloat16}", "${DTYPE:-float16}"),
    "longest sequence": ("${MAX_MODEL_LEN:-2048}", "4096"),
    "requests in a batch": ("${MAX_NUM_SEQS:-256}", "${MAX_NUM_SEQS:-128}"),
    "tokens in a step": ("${MAX_NUM_BATCHED_TOKENS:-2048}", "8192"),
    "share of the memory": ("UTILIZATION:-0.90}", "UTILIZATION:-0.92}"),
    ("prefix cache", "vllm"): ("PREFIX_CACHE:-no-enable}", "PREFIX_CACHE:-enable}"),
    ("prefix cache", "tgi"): ("PREFIX_CACHE:-0}", "PREFIX_CACHE:-1}"),
    ("prefix cache", "trtllm"): ("PREFIX_CACHE:-false}", "PREFIX_CACHE:-true}"),
    ("chunked prefill", "vllm"): ("CHUNKED_PREFILL:-enable}", "CHUNKED_PREFILL:-no-enable}"),
    ("chunked prefill", "tgi"): ("CHUNKED_PREFILL:-1}", "CHUNKED_PREFILL:-0}"),
    ("chunked prefill", "trtllm"): ("CHUNKED_PREFILL:-true}", "CHUNKED_PREFILL:-false}"),
}


@pytest.mark.parametrize(("setting", "engine"), CELLS)
def test_a_change_of_one_engines_setting_alone_is_seen(setting, engine, tmp_path):
    old, new = EDITS.get((setting, engine)) or EDITS[setting]
    shutil.copytree(ROOT / engine, tmp_path / engine)
    file = tmp_path / engine / "launch.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    value, where = EQUAL[setting]
    assert where[engine](by_ourselves(file, {})) != value


@pytest.fixture(params=list(COMPOSE))
def compose(request):
    command = COMPOSE[request.param]
    if not is_there(command):
        pytest.skip(f"{request.param} is not installed")
    return lambda engine, **env: by_compose(command, ROOT / engine / "launch.yaml", env)


def has_gpu(service):
    resources = service.get("deploy", {}).get("resources", {})
    devices = resources.get("reservations", {}).get("devices", ())
    return [(device["driver"], int(device["count"])) for device in devices] == [("nvidia", 1)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.slow
def test_a_container_is_what_the_base_says(engine, compose):
    service = compose(engine, HF_TOKEN="hf_not_to_be_seen", PORT="8123")
    (volume,) = service["volumes"]
    as_text = volume if isinstance(volume, str) else f"{volume['source']}:{volume['target']}:ro"
    assert as_text == "/models/m:/models/m:ro"
    assert isinstance(volume, str) or volume["read_only"]
    assert "127.0.0.1" in str(service["ports"]) and "8123" in str(service["ports"])
    assert service["ipc"] == "host"
    assert service["ulimits"] == {"memlock": -1, "stack": 67108864}
    assert service["labels"]["enginebench"] == "engine"
    assert ":8123/health" in service["healthcheck"]["test"][-1]
    assert service["restart"] == "no"
    assert service["environment"].pop("HF_TOKEN") == "hf_not_to_be_seen"  # there and only there
    assert "hf_not_to_be_seen" not in str(service)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.slow
def test_images_are_pinned_and_on_a_cpu_no_gpu_is_reserved(engine, compose):
    assert has_gpu(compose(engine))
    cpu_image = load_engine(ROOT, engine).cpu_image
    if engine == "trtllm":
        assert cpu_image is None  # there is none: it needs a GPU
        return
    service = compose(engine, DEVICE="cpu", IMAGE=cpu_image)
    assert service["image"] == cpu_image
    assert not has_gpu(service)


@pytest.mark.parametrize("engine", ["tgi", "trtllm", "vllm"])
def test_every_image_is_pinned_by_a_tag_that_is_a_version(engine):
    text = (ROOT / engine / "launch.yaml").read_text()
    images = re.findall(r"image: (?:\$\{IMAGE:-)?([^}\s]+)", text)
    assert len(images) == (1 if engine == "trtllm" else 2)
    for image in images:
        assert re.search(r":v?\d+\.\d+\.\d+(-[\w-]+)?$", image), image


@pytest.mark.parametrize("engine", ENGINES)
def test_no_token_stands_in_a_launch_file_and_no_flag_carries_one(engine):
    assert "TOKEN" not in "".join(load_engine(ROOT, engine).flags).replace("TOKENS", "")


def test_only_the_model_host_and_port_are_the_harnesss_own():
    for engine in ENGINES:
        loaded = load_engine(ROOT, engine)
        assert {"MODEL", "HOST", "PORT"} <= loaded.variables
        assert not loaded.settings & set(HARNESS_VARIABLES)


def test_tensorrt_llm_is_started_with_the_options_it_is_given(tmp_path):
    """The entrypoint really writes the file before it hands over to the server."""
    service = yaml.safe_load((ROOT / "trtllm" / "launch.yaml").read_text())["services"]["trtllm"]
    _, *words = (word.replace("$$", "$") for word in service["entrypoint"])
    options = tmp_path / "options.yaml"
    words = [word.replace("/tmp/options.yaml", str(options)) for word in words]
    server = tmp_path / "trtllm-serve"
    server.write_text(f'#!/bin/sh\necho "$# $1"\ncat {options}\n')
    server.chmod(0o755)
    env = by_ourselves(ROOT / "trtllm" / "launch.yaml", {})["environment"]
    done = subprocess.run(
        [*words, "/models/a model", "--port=1"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"} | env,
        capture_output=True,
        text=True,
        check=True,
    )
    first, _, written = done.stdout.partition("\n")
    assert first == "2 /models/a model"
    assert yaml.safe_load(written) == {
        "dtype": "bfloat16",
        "enable_chunked_prefill": True,
        "disable_overlap_scheduler": False,
        "enable_iter_perf_stats": True,
        "kv_cache_config": {
            "enable_block_reuse": False,
            "dtype": "auto",
            "free_gpu_memory_fraction": 0.9,
            "max_gpu_total_bytes": 0,
        },
        "cuda_graph_config": {"max_batch_size": 256, "enable_padding": True},
        "speculative_config": None,
    }

"""Real engines, as processes in their own environments: `make test-engines` (minutes)."""

import contextlib
import dataclasses
import json
import re
import shutil
import subprocess
import sys
import time

import psutil
import pytest
import requests
from builders import rows_of
from project import ROOT, write_study

from enginebench.base import yaml_file
from enginebench.engines import directory as launch
from enginebench.engines.dialect import GenerationRequest
from enginebench.hardware import machine
from enginebench.launch import environment, process
from enginebench.launch.server import choose_port
from enginebench.load import client, http1
from enginebench.load.request_record import read
from enginebench.plan import models, prompts
from enginebench.plan.derived_models import derive
from enginebench.record import locating
from enginebench.run.ready import wait_ready

pytestmark = pytest.mark.engine

CACHE = ROOT / ".cache"


@pytest.fixture(scope="session")
def found(sources):
    return models.resolve("embedded", sources, CACHE / "models")


@pytest.fixture(scope="session")
def asks(found, sources):
    tokenizer = prompts.load_tokenizer(found.path)
    made = prompts.make_set(tokenizer, sources, 32, 8, "engines")
    return [GenerationRequest(prompt.ids, prompt.text, 12) for prompt in made]


def started(engine, found, directory, **settings):
    settings = {"MODEL": str(found.path), "CPUS": machine.cpu_list(machine.cpus())} | settings
    command = process.resolve(engine, settings, machine.device(), CACHE, choose_port(None))
    return process.start(engine, command, directory)


@contextlib.contextmanager
def baseline_under(found, ask, directory, **settings):
    engine = launch.load_engine(ROOT, "baseline")
    environment.build(engine, machine.device(), CACHE, print)
    common = {"DTYPE": "float32", "MAX_BATCH": 4, "MAX_MODEL_LEN": 128, "KV_BLOCKS": 16}
    server = started(engine, found, directory, **common | settings)
    try:
        wait_ready(server, ask, 300)
        yield server
    finally:
        server.stop(lambda: False)


@pytest.fixture(
    scope="module",
    params=[
        {"MODE": "naive"},
        {"MODE": "static"},
        {"MODE": "continuous"},
        {"ASSIST": "prompt-lookup"},
    ],
    ids=lambda settings: "-".join(settings.values()),
)
def baseline(request, found, asks, tmp_path_factory):
    directory = tmp_path_factory.mktemp("baseline")
    with baseline_under(found, asks[0], directory, **request.param) as server:
        yield server


def complete(server, **body):
    body = {"model": "model", "temperature": 0} | body
    return requests.post(server.url + "/v1/completions", json=body, timeout=120)


def drive(server, asks, concurrency):
    dialect = server.engine.dialect
    bodies = [
        http1.post(server.address, dialect.generate_path, dialect.body(ask), str(index))
        for index, ask in enumerate(asks)
    ]
    answers = client.run_closed_loop(server.address, bodies, concurrency, 120)
    return [
        read(answer, dialect, ask, phase="measured", request_id="")
        for answer, ask in zip(answers, asks, strict=True)
    ]


def metric(server, name):
    text = requests.get(server.url + "/metrics", timeout=10).text
    (line,) = [line for line in text.splitlines() if line.startswith(name + " ")]
    return float(line.split()[1])


def config_info(server):
    text = requests.get(server.url + "/metrics", timeout=10).text
    (labels,) = re.findall(r"^baseline_config_info\{(.*)\} 1.0$", text, re.M)
    return dict(re.findall(r'(\w+)="([^"]*)"', labels))


def test_the_baseline_streams_every_token_in_an_event_of_its_own(baseline, asks):
    records = drive(baseline, asks, 4)
    assert [record.error for record in records] == [None] * 8
    assert all(record.event_tokens == [1] * 12 for record in records)
    assert all(record.output_tokens == 12 for record in records)
    assert all(record.prompt_tokens == 32 for record in records)
    assert all(record.finish_reason == "length" for record in records)


def test_the_baseline_answers_text_ids_streamed_or_whole_alike(baseline, asks):
    ask = asks[0]
    by_ids = complete(baseline, prompt=list(ask.prompt_ids), max_tokens=12, ignore_eos=True).json()
    by_text = complete(baseline, prompt=ask.prompt_text, max_tokens=12, ignore_eos=True).json()
    (streamed,) = drive(baseline, [ask], 1)
    assert by_ids["choices"] == by_text["choices"]
    assert by_ids["choices"][0]["text"] == streamed.text
    assert by_ids["usage"] == {"prompt_tokens": 32, "completion_tokens": 12, "total_tokens": 44}


def test_members_of_a_batch_get_the_answer_they_would_get_alone(baseline, asks):
    short = GenerationRequest(asks[1].prompt_ids[:20], "", 5)
    alone = [drive(baseline, [ask], 1)[0].text for ask in (asks[0], short, asks[2])]
    together = drive(baseline, [asks[0], short, asks[2]], 3)
    assert [record.text for record in together] == alone
    assert [record.output_tokens for record in together] == [12, 5, 12]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"prompt": "a", "max_tokens": 0}, "max_tokens must be a positive integer"),
        ({"prompt": [], "max_tokens": 1}, "prompt must be a non-empty string or a non-empty list"),
        ({"prompt": [10**9], "max_tokens": 1}, "outside the vocabulary"),
        ({"prompt": "a", "max_tokens": 4000}, "exceed the context of 128"),
        ({"prompt": "a", "max_tokens": 1, "temperature": 1}, "only greedy decoding"),
    ],
)
def test_the_baseline_refuses_what_it_cannot_do(baseline, body, says):
    answer = complete(baseline, **body)
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]


def test_the_baseline_counts_what_it_did_and_frees_its_cache(baseline, asks):
    before = metric(baseline, "baseline_output_tokens_total")
    drive(baseline, asks, 4)
    assert metric(baseline, "baseline_output_tokens_total") - before == 8 * 12
    # The last token is on its way before its batch is taken apart.
    deadline = time.monotonic() + 20
    while metric(baseline, "baseline_requests_running") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert metric(baseline, "baseline_requests_running") == 0
    if config_info(baseline)["kv_cache"] != "paged":  # its blocks stay
        assert metric(baseline, "baseline_kv_cache_bytes") == 0
    assert metric(baseline, "baseline_kv_cache_tokens") == 0


def test_a_client_that_leaves_frees_the_model(baseline, asks):
    body = {
        "model": "model",
        "prompt": list(asks[0].prompt_ids),
        "max_tokens": 90,
        "ignore_eos": True,
        "stream": True,
    }
    before = metric(baseline, "baseline_output_tokens_total")
    with requests.post(baseline.url + "/v1/completions", json=body, stream=True, timeout=60) as r:
        next(r.iter_content(64))
    deadline = time.monotonic() + 20
    while metric(baseline, "baseline_requests_running") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert metric(baseline, "baseline_output_tokens_total") - before < 90


BASELINE_VARIANTS = {
    name: variant
    for name, variant in yaml_file.parse(
        (ROOT / "baseline" / "variants.yaml").read_text(), "variants.yaml", "settings"
    ).items()
    if variant.get("needs", {}).get("device") != "cuda"
}


@pytest.fixture(scope="session")
def one_at_a_time(asks, tmp_path_factory):
    made = {}

    def texts(found):
        if found.path not in made:
            directory = tmp_path_factory.mktemp("naive")
            with baseline_under(found, asks[0], directory, MODE="naive") as server:
                made[found.path] = [record.text for record in drive(server, asks, 1)]
        return made[found.path]

    return texts


@pytest.mark.parametrize("name", BASELINE_VARIANTS)
def test_each_declared_variant_of_the_baseline_takes_effect_and_answers_as_one_at_a_time(
    name, found, asks, one_at_a_time, tmp_path
):
    variant = BASELINE_VARIANTS[name]
    settings = dict(variant["settings"])
    if "weights" in variant:
        path = derive(found.path, variant["weights"], CACHE / "models")
        found = dataclasses.replace(found, path=path)
    if "draft" in variant:
        settings["DRAFT_MODEL"] = str(derive(found.path, variant["draft"], CACHE / "models"))
    with baseline_under(found, asks[0], tmp_path, **settings) as server:
        records, info = drive(server, asks, 4), config_info(server)
        log = (tmp_path / "server.log").read_text()
    for condition in variant["resolved"]:
        if "metric" in condition:
            label = condition["metric"].removeprefix("baseline_config_info[").rstrip("]")
            assert info[label] == condition["equals"]
        else:
            assert not re.search(condition["no_log"], log)
    assert [record.error for record in records] == [None] * 8
    assert [record.output_tokens for record in records] == [12] * 8
    assert [record.text for record in records] == one_at_a_time(found)  # in float32


def project_of_real_engines(path):
    for name in ("baseline", "vllm", "compose"):
        shutil.copytree(ROOT / name, path / name)
    shutil.copy(ROOT / "prompts.txt", path)
    (path / "studies").mkdir()
    return path


def small_study(*engines):
    workload = {"name": "small", "prompt_tokens": 32, "output_tokens": 24, "concurrency": [4]}
    return {
        "name": "small",
        "engines": list(engines),
        "settings": {"MAX_MODEL_LEN": 256, "DTYPE": "bfloat16"},
        "workloads": [workload, workload | {"name": "again"}],
        "noise_probe_s": 0,
        "judge_machine": False,  # a busy machine must not fail a test
    }


def enginebench(project, study):
    file = write_study(project, study)
    command = [sys.executable, "-m", "enginebench", "study", str(file), "--root", str(project)]
    return subprocess.Popen(
        [*command, "--cache", str(CACHE)],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def cells(project):
    directory = locating.latest(project / "results")
    return directory, json.loads((directory / "derived" / "metrics_data.json").read_text())["cells"]


def test_a_copy_of_vllm_under_another_name_with_another_flag_is_an_engine(tmp_path):
    project = project_of_real_engines(tmp_path)
    shutil.copytree(project / "vllm", project / "sixth")
    file = project / "sixth" / "launch.yaml"
    changed = file.read_text().replace("MAX_NUM_SEQS:-256", "MAX_NUM_SEQS:-2")
    assert changed != file.read_text()
    file.write_text(changed)
    study = small_study({"engine": "baseline"}, {"engine": "sixth"})
    study["settings"]["DTYPE"] = "float32"
    study["agreement"] = {"prompts": 4, "prompt_tokens": 32, "output_tokens": 32}
    study["scrape_interval_s"] = 0.05
    running = enginebench(project, study)
    output, _ = running.communicate(timeout=400)
    assert running.returncode == 0, output
    directory, found = cells(project)
    assert all(cell["is_valid"] for cell in found)
    found = [cell["figures"] for cell in found if cell["label"] == "sixth/default"]
    assert len(found) == 2
    assert all(figures["requests_running_peak"] <= 2 for figures in found)
    assert "sixth/default" in (directory / "derived" / "report.html").read_text()
    assert_one_model(directory)
    # 2 · 16 layers · 4 KV heads · 64 · 4 bytes a token; a pool of 1 GiB.
    assert found[0]["kv_bytes_per_token"] == found[0]["kv_bytes_per_token_measured"] == 32768
    assert found[0]["kv_capacity_tokens"] == 32768 - 128  # less the block that vLLM keeps


def assert_one_model(directory):
    """In float32 the two engines' greedy answers are the same to the last token."""
    data = json.loads((directory / "derived" / "metrics_data.json").read_text())
    (compared,) = data["agreement"]
    assert (compared["identical"], compared["prompts"]) == (4, 4)


def test_vllm_killed_in_a_cell_leaves_an_invalid_cell_and_the_next_engine_runs(tmp_path):
    project = project_of_real_engines(tmp_path)
    study = small_study({"engine": "vllm"}, {"engine": "baseline", "settings": {"MODE": "static"}})
    study["workloads"][0]["output_tokens"] = 200  # long enough to be killed in
    running = enginebench(project, study)
    wait_for_load_of(project, "vllm")
    time.sleep(0.5)
    for child in psutil.Process(running.pid).children():
        if "vllm.entrypoints.openai.api_server" in child.cmdline():
            child.kill()
    output, _ = running.communicate(timeout=400)
    assert running.returncode == 1, output
    _, found = cells(project)
    killed = [cell for cell in found if cell["engine"] == "vllm"]
    assert "killed by SIGKILL" in killed[0]["problems"][0]
    assert killed[0]["log_tail"]
    assert not any(cell["is_valid"] for cell in killed)
    assert all(cell["is_valid"] for cell in found if cell["engine"] == "baseline")


def wait_for_load_of(project, engine, seconds=300):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for file in project.glob("results/*/events.jsonl"):
            rows = rows_of(file)
            if rows and rows[-1]["step"] == "load" and f"_{engine}_" in rows[-1]["launch"]:
                return
        time.sleep(0.05)
    raise AssertionError(f"{engine} began no cell within {seconds} s")


def test_what_vllms_own_client_prints_is_what_our_formulas_make_of_its_times():
    command = [sys.executable, str(ROOT / "benchmarks" / "other_tools.py")]
    done = subprocess.run(
        [*command, "--rounds", "1", "--requests", "12"], capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "they agree" in done.stdout

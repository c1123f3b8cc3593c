"""Studies in real containers: `make test-containers`. A daemon and the images of .ci/images.

The engine is a double, so that faults can be injected; real engines in containers are a study's.
"""

import functools
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import docker
import pytest
import yaml
from builders import rows_of
from project import (
    ROOT,
    TESTS,
    enginebench,
    metrics,
    result,
    run_study,
    study,
    taken_port,
)
from project import wait_for_step as project_wait_for_step

from enginebench.launch import compose, leftovers
from enginebench.record import reading

pytestmark = pytest.mark.containers

IMAGE = "enginebench-test-engine"
GOOD = {"engine": "alpha"}
#: One engine with one cell: what is tested is the way up and down.
SMALL = {"workloads": study()["workloads"][:1], "trials": 1}
SECRET = "hf_" + "x7Kq" * 6
wait_for_step = functools.partial(project_wait_for_step, seconds=60)


@pytest.fixture(scope="session")
def client():
    return docker.from_env()


def add_container_engine(project, name, **service):
    """An engine directory whose server is the double's image."""
    directory = project / name
    shutil.copytree(TESTS / "data" / "engine_in_container", directory)
    launch = yaml.safe_load((directory / "launch.yaml").read_text())
    launch["services"]["engine"] |= service
    (directory / "launch.yaml").write_text(yaml.safe_dump(launch))


@pytest.fixture
def project(tmp_path):
    shutil.copytree(ROOT / "compose", tmp_path / "compose")
    shutil.copy(ROOT / "prompts.txt", tmp_path)
    (tmp_path / "studies").mkdir()
    add_container_engine(tmp_path, "alpha")
    return tmp_path


@pytest.fixture(autouse=True)
def nothing_of_ours_is_left(client):
    yield
    containers = client.containers.list(all=True, filters={"label": "enginebench"})
    networks = [n.name for n in client.networks.list() if n.name.startswith("enginebench-")]
    volumes = [v.name for v in client.volumes.list()]
    names = [c.name for c in containers]
    for container in containers:
        container.remove(force=True, v=True)
    assert (names, networks, volumes) == ([], [], [])


def run(project, cache, data, *more, **options):
    return run_study(project, cache, data, "--runner", "container", *more, **options)


def launches(project):
    files = sorted((result(project) / "raw").glob("*/launch.json"))
    return [json.loads(file.read_text()) for file in files]


def problems(project):
    return [" ".join(cell["problems"]) for cell in metrics(project)["cells"]]


def test_a_study_in_a_container_counts_and_its_record_says_what_ran(project, cache, client):
    done = run(project, cache, study(GOOD), env=os.environ | {"HF_TOKEN": SECRET})
    assert done.returncode == 0, done.stdout + done.stderr
    assert problems(project) == ["", "", ""]
    assert reading.read_study(result(project)).runner == "container"
    (facts,) = launches(project)
    inside = facts["container"]
    assert inside["image"] == IMAGE
    assert inside["image_id"] == client.images.get(IMAGE).id
    assert facts["command"][:2] == ["python3", "/double_server.py"]
    assert "--behaviour=normal" in facts["command"]
    assert facts["env"]["HF_HUB_OFFLINE"] == "1"
    assert facts["ended"] == {
        "died": None,
        "exit_code": 143,
        "out_of_memory": False,
        "restarts": 0,
    }
    (directory,) = (result(project) / "raw").iterdir()
    resolved = yaml.safe_load((directory / "compose.yaml").read_text())["services"]["engine"]
    assert resolved["image"] == IMAGE and resolved["restart"] == "no"
    rows = rows_of(directory / "container.jsonl")
    assert rows and all(row["memory_bytes"] > 1 << 20 for row in rows)
    assert rows[-1]["cpu_s"] > 0
    assert "***" in (directory / "server.log").read_text()  # the double prints its token
    for path in result(project).rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path
    assert SECRET not in done.stdout + done.stderr


def test_a_token_is_in_no_process_list_while_a_container_runs(project, cache):
    running = run(
        project,
        cache,
        study(GOOD, trials=50),
        env=os.environ | {"HF_TOKEN": SECRET},
        start=subprocess.Popen,
    )
    seen = ""
    deadline = time.monotonic() + 60
    while "double_server" not in seen and time.monotonic() < deadline:
        seen = subprocess.check_output(["ps", "-eww", "-o", "args"], text=True)
        assert SECRET not in seen
    assert "double_server" in seen
    wait_for_step(project, "load")
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)


def test_an_image_that_cannot_be_had_is_one_line_before_anything_starts(project, cache):
    done = run(project, cache, study(GOOD), "--image", "alpha=127.0.0.1:9/nobody/has-this:1.0")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "expected the image 127.0.0.1:9/nobody/has-this:1.0 on this machine or in its" in line
    assert not (project / "results").exists()


def test_an_image_option_for_no_engine_of_the_study_is_one_line(project, cache):
    done = run(project, cache, study(GOOD), "--image", "beta=x")
    assert done.returncode == 2
    assert "expected ENGINE=IMAGE with an engine of the study (alpha), found 'beta=x'" in (
        done.stderr
    )


def test_an_image_without_an_entrypoint_says_what_could_not_be_run(project, cache):
    done = run(project, cache, study(GOOD, **SMALL), "--image", "alpha=enginebench-base")
    assert done.returncode == 2
    assert "alpha: compose could not start its container" in done.stdout
    assert 'exec: "--model=' in done.stdout  # the first word of the command was to be run


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        ("dies-loading", "the engine's container ended with exit code 3 before it was ready"),
        ("never-ready", "not ready within 3 s"),
        ("cannot-generate", "last answer: a first generation failed: HTTP 500"),
        ("refuses", "it refused the study's first request (HTTP 400"),
    ],
)
def test_an_engine_that_does_not_get_ready_ends_with_its_log_and_the_next_one_runs(
    project, cache, behaviour, says
):
    add_container_engine(project, "beta")
    bad = {"engine": "alpha", "settings": {"BEHAVIOUR": behaviour}}
    done = run(project, cache, study(bad, {"engine": "beta"}, **SMALL, ready_timeout_s=3))
    assert done.returncode == 2
    assert says in done.stdout
    assert sorted(text == "" for text in problems(project)) == [False, True]


def test_an_engine_over_its_memory_limit_is_said_to_be(project, cache):
    add_container_engine(project, "limited", mem_limit="64m")
    bad = {"engine": "limited", "settings": {"BEHAVIOUR": "eats-memory"}}
    done = run(project, cache, study(bad, **SMALL))
    assert done.returncode == 2
    assert "ran out of its memory limit (OOM, exit code 137) before it was ready" in done.stdout
    (facts,) = launches(project)
    assert facts["ended"]["out_of_memory"] is True


def test_an_engine_that_dies_in_a_cell_leaves_an_invalid_cell(project, cache):
    bad = {"engine": "alpha", "settings": {"BEHAVIOUR": "dies-in-cell"}}
    done = run(project, cache, study(bad, **SMALL))
    assert done.returncode == 1
    assert "the engine's container ended with exit code 9" in problems(project)[0]
    (facts,) = launches(project)
    assert facts["ended"]["died"] == "the engine's container ended with exit code 9"


def test_a_port_that_somebody_took_is_one_line(project, cache):
    with taken_port() as port:
        done = run(project, cache, study(GOOD, port=port))
    assert done.returncode == 2
    assert f"port {port}: expected a free port" in done.stderr


def add_real_engine(project, name):
    """TGI's or TensorRT-LLM's own directory; nothing changes but that a CPU is enough."""
    shutil.copytree(ROOT / name, project / name)
    file = project / name / "launch.yaml"
    text = file.read_text().replace("service: engine-gpu", "service: engine-${DEVICE:-gpu}")
    file.write_text(text + f"\nx-cpu-image: enginebench-test-{name}\n" * (name == "trtllm"))
    return ["--image", f"{name}=enginebench-test-{name}"]


@pytest.mark.parametrize("engine", ["tgi", "trtllm"])
def test_an_engine_that_cannot_be_had_here_goes_the_same_way_up_and_down(project, cache, engine):
    image = add_real_engine(project, engine)
    done = run(project, cache, study({"engine": engine}), *image)
    assert done.returncode == 0, done.stdout + done.stderr
    assert problems(project) == ["", "", ""]
    (facts,) = launches(project)
    assert facts["version"]["version"] == "double"
    assert facts["ready_s"] > 1.5  # it was not taken for ready while it loaded
    data = json.loads((result(project) / "derived" / "metrics_data.json").read_text())
    capacity = {"tgi": 4000, "trtllm": 3200}[engine]
    assert {cell["figures"]["kv_capacity_tokens"] for cell in data["cells"]} == {capacity}


@pytest.mark.parametrize("engine", ["tgi", "trtllm"])
@pytest.mark.parametrize(
    ("fault", "code", "says"),
    [
        ("dies-in-cell", 1, "the engine's container ended with exit code 9"),
        ("error-in-stream", 1, {"tgi": "CUDA out of memory", "trtllm": "executor gone"}),
        ("unhealthy", 2, "HTTP 503 from /health"),
    ],
)
def test_its_failures_are_told_apart(project, cache, client, engine, fault, code, says):
    image = add_real_engine(project, engine)
    recipe = f"FROM enginebench-test-{engine}\nENV FAULT={fault}\n".encode()
    client.images.build(
        fileobj=io.BytesIO(recipe), tag=f"enginebench-test-{engine}-{fault}", rm=True
    )
    image[1] += f"-{fault}"
    done = run(project, cache, study({"engine": engine}, **SMALL, ready_timeout_s=8), *image)
    assert done.returncode == code, done.stdout + done.stderr
    text = says if isinstance(says, str) else says[engine]
    assert text in done.stdout + " ".join(problems(project))


@pytest.mark.parametrize("step", ["up", "ready", "load"])
@pytest.mark.parametrize("signs", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGINT] * 2])
def test_an_interrupted_study_leaves_nothing_and_keeps_its_record(project, cache, step, signs):
    behaviour = {"BEHAVIOUR": "stubborn"} if len(signs) == 2 else {}
    long = study(GOOD, trials=50, settings=behaviour)
    running = run(project, cache, long, start=subprocess.Popen)
    wait_for_step(project, step)
    start = time.monotonic()
    for sign in signs:
        running.send_signal(sign)
        time.sleep(0.5)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130, errors
    assert "interrupted" in errors and "Traceback" not in errors
    if len(signs) == 2:  # at once: the double, asked orderly, takes until it is killed, 15 s
        assert time.monotonic() - start < 14
    assert launches(project)  # what ran is in the record


def test_what_a_killed_harness_left_is_named_and_removed_by_the_next_start(project, cache, client):
    running = run(project, cache, study(GOOD, trials=50), start=subprocess.Popen)
    wait_for_step(project, "load")
    running.kill()
    running.communicate()
    (left,) = client.containers.list(filters={"label": "enginebench"})
    done = run(project, cache, study(GOOD, **SMALL, name="next"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "removed what a killed enginebench had left behind: container " + left.name in (
        done.stdout.replace("\n", " ")
    )


def test_what_another_living_harness_runs_is_left_alone(project, cache, client):
    running = run(project, cache, study(GOOD, trials=50), start=subprocess.Popen)
    wait_for_step(project, "load")
    (other,) = client.containers.list(filters={"label": "enginebench"})
    leftovers.end(lambda text: pytest.fail(text))
    other.reload()
    assert other.status == "running"
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)


def test_down_removes_also_what_was_started_by_hand(project, client, tmp_path):
    env = os.environ | {"DEVICE": "cpu", "IMAGE": IMAGE, "MODEL": str(tmp_path)}
    file = project / "alpha" / "launch.yaml"
    up = [*compose.require().argv, "-p", "byhand", "-f", str(file), "up", "-d"]
    subprocess.run(up, env=env, check=True, capture_output=True)
    done = enginebench("down", cwd=project)
    assert done.returncode == 0, done.stderr
    assert "container byhand" in done.stdout
    assert "byhand" not in " ".join(n.name for n in client.networks.list())


@pytest.mark.skipif(not os.environ.get("ENGINEBENCH_OWN_DOCKER"), reason="the daemon is not ours")
def test_a_daemon_that_stops_in_a_cell_invalidates_it_and_ends_in_words(project, cache):
    running = run(project, cache, study(GOOD, trials=50), start=subprocess.Popen)
    wait_for_step(project, "load")
    own = os.environ["ENGINEBENCH_OWN_DOCKER"]
    script = ROOT / ".ci"
    subprocess.run(["kill", (TESTS.parent / own / "pid").read_text().strip()], check=True)
    try:
        output, errors = running.communicate(timeout=300)
    finally:
        subprocess.run([script / "docker-up", own], check=True)
    assert running.returncode in (1, 2), errors
    assert "Traceback" not in output + errors
    assert "make down does it by hand" in output
    found = problems(project)
    # Docker ends its containers orderly before itself, if it can still say so.
    ends = ("the engine's container was killed by SIGTERM", "Docker stopped answering")
    assert found[0].startswith(ends)
    assert found[-1] == "not run: the study ended before this cell"
    subprocess.run([sys.executable, "-m", "enginebench", "down"], check=True, cwd=project)

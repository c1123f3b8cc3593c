"""A small project for tests: engine directories with doubles, prompts, a study."""

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import yaml

from enginebench.record import locating

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
ENGINE = TESTS / "data" / "engine_in_container" / "engine.py"


def add_engine(root: Path, name: str) -> Path:
    """An engine directory whose server is a double."""
    directory = root / name
    directory.mkdir(parents=True)
    shutil.copy(ENGINE, directory)
    shutil.copy(TESTS / "support" / "double_server.py", directory / "server.py")
    (directory / "requirements.txt").write_text("")
    launch = {
        "services": {
            name: {
                "command": [
                    "--model=${MODEL}",
                    "--port=${PORT}",
                    "--behaviour=${BEHAVIOUR:-normal}",
                    "--dtype=${DTYPE:-float32}",
                    "--feature=${FEATURE:-none}",
                ]
            }
        },
        "x-dtype": "${DTYPE:-float32}",
        "x-start-up": {"weights": r"weights took ([\d.]+) s"},
        "x-native": {
            "environment": {"name": "double", "cpu": [["-r", "requirements.txt"]]},
            "command": ["python", "server.py"],
        },
    }
    (directory / "launch.yaml").write_text(yaml.safe_dump(launch))
    return directory


def pass_on_the_token(launch_file: Path) -> None:
    """Have an engine be given the caller's token, which the double prints."""
    launch = yaml.safe_load(launch_file.read_text())
    for service in launch["services"].values():
        service["environment"] = {"HF_TOKEN": None}
    launch_file.write_text(yaml.safe_dump(launch))


def make_project(root: Path, *engines: str) -> Path:
    for name in engines:
        add_engine(root, name)
    shutil.copy(ROOT / "prompts.txt", root / "prompts.txt")
    (root / "studies").mkdir()
    return root


def study(*engines: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A study of doubles: two workloads, three cells, a few dozen requests."""
    return {
        "name": "test",
        "device": "cpu",
        "engines": list(engines),
        "workloads": [
            {
                "name": "alone",
                "prompt_tokens": 24,
                "output_tokens": 6,
                "concurrency": [1],
                "warmup_output_tokens": 2,
            },
            {
                "name": "many",
                "prompt_tokens": 24,
                "output_tokens": 5,
                "concurrency": [2, 4],
                "warmup_output_tokens": 2,
            },
        ],
        "scrape_interval_s": 0.05,
        "calibration_s": 0,
        "noise_probe_s": 0,
        "judge_client": False,  # a busy machine must not fail a test
        "judge_machine": False,
        "ready_timeout_s": 20,
    } | changes


def write_study(root: Path, data: dict[str, Any]) -> Path:
    path = root / "studies" / f"{data['name']}.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def enginebench(*arguments: object, cwd: Path, start: Any = subprocess.run, **options: Any) -> Any:
    """The command line, as a process of its own."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    command = [sys.executable, "-m", "enginebench", *map(str, arguments)]
    return start(command, cwd=cwd, **options)


def run_study(root: Path, cache: Path, data: dict[str, Any], *flags: str, **options: Any) -> Any:
    """Write a study's file and run it, as a process of its own."""
    file = write_study(root, data)
    where = ("--root", root, "--cache", cache)
    return enginebench("study", file, *where, *flags, cwd=root, **options)


def result(root: Path) -> Path:
    """The directory of the study that ran last."""
    return locating.latest(root / "results")


def metrics(root: Path) -> dict[str, Any]:
    """The derived figures of the study that ran last."""
    return json.loads((result(root) / "derived" / "metrics_data.json").read_text())


def problems(root: Path, engine: str, variant: str = "default") -> list[str]:
    """What is wrong with each cell of a variant, in the study that ran last."""
    cells = [cell for cell in metrics(root)["cells"] if cell["label"] == f"{engine}/{variant}"]
    return [" ".join(cell["problems"]) for cell in cells]


def engines_left(root: Path) -> list[psutil.Process]:
    """Processes of a double started from this project."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(str(root) in word for word in process.info["cmdline"] or [])
    ]


def wait_for_step(project: Path, step: str, seconds: float = 30) -> None:
    """Until the first study of a project has come to a step of its events."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        files = list(project.glob("results/*/events.jsonl"))
        if files and f'"{step}"' in files[0].read_text():
            return
        time.sleep(0.02)
    raise AssertionError(f"no step {step!r} within {seconds} s")


@contextlib.contextmanager
def taken_port() -> Iterator[int]:
    """A port of the loopback that somebody listens on."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]

"""Engines as plain processes: start and stop. For machines without Docker."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from enginebench.base.errors import EngineError, UserError
from enginebench.base.linux import die_with_parent
from enginebench.base.redaction import redact_file
from enginebench.engines.address import Address
from enginebench.engines.directory import Engine, Native
from enginebench.engines.interpolation import as_text, interpolate
from enginebench.launch import environment, leftovers
from enginebench.launch.server import HOST, STOP_GRACE_S, Server

TELLING_PREFIXES = ("OMP_", "MKL_", "KMP_", "GOMP_", "TORCH", "CUDA_", "HF_", "VLLM_", "LD_PRELOAD")


@dataclass(frozen=True, slots=True)
class Command:
    """An engine's resolved command line, as it is run and recorded."""

    argv: tuple[str, ...]
    env: Mapping[str, str]  # what is added to the caller's environment
    port: int


def recipe(engine: Engine) -> Native:
    """How the engine runs as a process.

    Raises:
        UserError: it runs only in a container.
    """
    if engine.native is None:
        where = "in a container" if engine.cpu_image else "in a container on a GPU"
        raise UserError(
            f"{engine.launch_file}: no x-native key, so this engine runs only {where}; "
            "leave it out of the study or give it x-native"
        )
    return engine.native


def resolve(
    engine: Engine, settings: Mapping[str, Any], device: str, cache: Path, port: int
) -> Command:
    """The command line of an engine under these settings (launch variables)."""
    native = recipe(engine)
    values = {name: as_text(value) for name, value in settings.items()}
    values |= {"HOST": HOST, "PORT": str(port)}
    where = str(engine.launch_file)

    def fill(text: str) -> str:
        return interpolate(text, values, where)

    words = list(native.command)
    if words[0] == "python":
        words[0] = str(environment.python(engine, device, cache))
    own_file = engine.directory / (words[1] if len(words) > 1 else "")
    if len(words) > 1 and words[1].endswith(".py") and own_file.is_file():
        words[1] = str(own_file)
    env = dict(engine.env)
    if device == "cpu":  # also where there is a GPU that the study does not use
        env |= {"CUDA_VISIBLE_DEVICES": ""}
    argv = tuple(fill(word) for word in (*words, *engine.flags))
    return Command(argv, {name: fill(text) for name, text in env.items()}, port)


def start(engine: Engine, command: Command, directory: Path) -> Server:
    """Start the engine in a session of its own, its output going to ``directory/server.log``."""
    log = directory / "server.log"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # Safe path: an engine started by its package's name must never import our directory instead.
    env |= {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
    env |= {"HF_HUB_OFFLINE": "1"}  # the model is local: nothing is to be fetched while measured
    env |= dict(command.env) | {leftovers.MARK: leftovers.mark()}
    work = directory / "work"
    work.mkdir(exist_ok=True)
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                command.argv,
                cwd=work,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is ours to handle; the whole group is ours to end
                preexec_fn=_in_child,
            )
        except OSError as error:
            raise EngineError(
                f"{engine.name}: cannot start {command.argv[0]}: {error.strerror}; "
                "build its environment again: make clean, then make setup"
            ) from None
    facts = {
        "command": list(command.argv),
        "env": dict(command.env),
        "inherited_env": _inherited(command),
    }
    return Server(
        engine,
        Address(HOST, command.port),
        process.pid,
        log,
        time.perf_counter(),
        lambda: _death(process),
        lambda hurried: _stop(process, log, hurried),
        facts,
    )


def _inherited(command: Command) -> dict[str, str]:
    """Variables of the caller that are known to move an engine's numbers."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith(TELLING_PREFIXES) and name not in command.env
    }


def _in_child() -> None:
    """If the harness is killed outright, the kernel ends the engine's main process too."""
    die_with_parent(signal.SIGKILL)


def _death(process: subprocess.Popen[bytes]) -> str | None:
    code = process.poll()
    if code is None:
        return None
    if code < 0:
        return f"the engine's process was killed by {signal.Signals(-code).name}"
    return f"the engine's process ended with exit code {code}"


def _stop(
    process: subprocess.Popen[bytes], log: Path, hurried: Callable[[], bool]
) -> dict[str, Any]:
    """End the engine and everything it started; never raises for a process that is gone."""
    group = process.pid
    children = _descendants(group)
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, sign)
        until_s = time.perf_counter() + STOP_GRACE_S
        while process.poll() is None and time.perf_counter() < until_s:
            if hurried() and sign is signal.SIGTERM:
                break
            time.sleep(0.05)
        if process.poll() is not None:
            break
    _, alive = psutil.wait_procs(children, timeout=0.5 if hurried() else 5)
    for child in alive:  # workers that outlived the engine
        with contextlib.suppress(psutil.Error):
            child.kill()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    with contextlib.suppress(OSError):
        (log.parent / "work").rmdir()
    redact_file(log)
    return {}


def _descendants(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).children(recursive=True)
    return []

"""Engines as plain processes: start and stop. For machines without Docker."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from enginebench.base import linux, proc, redaction
from enginebench.base.errors import EngineError, UserError
from enginebench.engines.address import Address
from enginebench.engines.directory import Engine, Native
from enginebench.engines.interpolation import Setting, as_text, interpolate
from enginebench.launch import environment, leftovers
from enginebench.launch.log_file import LogFile, Pump
from enginebench.launch.server import HOST, STOP_GRACE_S, Server, StartFacts, StopFacts

KEPT_PREFIXES = (
    "OMP_",
    "MKL_",
    "KMP_",
    "GOMP_",
    "TORCH",
    "CUDA_",
    "HF_",
    "VLLM_",
    "LD_PRELOAD",
)
NEVER_PASSED = ("PYTHONPATH", "WANDB_API_KEY")
KILL_ROUNDS = 5
KILL_WAIT_S = 2.0


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
    engine: Engine, settings: Mapping[str, Setting], device: str, cache: Path, port: int
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
    mark = leftovers.launch_mark()
    inherited = inherited_environment(engine)
    # Safe path: an engine started by its package's name must never import our directory instead.
    env = inherited | {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
    env |= {"HF_HUB_OFFLINE": "1"}  # the model is local: nothing is to be fetched while measured
    env |= dict(command.env) | {leftovers.VARIABLE: mark}
    work = directory / "work"
    work.mkdir(exist_ok=True)
    linux.adopt_orphans()
    pump = Pump(LogFile(directory / "server.log", env))
    try:
        process = subprocess.Popen(
            command.argv,
            cwd=work,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=pump.write_end,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is ours to handle; the whole group is ours to end
            preexec_fn=_in_child,
        )
    except OSError as error:
        raise EngineError(
            f"{engine.name}: cannot start {command.argv[0]}: {error.strerror}; "
            "build its environment again: make clean, then make setup"
        ) from None
    finally:
        pump.start()
    started_s = time.perf_counter()
    seen = proc.read(process.pid)
    family = Family(process.pid, seen.start_ticks if seen else 0, mark)
    facts = StartFacts(
        command=list(command.argv),
        env=dict(command.env),
        inherited_env=_recorded(inherited, command),
    )
    return Server(
        engine,
        Address(HOST, command.port),
        process.pid,
        pump.log,
        started_s,
        lambda: _death(process),
        lambda is_urgent: _stop(process, family, pump, work, is_urgent),
        facts,
        settle=pump.settle,
    )


def inherited_environment(engine: Engine) -> dict[str, str]:
    """The caller's variables that an engine gets: all but secrets, unless its launch file names
    them, and never the key of an account that only the harness uses."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in NEVER_PASSED
        and (name in engine.passed or not redaction.is_secret(name, value))
    }


def _recorded(inherited: Mapping[str, str], command: Command) -> dict[str, str]:
    """Variables of the caller that are known to move an engine's numbers."""
    return {
        name: value
        for name, value in inherited.items()
        if name.startswith(KEPT_PREFIXES) and name not in command.env
    }


def _in_child() -> None:
    """If the harness is killed outright, the kernel ends the engine's main process too."""
    linux.die_with_parent(signal.SIGKILL)


def _death(process: subprocess.Popen[bytes]) -> str | None:
    code = process.poll()
    if code is None:
        return None
    if code < 0:
        return f"the engine's process was killed by {linux.signal_name(-code)}"
    return f"the engine's process ended with exit code {code}"


@dataclass(frozen=True, slots=True)
class Family:
    """All processes that one engine has started, daemons included.

    A process belongs to it by the mark in its environment, by the engine's session, or by its
    parents. One that became a daemon and whose environment cannot be read is a child of the
    harness by then (see ``linux.adopt_orphans``), in another session than the harness's; the
    harness starts nothing but engines that way.
    """

    pid: int  # of the engine's first process, which leads the session
    start_ticks: int
    mark: str

    def members(self) -> list[proc.Process]:
        """Those that still run, and ended children of the harness that nobody has waited for."""
        harness = proc.read("self")
        assert harness is not None
        everyone = [p for p in proc.everyone() if p.start_ticks >= self.start_ticks]
        members = {p.pid: p for p in everyone if p.session == self.pid}
        orphans = [p for p in everyone if p.parent == harness.pid and p.session != harness.session]
        adopted = [
            p for p in orphans if proc.variable(p.pid, leftovers.VARIABLE) in (None, self.mark)
        ]
        for root in (self.pid, *(p.pid for p in adopted)):
            members |= {p.pid: p for p in proc.descendants(root)}
        members |= {p.pid: p for p in (*adopted, *leftovers.of_launch(self.mark))}
        return list(members.values())

    def end(self) -> None:
        """Kill all of them, and those that they start meanwhile."""
        for _ in range(KILL_ROUNDS):
            members = self.members()
            for ended in (p for p in members if p.has_ended):
                with contextlib.suppress(OSError):  # another process's child
                    os.waitpid(ended.pid, os.WNOHANG)
            alive = [p for p in members if not p.has_ended]
            if not alive:
                return
            leftovers.kill(alive, KILL_WAIT_S)


def _stop(
    process: subprocess.Popen[bytes],
    family: Family,
    pump: Pump,
    work: Path,
    is_urgent: Callable[[], bool],
) -> StopFacts:
    """End the engine and everything it started; never raises for a process that is gone."""
    children = _descendants(process.pid)
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        until_s = time.perf_counter() + STOP_GRACE_S
        while process.poll() is None and time.perf_counter() < until_s:
            if is_urgent() and sign is signal.SIGTERM:
                break
            time.sleep(0.05)
        if process.poll() is not None:
            break
    psutil.wait_procs(children, timeout=0.5 if is_urgent() else 5)  # workers that end by themselves
    family.end()
    pump.finish()
    with contextlib.suppress(OSError):
        work.rmdir()
    return StopFacts()


def _descendants(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).children(recursive=True)
    return []

"""The Python environments of the engines, separate from each other and from the harness.

An environment's directory is named by a hash of its recipe (pip arguments and the requirement
files they name), so that a changed recipe gets a new one and an unchanged one is built once.
"""

import hashlib
import itertools
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from packaging.version import InvalidVersion, Version

from enginebench.base.errors import UserError
from enginebench.engines.directory import Engine
from enginebench.launch.server import LOG_TAIL_LINES


def directory(engine: Engine, device: str, cache: Path) -> Path:
    """Where the engine's environment is, or will be once it is built."""
    assert engine.native is not None
    environment = engine.native.environment
    digest = hashlib.sha256(f"python {sys.version_info[:2]}".encode())
    if environment.uses_system_packages:
        digest.update(b"system packages")
    for arguments in recipe(engine, device):
        digest.update("\0".join(arguments).encode())
        for file in _requirement_files(engine, arguments):
            digest.update(file.read_bytes())
    return cache / "envs" / f"{environment.name}-{digest.hexdigest()[:12]}"


def python(engine: Engine, device: str, cache: Path) -> Path:
    """The interpreter of the engine's environment.

    Raises:
        UserError: it has not been built.
    """
    path = directory(engine, device, cache) / "bin" / "python"
    if not (path.parent.parent / ".complete").exists():
        raise UserError(
            f"{engine.name}: expected its Python environment in {path.parent.parent}, found none; "
            "build it with: make setup (enginebench setup)"
        )
    return path


def build(engine: Engine, device: str, cache: Path, report: Callable[[str], None]) -> Path:
    """Build the engine's environment if it does not exist yet; return its directory.

    Raises:
        UserError: pip failed; its last lines are the details, and the log is kept.
    """
    target = directory(engine, device, cache)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{cache}: cannot keep environments there ({error.strerror}); "
            "make it writable or give another directory with --cache"
        ) from None
    with FileLock(target.parent / f"{target.name}.lock"):
        mark = target / ".complete"  # built in place: an environment cannot be moved
        if mark.exists():
            return target
        shutil.rmtree(target, ignore_errors=True)  # what an interrupted build left
        started = time.perf_counter()
        report(f"{engine.name}: installing its own Python environment (once) ...")
        log = target.parent / f"{target.name}.log"
        try:
            _install(engine, device, target, log)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise
        mark.touch()
        report(f"{engine.name}: environment ready after {time.perf_counter() - started:.0f} s")
    return target


def _install(engine: Engine, device: str, target: Path, log: Path) -> None:
    with log.open("w") as output:
        assert engine.native is not None
        sees = ["--system-site-packages"] if engine.native.environment.uses_system_packages else []
        calls = [[sys.executable, "-m", "venv", *sees, str(target)]]
        pip = [str(target / "bin" / "python"), "-m", "pip", "install", "--no-input"]
        calls += [[*pip, *arguments] for arguments in recipe(engine, device)]
        for call in calls:
            output.write(f"$ {' '.join(call)}\n")
            output.flush()
            done = subprocess.run(call, cwd=engine.directory, stdout=output, stderr=output)
            if done.returncode != 0:
                raise UserError(
                    f"{engine.name}: cannot install its environment ({' '.join(call[2:6])} ... "
                    f"ended with {done.returncode}); full log: {log}",
                    log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:],
                )


def recipe(engine: Engine, device: str) -> list[list[str]]:
    """pip's arguments for the engine's environment, one list a pip call.

    Raises:
        UserError: it has none for this device.
    """
    assert engine.native is not None
    environment = engine.native.environment
    calls = environment.cuda if device == "cuda" else environment.cpu
    if not calls:
        raise UserError(
            f"{engine.launch_file}: x-native.environment has no recipe for {device!r}; "
            "this engine cannot run here without a container"
        )
    return calls


def _requirement_files(engine: Engine, arguments: list[str]) -> list[Path]:
    flags = ("-r", "--requirement", "-c", "--constraint")
    pairs = itertools.pairwise(arguments)
    return [engine.directory / value for flag, value in pairs if flag in flags]


def pinned_version(engine: Engine, device: str) -> Version | None:
    """The engine's version as its recipe pins it; None: it does not, or nothing says of what."""
    assert engine.native is not None
    native = engine.native.environment
    calls = native.cuda if device == "cuda" else native.cpu
    words = [word for arguments in calls for word in arguments]
    for arguments in calls:
        for file in _requirement_files(engine, arguments):
            words += file.read_text().split() if file.is_file() else []
    pins = dict(word.split("==", 1) for word in words if word.count("==") == 1)
    texts = [pins[name] for name in engine.version_of if name in pins]
    try:
        return Version(texts[0]) if texts else None
    except InvalidVersion:
        return None

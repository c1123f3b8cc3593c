"""Compose, whichever is installed: the plugin (``docker compose``) or ``docker-compose`` 1.29.

Compose reads an engine's launch file, which alone says how its container is made. It never gets
this process's whole environment: a variable with the name of a setting would silently become one.
"""

import functools
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from enginebench.base.errors import UserError

#: The variables that compose and Docker need, and the token that engines may need.
_PASSED = ("PATH", "HOME", "USER", "XDG_RUNTIME_DIR", "SSH_AUTH_SOCK", "TMPDIR", "HF_TOKEN")
_PASSED_PREFIXES = ("DOCKER_", "ENGINEBENCH_")
_COMMANDS = (("docker", "compose"), ("docker-compose",))
TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Compose:
    argv: tuple[str, ...]
    version: str


@dataclass(frozen=True, slots=True)
class Project:
    """One launch file, and the name that compose gives to its container and network."""

    name: str
    file: Path
    values: Mapping[str, str]  # the file's variables

    @property
    def env(self) -> dict[str, str]:
        passed = {
            name: value
            for name, value in os.environ.items()
            if name in _PASSED or name.startswith(_PASSED_PREFIXES)
        }
        return passed | dict(self.values)

    def argv(self, *words: str) -> list[str]:
        return [*require().argv, "-p", self.name, "-f", str(self.file), *words]

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run compose and wait for its end; after ``TIMEOUT_S`` it is killed, with exit code 124.

        It has its own session, so that Ctrl-C reaches only the harness.
        """
        argv = self.argv(*words)
        try:
            return subprocess.run(
                argv,
                env=self.env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                start_new_session=True,
                timeout=TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            reason = f"`compose {words[0]}` failed: it did not end within {TIMEOUT_S} s"
            return subprocess.CompletedProcess(argv, 124, "", reason)

    def popen(self, *words: str, output: int | None = None) -> subprocess.Popen[bytes]:
        """Start compose, its output going to a file descriptor; None: nowhere."""
        return subprocess.Popen(
            self.argv(*words),
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if output is None else output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


@functools.cache
def find() -> Compose | None:
    """The compose of this machine; None if there is none. Searched once per process."""
    for argv in _COMMANDS:
        if shutil.which(argv[0]) is None:
            continue
        try:
            done = subprocess.run(
                [*argv, "version", "--short"], capture_output=True, text=True, timeout=30
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0 and done.stdout.strip():
            return Compose(argv, done.stdout.strip().lstrip("v"))
    return None


def require() -> Compose:
    """The compose of this machine.

    Raises:
        UserError: there is none.
    """
    compose = find()
    if compose is None:
        raise UserError(
            "compose: expected `docker compose` (the plugin) or docker-compose 1.29, found "
            "neither; install docker-compose-plugin, or run the engines as processes: "
            "RUNNER=process"
        )
    return compose

"""Compose, whichever is installed: the plugin of today (``docker compose``) or its first version.

It reads a launch file, which is all that knows how an engine's container is made. It is never given
this process's environment as it is: a variable that happens to be called like a setting would
silently become one.
"""

import functools
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from enginebench.base.errors import UserError

#: What compose and Docker need of the caller's environment, and the token that engines may need.
_PASSED = ("PATH", "HOME", "USER", "XDG_RUNTIME_DIR", "SSH_AUTH_SOCK", "TMPDIR", "HF_TOKEN")
_PASSED_PREFIXES = ("DOCKER_", "ENGINEBENCH_")
_WAYS = (("docker", "compose"), ("docker-compose",))
TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Compose:
    argv: tuple[str, ...]
    version: str


@dataclass(frozen=True, slots=True)
class Project:
    """One launch file under the name that its container and network are made and found by."""

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
        """Run compose to its end, in a session of its own: Ctrl-C is the harness's to handle.

        One that takes too long is ended, and has failed as one that says so itself.
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
            reason = f"`compose {words[0]}` failed to end within {TIMEOUT_S} s"
            return subprocess.CompletedProcess(argv, 124, "", reason)

    def popen(self, *words: str, output: int | None = None) -> subprocess.Popen[bytes]:
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
    """The compose of this machine; None where there is none."""
    for argv in _WAYS:
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
    found = find()
    if found is None:
        raise UserError(
            "compose: expected `docker compose` (the plugin) or docker-compose 1.29, found "
            "neither; install docker-compose-plugin, or run the engines as processes: "
            "RUNNER=process"
        )
    return found

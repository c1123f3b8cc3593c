"""The Docker daemon: whether it answers, and a client for it."""

import functools
import http.client
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import docker
import requests
import urllib3
from docker.context import ContextAPI
from docker.errors import DockerException

from enginebench.base.errors import UserError
from enginebench.launch import compose

CONNECT_TIMEOUT_S = 20
DEFAULT_HOST = "unix:///var/run/docker.sock"

#: What the Docker client raises when the daemon does not answer, or stops answering.
DOCKER_ERRORS = (
    DockerException,
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
)


@dataclass(frozen=True, slots=True)
class Docker:
    """A daemon that answers."""

    client: docker.DockerClient
    version: str
    system: str  # that it runs on
    root: Path | None  # where it keeps images, on its machine; None: not stated
    runs_gpus: bool  # whether it states that it can give a container an NVIDIA GPU

    def answers(self) -> bool:
        """Whether it still answers."""
        try:
            return bool(self.client.ping())
        except (DockerException, OSError):
            return False


@functools.cache
def connect() -> Docker | str:
    """The daemon that the ``docker`` command uses, or why there is none. Asked once per process."""
    context = None if os.environ.get("DOCKER_HOST") else ContextAPI.get_current_context()
    try:
        if context is not None and context.name != "default" and context.Host:
            _check_listens(context.Host)
            tls = context.TLSConfig or False
            client = docker.DockerClient(context.Host, tls=tls, timeout=CONNECT_TIMEOUT_S)
        else:
            _check_listens(os.environ.get("DOCKER_HOST") or DEFAULT_HOST)
            client = docker.from_env(timeout=CONNECT_TIMEOUT_S)
        version = client.version().get("Version", "unknown")
        return _described(client, version, client.info())
    except (DockerException, OSError) as error:
        return _reason(error)


def _described(client: docker.DockerClient, version: str, info: Mapping[str, Any]) -> Docker:
    devices, root = info.get("DiscoveredDevices") or (), info.get("DockerRootDir")
    by_cdi = any("nvidia" in str(device.get("ID")) for device in devices)
    return Docker(
        client,
        version,
        system=str(info.get("OperatingSystem")),
        root=Path(root) if root else None,
        runs_gpus="nvidia" in (info.get("Runtimes") or {}) or by_cdi,
    )


def require() -> Docker:
    """The daemon; compose is there too.

    Raises:
        UserError: one of them is missing.
    """
    daemon = connect()
    if isinstance(daemon, str):
        raise UserError(
            f"Docker: expected a daemon that answers, found none ({daemon}); start it, or run the "
            "engines as processes: RUNNER=process"
        )
    compose.require()
    return daemon


def _check_listens(host: str) -> None:
    """Raise OSError if nothing listens: Docker's client would raise a much longer message."""
    url = urlsplit(host)
    if url.scheme == "unix":
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(CONNECT_TIMEOUT_S)
            probe.connect(url.path)
    elif url.scheme in ("tcp", "http", "https") and url.hostname:
        socket.create_connection((url.hostname, url.port or 2375), CONNECT_TIMEOUT_S).close()


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or (str(error).strip().splitlines() or [""])[0]
    return str(text) or type(error).__name__

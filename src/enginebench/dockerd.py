"""The Docker daemon: whether it is there, and a client that speaks to it."""

import functools
from dataclasses import dataclass
from typing import Any

import docker
from docker.context import ContextAPI
from docker.errors import DockerException

from enginebench import compose
from enginebench.errors import UserError

CONNECT_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True)
class Docker:
    """A daemon that answers."""

    client: docker.DockerClient
    version: str
    info: dict[str, Any]

    def answers(self) -> bool:
        """Whether it still does."""
        try:
            return bool(self.client.ping())
        except (DockerException, OSError):
            return False

    @property
    def runs_gpus(self) -> bool:
        """Whether it can give a container an NVIDIA GPU, as far as it says."""
        devices = self.info.get("DiscoveredDevices") or ()
        by_cdi = any("nvidia" in str(device.get("ID")) for device in devices)
        return "nvidia" in (self.info.get("Runtimes") or {}) or by_cdi


@functools.cache
def connect() -> Docker | str:
    """The daemon that ``docker`` itself would speak to, or why there is none."""
    try:
        client = _client()
        version = client.version().get("Version", "unknown")
        return Docker(client, version, client.info())
    except (DockerException, OSError) as error:
        return _reason(error)


def require() -> Docker:
    found = connect()
    if isinstance(found, str):
        raise UserError(
            f"Docker: expected a daemon that answers, found none ({found}); start it, or run the "
            "engines as processes: RUNNER=process"
        )
    compose.require()
    return found


def _client() -> docker.DockerClient:
    """DOCKER_HOST if it is set, else the host of the chosen context, as the command line does."""
    client = docker.from_env
    context = ContextAPI.get_current_context()
    if context is None or context.name == "default":
        return client(timeout=CONNECT_TIMEOUT_S)
    return docker.DockerClient(base_url=context.Host, tls=context.TLSConfig or False)


def _reason(error: BaseException) -> str:
    """The innermost word on why: the outer ones repeat it with their own names around."""
    while error.__context__ is not None or error.__cause__ is not None:
        error = error.__cause__ or error.__context__ or error
    text = getattr(error, "strerror", None) or str(error).strip().splitlines()[:1]
    return str(text if isinstance(text, str) else "".join(text)) or type(error).__name__

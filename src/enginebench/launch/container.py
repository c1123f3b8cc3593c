"""Engines in containers: compose brings them up and down, the Docker client observes them."""

import contextlib
import re
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import psutil
import yaml
from docker.models.containers import Container

from enginebench.base.errors import EngineError
from enginebench.base.redaction import hide_home, redact, redact_values
from enginebench.engines.address import Address
from enginebench.engines.directory import Engine
from enginebench.engines.interpolation import Setting, as_text
from enginebench.launch import leftovers
from enginebench.launch.compose import Project
from enginebench.launch.container_observer import Observer
from enginebench.launch.docker_daemon import DOCKER_ERRORS, Docker
from enginebench.launch.log_file import LogFile
from enginebench.launch.server import (
    HOST,
    LOG_TAIL_LINES,
    STOP_GRACE_S,
    ContainerEnd,
    ContainerFacts,
    Server,
    StartFacts,
    StopFacts,
)

INSIDE_HOST = "0.0.0.0"  # in a network of its own; outside, only the loopback is published
_ERROR_LINES = re.compile(r"error|cannot|denied|failed|no such|not found", re.IGNORECASE)


def project(
    engine: Engine, settings: Mapping[str, Setting], device: str, image: str, port: int, launch: str
) -> Project:
    """The engine's launch file with every variable set that this launch sets."""
    values = {name: as_text(value) for name, value in settings.items()}
    values |= {"HOST": INSIDE_HOST, "PORT": str(port), "IMAGE": image}
    values |= {"DEVICE": "gpu" if device == "cuda" else "cpu"}
    name = f"{leftovers.name_prefix()}-{launch}"
    return Project(re.sub(r"[^a-z0-9_-]", "-", name.lower()), engine.launch_file, values)


def start(engine: Engine, launched: Project, docker: Docker, directory: Path) -> Server:
    """Bring the engine's container up; what compose made of the launch file is kept beside its log.

    Raises:
        EngineError: compose or Docker could not; nothing of the project is left then.
    """
    resolved = launched.call("config")
    if resolved.returncode:
        reasons = _reasons(resolved.stderr)
        raise EngineError(
            f"{engine.name}: compose cannot resolve {engine.launch_file}: {reasons[-1]}", reasons
        )
    text = yaml.safe_dump(redact_values(yaml.safe_load(resolved.stdout)), sort_keys=False)
    (directory / "compose.yaml").write_text(hide_home(text), encoding="utf-8")
    started_s = time.perf_counter()
    done = launched.call("up", "-d", "--no-build")
    if done.returncode:
        _down(launched)
        reasons = _reasons(done.stderr)
        raise EngineError(
            f"{engine.name}: compose could not start its container: {reasons[-1]}", reasons
        )
    try:
        (container,) = docker.client.containers.list(
            all=True, filters={"label": f"{leftovers.PROJECT}={launched.name}"}
        )
        log = LogFile(directory / "server.log", _environment(container))
        observer = Observer(container, log)
        is_local = _is_local(container)
        address = _address(container, int(launched.values["PORT"]), is_local)
        facts = _facts(container, docker, address)
    except DOCKER_ERRORS as error:
        _down(launched)
        raise EngineError(
            f"{engine.name}: Docker stopped answering ({type(error).__name__}) right after its "
            "container was started"
        ) from None
    return Server(
        engine,
        address,
        container.attrs["State"]["Pid"] or None if is_local else None,
        log,
        started_s,
        observer.death,
        lambda is_urgent: _stop(launched, container, observer, is_urgent),
        facts,
        observer.meters,
    )


def _down(launched: Project) -> subprocess.CompletedProcess[str]:
    """Remove all of the project: container, network, anonymous volumes."""
    return launched.call("down", "-v", "--remove-orphans", "-t", "0")


def _reasons(text: str) -> list[str]:
    """The lines of compose's output that say what went wrong, else its last ones."""
    lines = [line.strip() for line in redact(text).splitlines() if line.strip()]
    errors = [line for line in dict.fromkeys(lines) if _ERROR_LINES.search(line)]
    return (errors or lines or ["no reason was printed"])[-LOG_TAIL_LINES:]


def _is_local(container: Container) -> bool:
    """Whether containers run on this very machine, not in a virtual one or elsewhere.

    Their network's gateway is then an address of ours, and their processes are ours to see.
    """
    container.reload()
    gateways = {n["Gateway"] for n in container.attrs["NetworkSettings"]["Networks"].values()}
    ours = {address.address for of_one in psutil.net_if_addrs().values() for address in of_one}
    return bool(gateways & ours)


def _address(container: Container, port: int, is_local: bool) -> Address:
    """Where the client asks: the container itself where it can be reached, else its published port.

    A port published on the loopback goes through a process of Docker's that copies every byte: it
    would be measured, and take CPU time, with every token.
    """
    networks = container.attrs["NetworkSettings"]["Networks"].values()
    inside = next((network["IPAddress"] for network in networks if network["IPAddress"]), "")
    return Address(inside if is_local and inside else HOST, port)


def _facts(container: Container, docker: Docker, address: Address) -> StartFacts:
    """What ran, as Docker sees it: the image by its digest, the command with its entrypoint."""
    config = container.attrs["Config"]
    image = docker.client.images.get(container.attrs["Image"])
    of_image = set((image.attrs["Config"] or {}).get("Env") or ())
    added = [line for line in config.get("Env") or () if line not in of_image]
    return StartFacts(
        command=[*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())],
        env=_pairs(added),
        inherited_env={},
        container=ContainerFacts(
            name=str(container.name),
            image=config["Image"],
            image_id=str(image.id),
            image_digests=image.attrs.get("RepoDigests") or [],
            image_created=image.attrs.get("Created"),
            docker=docker.version,
            asked_at=address.host,
        ),
    )


def _environment(container: Container) -> dict[str, str]:
    return _pairs(container.attrs["Config"].get("Env") or ())


def _pairs(lines: Iterable[str]) -> dict[str, str]:
    return dict(line.partition("=")[::2] for line in lines)


def _stop(
    launched: Project, container: Container, observer: Observer, is_urgent: Callable[[], bool]
) -> StopFacts:
    """Stop the container, read the rest of its log, and remove all of the project."""
    ended = ContainerEnd()
    died = observer.death()
    stopping = launched.popen("stop", "-t", f"{STOP_GRACE_S:g}")
    while stopping.poll() is None:
        if is_urgent():
            with contextlib.suppress(*DOCKER_ERRORS):
                container.kill()
            break
        time.sleep(0.05)
    with contextlib.suppress(subprocess.TimeoutExpired):
        stopping.wait(2 * STOP_GRACE_S)
    observer.join(STOP_GRACE_S / 3)
    with contextlib.suppress(*DOCKER_ERRORS):
        container.reload()
        state = container.attrs["State"]
        restarts = container.attrs["RestartCount"]
        ended = ContainerEnd(died, state["ExitCode"], state["OOMKilled"], restarts)
    done = _down(launched)
    observer.log.close()
    return StopFacts(ended, tuple(_reasons(done.stderr)) if done.returncode else ())

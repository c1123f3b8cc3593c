"""The images of the engines' containers: which one, and that it is there before a study starts."""

import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from docker.errors import ImageNotFound
from packaging.version import InvalidVersion, Version

from enginebench.base.errors import UserError
from enginebench.base.redaction import redact
from enginebench.engines.directory import Engine
from enginebench.engines.interpolation import interpolate
from enginebench.launch.compose import Project
from enginebench.launch.docker_daemon import DOCKER_ERRORS, Docker
from enginebench.launch.server import LOG_TAIL_LINES

REPORT_EVERY_S = 10.0  # the progress of a pull


def name(engine: Engine, device: str) -> str:
    """The image that the launch file names for this device ("cpu" or "cuda").

    Raises:
        UserError: it names none.
    """
    if device == "cpu" and engine.image and not engine.cpu_image:
        raise UserError(
            f"{engine.launch_file}: no x-cpu-image key, so this engine's container needs an NVIDIA "
            f"GPU; run it on one, leave it out of the study, or give an image that needs none: "
            f"--image {engine.name}=IMAGE"
        )
    image = engine.cpu_image if device == "cpu" else engine.image
    if not image:
        raise UserError(
            f"{engine.launch_file}: its service has no image, so this engine does not run in a "
            "container; run it as a process (RUNNER=process) or give it an image"
        )
    return interpolate(image, {}, str(engine.launch_file))


def tag_version(image: str) -> Version | None:
    """The version that an image's tag states; None: it states none."""
    tag = re.search(r":v?(\d+(?:\.\w+)+)", image)
    try:
        return Version(tag[1]) if tag else None
    except InvalidVersion:
        return None


def ensure(
    engine: Engine,
    device: str,
    chosen: str,
    docker: Docker,
    cache: Path,
    report: Callable[[str], None],
) -> str:
    """Build the engine's image if its launch file says so; else pull it if it is missing.

    Args:
        chosen: an image to use instead of the launch file's; empty: the launch file's.
        cache: the directory for logs of builds.
        report: gets lines about the progress.

    Returns:
        the name of the image.

    Raises:
        UserError: it can be neither built nor pulled.
    """
    image = chosen or name(engine, device)
    if engine.is_built and not chosen:
        _build(engine, device, image, cache, report)  # every time: unchanged layers cost nothing
        return image
    try:
        docker.client.images.get(image)
    except ImageNotFound:
        _pull(engine, image, docker, report)
    return image


def _build(
    engine: Engine, device: str, image: str, cache: Path, report: Callable[[str], None]
) -> None:
    log = cache / "builds" / f"{engine.name}-{device}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    report(f"{engine.name}: building its image {image} (minutes the first time; log: {log}) ...")
    values = {"IMAGE": image, "DEVICE": "gpu" if device == "cuda" else "cpu", "MODEL": "/"}
    building = Project("enginebench-build", engine.launch_file, values)
    with log.open("wb") as output:
        process = building.popen("build", output=output.fileno())
        try:
            code = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if code:
        tail = redact(log.read_text(errors="replace")).splitlines()[-LOG_TAIL_LINES:]
        raise UserError(
            f"{engine.name}: cannot build its image from {engine.directory} (compose ended with "
            f"{code}); fix that, or run the engines as processes (RUNNER=process); full log: {log}",
            tail,
        )


def _pull(engine: Engine, image: str, docker: Docker, report: Callable[[str], None]) -> None:
    report(f"{engine.name}: pulling {image} (once) ...")
    repository, _, tag = image.rpartition(":")
    if not repository or "/" in tag:  # no tag: the colon belongs to a port, or there is none
        repository, tag = image, "latest"
    layers: dict[str, tuple[float, float]] = {}
    start_s = reported_s = time.perf_counter()
    try:
        for event in docker.client.api.pull(repository, tag, stream=True, decode=True):
            if "error" in event:
                raise _no_image(engine, image, event["error"])
            _note(layers, event)
            if time.perf_counter() - reported_s > REPORT_EVERY_S:
                reported_s = time.perf_counter()
                report(f"{engine.name}: {progress_text(layers.values(), reported_s - start_s)}")
    except DOCKER_ERRORS as error:
        raise _no_image(engine, image, str(error)) from None


def _no_image(engine: Engine, image: str, reason: str) -> UserError:
    short = " ".join(redact(reason).split())[:300]
    return UserError(
        f"{engine.name}: expected the image {image} on this machine or in its registry, found it "
        f"in neither ({short}); check the name, the network and your access, give another one with "
        f"--image {engine.name}=IMAGE, or run the engines as processes (RUNNER=process)"
    )


def _note(layers: dict[str, tuple[float, float]], event: Mapping[str, Any]) -> None:
    """Update a layer's downloaded bytes and total bytes."""
    detail = event.get("progressDetail") or {}
    if event.get("status") == "Downloading" and detail.get("total"):
        layers[event["id"]] = (float(detail["current"]), float(detail["total"]))
    elif event.get("status") == "Download complete" and event.get("id") in layers:
        layers[event["id"]] = (layers[event["id"]][1],) * 2


def progress_text(layers: Iterable[tuple[float, float]], elapsed_s: float) -> str:
    """How far a pull is, from downloaded and total bytes of each layer that has begun."""
    sizes = list(layers)
    done, total = (sum(size[column] for size in sizes) for column in (0, 1))
    if not done:
        return "waiting for the registry"
    left_s = (total - done) / (done / elapsed_s)
    return f"{done / 2**30:.1f} of {total / 2**30:.1f} GiB pulled, about {left_s:.0f} s left"

"""Everything that is settled before the first engine starts: engines, model, prompts, plan."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tokenizers import Tokenizer

from enginebench.base import linux
from enginebench.base.errors import UserError
from enginebench.engines import directory
from enginebench.engines.directory import Engine
from enginebench.hardware import machine, nvml, prices
from enginebench.hardware.prices import HourlyPrice
from enginebench.hardware.roofline import Ceiling
from enginebench.launch import environment, images, measured_ceilings, model_overlay, process
from enginebench.launch.docker_daemon import Docker
from enginebench.launch.measured_ceilings import Probe
from enginebench.load import calibrate
from enginebench.load.calibrate import Calibration
from enginebench.plan import models, plan, prompt_files, prompts
from enginebench.plan.plan import Cell, Launch, Plan
from enginebench.plan.prompt_files import Sources
from enginebench.plan.study_file import Study
from enginebench.record.schema import SCHEMA
from enginebench.run import cell_requests, noise_probe
from enginebench.run.cell_requests import Work
from enginebench.run.noise_probe import Noise

Log = Callable[[str], None]
OTHER_FILES = 200  # that a study has open besides its connections


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Everything that is settled before the first engine starts."""

    study: Study
    plan: Plan
    engines: Mapping[str, Engine]
    model_paths: Mapping[str, Path]  # by engine: the model's files in the form that it is given
    tokenizer: Tokenizer
    work: Mapping[str, Work]  # by cell id
    texts: Sequence[str]  # that prompts are made of
    root: Path  # where relative paths of the study begin
    device: str  # "cpu" or "cuda"
    cache: Path
    docker: Docker | None  # None: the engines run as processes
    images: Mapping[str, str] = field(default_factory=dict)  # by engine: of their containers
    probes: tuple[Probe, ...] = ()  # each measures this machine with one engine's libraries
    noise: Noise | None  # None: the study does not want it measured
    calibration: tuple[Calibration, ...] = ()  # of the client, at this study's levels
    facts: Mapping[str, Any]  # the contents of study.json

    def more_work(self, cell: Cell, attempt: int) -> Work:
        """The requests of a further attempt of a cell: other prompts, the same lengths."""
        texts = list(self.texts)
        return cell_requests.make(self.study, cell, self.tokenizer, texts, self.root, attempt)

    def client_processes(self, item: Launch, cell: Cell) -> int:
        """Processes that the load generator needs for a cell."""
        expected = plan.tokens_per_s(item, cell)
        return calibrate.processes(self.calibration, expected, len(machine.cpus()))

    def ceiling(self) -> Ceiling | str:
        """The machine's ceiling: a GPU's from its data sheet; a CPU's is measured, in seconds.

        A text says why it is not known.
        """
        return _ceiling(self.device, self.probes)


def load_engines(study: Study, root: Path, where: str) -> dict[str, Engine]:
    """The study's engines, by name.

    Args:
        root: the directory that holds the engines.
        where: the study's file, for messages.

    Raises:
        UserError: no such engine, or a setting that it, or no engine of the study, understands.
    """
    engines = {}
    for index, variant in enumerate(study.engines):
        place = f"{where}: engines[{index}]"
        engine = directory.load_engine(root, variant.engine, f"{place}.engine: ")
        directory.check_settings(variant.settings, engine.settings, place)
        engines[variant.engine] = engine
    known = set().union(*(engine.settings for engine in engines.values()))
    directory.check_settings(study.settings, known, where)
    return engines


def prepare(
    study: Study,
    engines: Mapping[str, Engine],
    *,
    root: Path,
    cache: Path,
    rerun: str,
    device: str,
    docker: Docker | None = None,
    chosen_images: Mapping[str, str] = MappingProxyType({}),
    log: Log,
) -> Prepared:
    """Get ready everything that needs no engine running: environments, model, prompts, plan.

    Args:
        root: the directory that holds the engines; relative paths of the study begin there.
        cache: where environments and generated models are kept.
        rerun: the command that runs this study again, for the report.
        device: "cpu" or "cuda".
        docker: the daemon whose containers the engines run in; None: they run as processes.
        chosen_images: by engine, instead of those that the launch files name.
        log: gets a line before each step that takes long.

    Raises:
        UserError: whatever the study asks for that is not there or cannot be.
    """
    _require_possible(engines, device, docker, chosen_images)
    price = _price(study, device, log)
    source = root / study.prompts.path  # root / an absolute path is that path
    sources = prompt_files.read(source, study.prompts.format)
    if sources.left_out:
        log(f"{source}: {sources.left_out} entries have no prompt and are left out")
    texts = list(sources.texts)
    model = models.resolve(study.model, texts, cache / "models", log)
    tokenizer = prompts.load_tokenizer(model.path)
    made = plan.make(study)
    most = max((c.concurrency for item in made.launches for c in item.cells), default=0)
    linux.allow_open_files(most + OTHER_FILES, f"{most} requests in flight")
    work = cell_requests.make_all(study, made, tokenizer, texts, root, model.context)
    image_of: dict[str, str] = {}
    if docker is None:
        probes = _install_environments(engines, device, cache, log)
    else:
        for name, engine in engines.items():
            chosen = chosen_images.get(name, "")
            image_of[name] = images.ensure(engine, device, chosen, docker, cache, log)
        probes = [measured_ceilings.in_container(docker, image) for image in image_of.values()]
    model_paths = _model_paths(engines, model.path, docker)
    noise = _noise(study, log)
    log("measuring the load generator against a server whose times are known ...")
    calibration = calibrate.study(made, study.calibration_s)
    facts = {
        "schema": SCHEMA,
        "study": study.model_dump(mode="json"),
        "rerun": rerun,
        "runner": "process" if docker is None else "container",
        "price": None if price is None else asdict(price),
        "git": machine.git_state(root),
        "prompts": _prompt_facts(study, source, sources),
        "model": _model_facts(model),
        "plan": [_launch_facts(item) for item in made.launches],
        "noise": None if noise is None else asdict(noise),
    } | _machine_facts(device, probes, calibration, log)
    return Prepared(
        study=study, plan=made, engines=engines, model_paths=model_paths, tokenizer=tokenizer,
        work=work, texts=texts, root=root, device=device, cache=cache, docker=docker,
        images=image_of, probes=tuple(probes), noise=noise, calibration=tuple(calibration),
        facts=facts,
    )  # fmt: skip


def _require_possible(
    engines: Mapping[str, Engine],
    device: str,
    docker: Docker | None,
    chosen_images: Mapping[str, str],
) -> None:
    """Refuse what cannot be before anything takes time."""
    if device == "cuda" and not machine.gpus():
        raise UserError(
            f"device: expected an NVIDIA GPU for this study, found none "
            f"({nvml.error() or 'no NVML library'}); make doctor says what this machine has"
        )
    for engine in engines.values():
        if docker is None:
            process.recipe(engine)
        elif engine.name not in chosen_images:
            images.name(engine, device)


def _price(study: Study, device: str, log: Log) -> HourlyPrice | None:
    """What an hour costs. Where the study states no price, say so while one can still be given."""
    gpus = [gpu["name"] for gpu in machine.gpus()] if device == "cuda" else []
    if study.price is not None:
        return study.price.hourly(gpus)
    log(f"no costs will be computed, as the study states no price: {prices.advice(gpus)}")
    return None


def _noise(study: Study, log: Log) -> Noise | None:
    if not study.noise_probe_s:
        return None
    log("measuring how steady this machine is ...")
    return noise_probe.measure(machine.cpus(), study.noise_probe_s)


def _install_environments(
    engines: Mapping[str, Engine], device: str, cache: Path, log: Log
) -> list[Probe]:
    """Build the engines' environments; the probes that run in them."""
    for engine in engines.values():
        environment.build(engine, device, cache, log)
    pythons = [environment.python(engine, device, cache) for engine in engines.values()]
    return [measured_ceilings.in_environment(python) for python in pythons]


def _model_paths(
    engines: Mapping[str, Engine], model: Path, docker: Docker | None
) -> dict[str, Path]:
    plain = model if docker is None else model_overlay.without_links(model)
    return {
        engine.name: model_overlay.without_eos(model) if engine.without_eos else plain
        for engine in engines.values()
    }


def _ceiling(device: str, probes: Sequence[Probe]) -> Ceiling | str:
    gpus = machine.gpus() if device == "cuda" else []
    return measured_ceilings.of_machine(gpus, probes, len(machine.cpus()))


def _machine_facts(
    device: str, probes: Sequence[Probe], calibration: Sequence[Calibration], log: Log
) -> dict[str, Any]:
    """What this machine is, what it can do at most, what the client costs on it, and when."""
    log("looking up what this machine can do at most ...")
    ceiling = _ceiling(device, probes)
    has_gpu = device == "cuda" and bool(machine.gpus())
    reached = measured_ceilings.reached(probes, len(machine.cpus()), device) if has_gpu else None
    return {
        "started_at": datetime.now(UTC).isoformat(),
        "clock": machine.clocks(),
        "device": device,
        "machine": machine.facts(),
        "calibration": [asdict(item) for item in calibration],
        "ceiling": asdict(ceiling) if isinstance(ceiling, Ceiling) else None,
        "ceiling_unknown": ceiling if isinstance(ceiling, str) else None,
        "gpu_reached": asdict(reached) if isinstance(reached, Ceiling) else None,
    }


def _prompt_facts(study: Study, source: Path, found: Sources) -> dict[str, Any]:
    return {
        "path": study.prompts.path,
        "sha256": prompts.file_sha256(source),
        "count": len(found.texts),
        "left_out": found.left_out,
    }


def _model_facts(model: models.Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "sha256": model.sha256,
        "hashed": model.hashed,
        "has_random_weights": model.has_random_weights,
        "parameters": model.parameters,
        "weights_bytes": model.weights_bytes,
        "config": model.config,
    }


def _launch_facts(item: Launch) -> dict[str, Any]:
    return {
        "id": item.id,
        "trial": item.trial,
        "engine": item.variant.engine,
        "variant": item.variant.variant,
        "label": item.variant.label,
        "cells": [
            {
                "id": cell.id,
                "workload": cell.workload.name,
                "concurrency": cell.concurrency,
                "rate": cell.rate,
                "requests": cell.requests,
            }
            for cell in item.cells
        ],
    }

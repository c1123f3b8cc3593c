"""Everything that is settled before the first engine starts: engines, model, prompts, plan."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tokenizers import Tokenizer

from enginebench.base.errors import UserError
from enginebench.engines import directory
from enginebench.engines.dialect import Ask
from enginebench.engines.directory import Engine
from enginebench.hardware import machine, nvml, prices
from enginebench.hardware.prices import HourlyPrice
from enginebench.hardware.roofline import Ceiling
from enginebench.launch import environment, images, measured_ceilings, model_overlay, process
from enginebench.launch.docker_daemon import Docker
from enginebench.load import calibrate
from enginebench.load.calibrate import Calibration
from enginebench.plan import arrivals, models, plan, prompts
from enginebench.plan.plan import Cell, Launch, Plan
from enginebench.plan.study_file import Study
from enginebench.record.files import SCHEMA


@dataclass(frozen=True, slots=True)
class Work:
    """The requests of one cell: the same for every engine and every trial."""

    warmup: tuple[Ask, ...]
    measured: tuple[Ask, ...]
    due_s: tuple[float, ...] | None = None  # open loop: when each is due after the start


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that is settled before the first engine starts."""

    study: Study
    plan: Plan
    engines: Mapping[str, Engine]
    model: models.Model
    model_paths: Mapping[str, Path]  # by engine: the model's files in the form that it is given
    tokenizer: Tokenizer
    work: Mapping[str, Work]  # by cell id
    device: str
    cache: Path
    ceiling: Callable[[], Ceiling | str]  # finds (on a CPU: measures) the machine's; or why not
    facts: Mapping[str, Any]  # what study.json says
    calibration: tuple[Calibration, ...] = ()  # of the client, at this study's levels
    docker: Docker | None = None  # None: the engines run as processes
    images: Mapping[str, str] = field(default_factory=dict)  # by engine: of their containers

    def client_processes(self, item: Launch, cell: Cell) -> int:
        """Processes that the load generator needs for a cell."""
        expected = plan.tokens_per_s(item, cell)
        return calibrate.processes(self.calibration, expected, len(machine.cpus()))


def load_engines(study: Study, root: Path, where: str) -> dict[str, Engine]:
    """The study's engines, and whether their settings are ones they understand.

    Args:
        where: the study's file, for messages.
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
    root: Path,
    cache: Path,
    rerun: str,
    say: Callable[[str], None],
    device: str,
    docker: Docker | None = None,
    chosen_images: Mapping[str, str] = MappingProxyType({}),
) -> Prepared:
    """Get ready everything that needs no engine running: environments, model, prompts, plan.

    Args:
        device: "cpu" or "cuda".
        docker: the daemon whose containers the engines run in; None: they run as processes.
        chosen_images: by engine, instead of those that the launch files name.
        rerun: the command that runs this study again, for the report.
        say: told what takes long.

    Raises:
        UserError: whatever the study asks for that is not there or cannot be.
    """
    if device == "cuda" and not machine.gpus():
        raise UserError(
            f"device: expected an NVIDIA GPU for this study, found none "
            f"({nvml.error() or 'no NVML library'}); make doctor says what is here"
        )
    gpus = machine.gpus() if device == "cuda" else []
    price = _price(study, [gpu["name"] for gpu in gpus], say)
    for engine in engines.values():  # what cannot be is said before anything takes time
        if docker is None:
            process.recipe(engine)
        elif engine.name not in chosen_images:
            images.name(engine, device)
    source = Path(study.prompts.path)
    source = source if source.is_absolute() else root / source
    texts = prompts.read_sources(source, study.prompts.format)
    found = models.resolve(study.model, texts, cache / "models", say)
    tokenizer = prompts.load_tokenizer(found.path)
    made = plan.make(study)
    work = {}
    cells = [cell for item in made.launches for cell in (*item.cells, item.agreement) if cell]
    for cell in {cell.id: cell for cell in cells}.values():
        _check_context(cell, found)
        work[cell.id] = _make_work(study, cell, tokenizer, texts, root)
    image_of: dict[str, str] = {}
    if docker is None:
        for engine in engines.values():
            environment.build(engine, device, cache, say)
    else:
        for engine in engines.values():
            wanted = chosen_images.get(engine.name, "")
            image_of[engine.name] = images.ensure(engine, device, wanted, docker, cache, say)
    plain = found.path if docker is None else model_overlay.without_links(found.path)
    model_paths = {
        engine.name: model_overlay.without_eos(found.path) if engine.without_eos else plain
        for engine in engines.values()
    }
    if docker is None:
        pythons = [environment.python(engine, device, cache) for engine in engines.values()]
        probes = [measured_ceilings.in_environment(python) for python in pythons]
    else:
        probes = [measured_ceilings.in_container(docker, image) for image in image_of.values()]

    def find_ceiling() -> Ceiling | str:
        return measured_ceilings.here(gpus, probes, len(machine.cpus()))

    say("measuring the load generator against a server whose times are known ...")
    calibration = calibrate.study(made, study.calibration_s)
    say("looking up what this machine can do at most ...")
    ceiling = find_ceiling()
    reached = measured_ceilings.reached(probes, len(machine.cpus()), device) if gpus else None
    facts = {
        "schema": SCHEMA,
        "study": study.model_dump(mode="json"),
        "started_at": datetime.now(UTC).isoformat(),
        "clock": machine.clocks(),
        "rerun": rerun,
        "runner": "process" if docker is None else "container",
        "device": device,
        "machine": machine.facts(),
        "calibration": [asdict(found) for found in calibration],
        "price": None if price is None else asdict(price),
        "ceiling": asdict(ceiling) if isinstance(ceiling, Ceiling) else None,
        "ceiling_unknown": ceiling if isinstance(ceiling, str) else None,
        "gpu_reached": asdict(reached) if isinstance(reached, Ceiling) else None,
        "git": machine.git_state(root),
        "prompts": {
            "path": study.prompts.path,
            "sha256": prompts.file_sha256(source),
            "count": len(texts),
        },
        "model": {
            "name": found.name,
            "sha256": found.sha256,
            "hashed": found.hashed,
            "has_random_weights": found.has_random_weights,
            "parameters": found.parameters,
            "config": found.config,
        },
        "plan": [_launch_facts(item) for item in made.launches],
    }
    return Prepared(
        study,
        made,
        engines,
        found,
        model_paths,
        tokenizer,
        work,
        device,
        cache,
        find_ceiling,
        facts,
        tuple(calibration),
        docker,
        image_of,
    )


def _price(
    study: Study, gpus: Sequence[str | None], say: Callable[[str], None]
) -> HourlyPrice | None:
    """What an hour costs; without a price it is said, so that it can still be given."""
    if study.price is not None:
        return study.price.hourly(gpus)
    say(f"no costs will be worked out, as the study states no price: {prices.advice(gpus)}")
    return None


def _check_context(cell: Cell, found: models.Model) -> None:
    wanted = cell.workload.prompt_tokens + cell.workload.longest_output
    if found.context is not None and wanted > found.context:
        raise UserError(
            f"workload {cell.workload.name}: expected prompt and output to fit the model's context "
            f"of {found.context} tokens, found {cell.workload.prompt_tokens} + "
            f"{cell.workload.longest_output} = {wanted}; ask for less"
        )


def _make_work(
    study: Study, cell: Cell, tokenizer: Tokenizer, texts: list[str], root: Path
) -> Work:
    workload = cell.workload
    seed = f"{study.seed}/{cell.id}"
    outputs = [workload.warmup_output_tokens] * cell.warmups
    inputs = [workload.prompt_tokens] * (cell.warmups + cell.requests)
    trace = arrivals.read_trace(root / workload.trace) if workload.trace else []
    if trace:  # root / an absolute path is that path
        rows = [trace[index % len(trace)] for index in range(cell.requests)]
        outputs += [min(row.output_tokens, workload.longest_output) for row in rows]
        longest = workload.prompt_tokens
        inputs[cell.warmups :] = [min(row.prompt_tokens, longest) for row in rows]
    else:
        outputs += plan.output_lengths(workload, cell.requests, seed)
    # One set for both: no measured prompt is ever seen in the warm-up.
    sets = {
        length: iter(
            prompts.make_set(tokenizer, texts, length, count, _set_seed(seed, trace, length))
        )
        for length, count in Counter(inputs).items()
    }
    made = [next(sets[length]) for length in inputs]
    asks = [
        Ask(prompt.ids, prompt.text, length, study.seed, prompt.sha256, cell.wants_ids)
        for prompt, length in zip(made, outputs, strict=True)
    ]
    due_s = None
    if cell.rate is not None:
        due_s = tuple(arrivals.due_s(workload, cell.rate, cell.requests, seed, trace))
    return Work(tuple(asks[: cell.warmups]), tuple(asks[cell.warmups :]), due_s)


def _set_seed(seed: str, trace: Sequence[object], length: int) -> str:
    """Prompts of different lengths must not begin with the same tag."""
    return f"{seed}/{length}" if trace else seed


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

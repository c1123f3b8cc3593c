"""Everything that is settled before the first engine starts: engines, model, prompts, plan."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from tokenizers import Tokenizer

from enginebench.base import linux
from enginebench.base.errors import UserError
from enginebench.engines import directory, variants
from enginebench.engines.directory import Engine
from enginebench.hardware import machine, nvml, prices
from enginebench.hardware.prices import HourlyPrice
from enginebench.hardware.roofline import Ceiling
from enginebench.launch import environment, images, measured_ceilings
from enginebench.launch.docker_daemon import Docker
from enginebench.launch.measured_ceilings import Probe
from enginebench.load import calibrate
from enginebench.load.calibrate import Calibration
from enginebench.plan import models, plan, prompt_files, prompts
from enginebench.plan.plan import Cell, Launch, Plan
from enginebench.plan.study_file import Study
from enginebench.record import schema_study
from enginebench.run import applied, cell_requests, left_out, noise_probe, profile, study_facts
from enginebench.run.applied import Applied
from enginebench.run.cell_requests import Work
from enginebench.run.left_out import Place, Reasons
from enginebench.run.noise_probe import Noise
from enginebench.run.profile import Device

Log = Callable[[str], None]
OTHER_FILES = 200  # that a study has open besides its connections


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Everything that is settled before the first engine starts."""

    study: Study
    plan: Plan
    engines: Mapping[str, Engine]
    applied: Mapping[str, Applied]  # by engine/variant
    tokenizer: Tokenizer
    work: Mapping[str, Work]  # by cell id
    texts: Sequence[str]  # that prompts are made of
    root: Path  # where relative paths of the study begin
    device: Device
    cache: Path
    docker: Docker | None  # None: the engines run as processes
    images: Mapping[str, str] = field(default_factory=dict)  # by engine: of their containers
    probes: tuple[Probe, ...] = ()  # each measures this machine with one engine's libraries
    noise: Noise | None  # None: the study does not want it measured
    calibration: tuple[Calibration, ...] = ()  # of the client, at this study's levels
    facts: schema_study.Study  # the contents of study.json

    def more_work(self, cell: Cell, attempt: int) -> Work:
        """The requests of a further attempt of a cell: other prompts, the same lengths."""
        texts = list(self.texts)
        return cell_requests.make(self.study, cell, self.tokenizer, texts, self.root, attempt)

    def client_processes(self, item: Launch, cell: Cell) -> int:
        """Processes that the load generator needs for a cell."""
        expected = plan.tokens_per_s(item, cell)
        return calibrate.processes(self.calibration, expected, len(machine.cpus()))

    def ceiling(self) -> Ceiling | str:
        """The machine's ceiling, as of ``study_facts.ceiling``; a CPU's is measured again."""
        return study_facts.ceiling(self.device, self.probes)


def load_engines(study: Study, root: Path, where: str) -> dict[str, Engine]:
    """The study's engines, by name.

    Args:
        root: the directory that holds the engines.
        where: the study's file, for messages.

    Raises:
        UserError: no such engine, a setting that it, or no engine of the study, understands, or
            variants that it does not declare or that do not agree.
    """
    engines = {}
    for index, variant in enumerate(study.engines):
        place = f"{where}: engines[{index}]"
        engine = directory.load_engine(root, variant.engine, f"{place}.engine: ")
        directory.check_settings(variant.settings, engine.settings, place)
        who = f"{place}.engine: {variant.engine}"
        variants.combine(variant.declared, engine.declared, variant.settings, who)
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
    device: Device,
    docker: Docker | None = None,
    chosen_images: Mapping[str, str] = MappingProxyType({}),
    log: Log,
) -> Prepared:
    """Get ready everything that needs no engine running: environments, model, prompts, plan.

    Args:
        root: the directory that holds the engines; relative paths of the study begin there.
        cache: where environments and generated models are kept.
        rerun: the command that runs this study again, for the report.
        docker: the daemon whose containers the engines run in; None: they run as processes.
        chosen_images: by engine, instead of those that the launch files name.
        log: gets a line before each step that takes long.

    Raises:
        UserError: whatever the study asks for that is not there or cannot be.
    """
    study, engines, missing = _possible(study, engines, device, docker, chosen_images)
    price = _price(study, device, log)
    source = root / study.prompts.path  # root / an absolute path is that path
    sources = prompt_files.read(source, study.prompts.format)
    if sources.left_out:
        log(f"{source}: {sources.left_out} entries have no prompt and are left out")
    texts = list(sources.texts)
    model = models.resolve(study.model, texts, cache / "models", log)
    tokenizer = prompts.load_tokenizer(model.path)
    study_plan = plan.make(study)
    most = max((c.concurrency for item in study_plan.launches for c in item.cells), default=0)
    linux.allow_open_files(most + OTHER_FILES, f"{most} requests in flight")
    of_variants = applied.of_variants(
        study, engines, model, cache / "models", docker is not None, log
    )
    work = cell_requests.make_all(study, study_plan, tokenizer, texts, root, model.context)
    image_of, probes = _install(engines, device, cache, docker, chosen_images, log)
    noise = _noise(study, log)
    log("measuring the load generator against a server whose times are known ...")
    calibration = calibrate.study(study_plan, study.calibration_s)
    facts = study_facts.of_study(
        study, study_plan, root=root, rerun=rerun, device=device,
        runner="process" if docker is None else "container",
        price=price, sources=sources, model=model, noise=noise, calibration=calibration,
        probes=probes, missing=missing, log=log,
    )  # fmt: skip
    return Prepared(
        study=study, plan=study_plan, engines=engines, applied=of_variants, tokenizer=tokenizer,
        work=work, texts=texts, root=root, device=device, cache=cache, docker=docker,
        images=image_of, probes=tuple(probes), noise=noise, calibration=tuple(calibration),
        facts=facts,
    )  # fmt: skip


def planned(study: Study, root: Path, where: str, runner: str = "") -> tuple[Study, Reasons]:
    """What a study would run as this machine is, without looking for its environments or models.

    Args:
        root, where: as of ``load_engines``.
        runner: "container" or "process" if the person asks for one.

    Returns:
        the part that would run, and why not the rest.

    Raises:
        UserError: as of ``load_engines``, or a variant needs what is not there.
    """
    engines = load_engines(study, root, where)
    if not study.skip_unmet and not any(variant.declared for variant in study.engines):
        return study, {}
    chosen = profile.choose("" if study.device == "auto" else study.device, runner)
    place = _place(chosen.device, chosen.runner == "container", {})
    return left_out.possible(study, engines, place)


def _place(device: Device, in_containers: bool, chosen_images: Mapping[str, str]) -> Place:
    capability = next((gpu.capability for gpu in machine.gpus()), None)
    return Place(
        device=device,
        in_containers=in_containers,
        capability=capability,
        cpu_flags=machine.cpu_flags(),
        images=chosen_images,
    )


def _possible(
    study: Study,
    engines: Mapping[str, Engine],
    device: Device,
    docker: Docker | None,
    chosen_images: Mapping[str, str],
) -> tuple[Study, Mapping[str, Engine], Reasons]:
    """The part of a study that this machine can run, and why not the rest.

    Raises:
        UserError: it cannot run all, and the study does not say that the rest be left out.
    """
    if device == "cuda" and not machine.gpus():
        raise UserError(
            f"device: expected an NVIDIA GPU for this study, found none "
            f"({nvml.error() or 'no NVML library'}); run make doctor to see what this machine has"
        )
    place = _place(device, docker is not None, chosen_images)
    if not study.skip_unmet:
        for reason in left_out.impossible(study, engines, place).values():
            raise UserError(reason)
    possible, missing = left_out.possible(study, engines, place)
    names = {variant.engine for variant in possible.engines}
    used = {name: engine for name, engine in engines.items() if name in names}
    return possible, used, missing


def _price(study: Study, device: str, log: Log) -> HourlyPrice | None:
    """What an hour costs. Where the study states no price, log it before the run starts."""
    gpus = [gpu.name for gpu in machine.gpus()] if device == "cuda" else []
    if study.price is not None:
        return study.price.hourly(gpus)
    log(f"no costs will be computed, as the study states no price: {prices.advice(gpus)}")
    return None


def _noise(study: Study, log: Log) -> Noise | None:
    if not study.noise_probe_s:
        return None
    log("measuring how steady this machine is ...")
    return noise_probe.measure(machine.cpus(), study.noise_probe_s)


def _install(
    engines: Mapping[str, Engine],
    device: str,
    cache: Path,
    docker: Docker | None,
    chosen_images: Mapping[str, str],
    log: Log,
) -> tuple[dict[str, str], list[Probe]]:
    """Build the engines' environments, or get their images.

    Returns:
        the images by engine, and the probes that run in the environments or the images.
    """
    if docker is None:
        for engine in engines.values():
            environment.build(engine, device, cache, log)
        pythons = [environment.python(engine, device, cache) for engine in engines.values()]
        return {}, [measured_ceilings.in_environment(python) for python in pythons]
    image_of = {
        name: images.ensure(engine, device, chosen_images.get(name, ""), docker, cache, log)
        for name, engine in engines.items()
    }
    probes = [measured_ceilings.in_container(docker, image) for image in image_of.values()]
    return image_of, probes

"""The contents of ``study.json``: what is to be run, on what machine, with which prompts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from enginebench.hardware import machine
from enginebench.hardware.prices import HourlyPrice
from enginebench.hardware.roofline import Ceiling
from enginebench.launch import measured_ceilings
from enginebench.launch.measured_ceilings import Probe
from enginebench.load.calibrate import Calibration
from enginebench.plan import models, prompts
from enginebench.plan.plan import Launch, Plan
from enginebench.plan.prompt_files import Sources
from enginebench.plan.study_file import Study
from enginebench.record import schema, schema_study
from enginebench.run.noise_probe import Noise
from enginebench.run.recorded import as_recorded


def of_study(
    study: Study,
    plan: Plan,
    *,
    root: Path,
    rerun: str,
    device: Literal["cpu", "cuda"],
    runner: Literal["process", "container"],
    price: HourlyPrice | None,
    sources: Sources,
    model: models.Model,
    noise: Noise | None,
    calibration: Sequence[Calibration],
    probes: Sequence[Probe],
    missing: Mapping[str, str],
    log: Callable[[str], None],
) -> schema_study.Study:
    """All that ``study.json`` states; the machine's ceiling is looked up or measured now.

    Args:
        missing: by engine/variant: why this machine cannot run it.
    """
    log("looking up what this machine can do at most ...")
    limit = ceiling(device, probes)
    return schema_study.Study(
        schema=schema.SCHEMA,
        study=msgspec.convert(study.model_dump(mode="json"), schema_study.StudyFile, str_keys=True),
        started_at=datetime.now(UTC).isoformat(),
        clock=as_recorded(schema.Clocks, machine.clocks()),
        rerun=rerun,
        runner=runner,
        device=device,
        machine=as_recorded(schema_study.Machine, machine.facts()),
        noise=None if noise is None else _noise(noise),
        calibration=[as_recorded(schema_study.Calibration, level) for level in calibration],
        price=None if price is None else as_recorded(schema_study.Price, price),
        ceiling=recorded_ceiling(limit),
        ceiling_unknown=limit if isinstance(limit, str) else None,
        gpu_reached=_gpu_reached(device, probes),
        git=as_recorded(schema_study.Git, machine.git_state(root)),
        prompts=schema_study.PromptFile(
            path=study.prompts.path,
            sha256=prompts.file_sha256(root / study.prompts.path),
            count=len(sources.texts),
            left_out=sources.left_out,
        ),
        model=as_recorded(schema.Model, model),
        plan=[_planned(item) for item in plan.launches],
        left_out=[
            schema_study.LeftOut(label=label, reason=reason) for label, reason in missing.items()
        ],
    )


def ceiling(device: str, probes: Sequence[Probe]) -> Ceiling | str:
    """The machine's ceiling: a GPU's from its data sheet, a CPU's measured in seconds.

    A text says why it is not known.
    """
    gpus = machine.gpus() if device == "cuda" else []
    return measured_ceilings.of_machine(gpus, probes, len(machine.cpus()))


def recorded_ceiling(limit: Ceiling | str | None) -> schema_study.Ceiling | None:
    return as_recorded(schema_study.Ceiling, limit) if isinstance(limit, Ceiling) else None


def _gpu_reached(device: str, probes: Sequence[Probe]) -> schema_study.Ceiling | None:
    if device != "cuda" or not machine.gpus():
        return None
    return recorded_ceiling(measured_ceilings.reached(probes, len(machine.cpus()), device))


def _noise(noise: Noise) -> schema_study.Noise:
    return schema_study.Noise(
        seconds=noise.seconds,
        cpus=list(noise.cpus),
        pieces=noise.pieces,
        sd_log=noise.sd_log,
        slowest_ratio=noise.slowest_ratio,
        machine=asdict(noise.machine),
        error=noise.error,
    )


def _planned(item: Launch) -> schema_study.PlannedLaunch:
    return schema_study.PlannedLaunch(
        id=item.id,
        trial=item.trial,
        engine=item.variant.engine,
        variant=item.variant.variant,
        label=item.variant.label,
        cells=[
            schema_study.PlannedCell(
                id=cell.id,
                workload=cell.workload.name,
                concurrency=cell.concurrency,
                rate=cell.rate,
                requests=cell.requests,
            )
            for cell in item.cells
        ],
    )

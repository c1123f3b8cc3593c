"""What of a study this machine cannot run, and why."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from packaging.version import Version

from enginebench.base.errors import UserError
from enginebench.engines import variants
from enginebench.engines.directory import Engine
from enginebench.launch import environment, images, process
from enginebench.plan.study_file import Study, Variant
from enginebench.run.profile import Device


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the engines of a study run."""

    device: Device
    in_containers: bool
    capability: float | None = None  # compute capability of the GPU; None: not known
    cpu_flags: Collection[str] = ()  # of its processors; empty: not known
    images: Mapping[str, str] = field(default_factory=dict)  # by engine, instead of its own


Reasons = dict[str, str]  # by engine/variant: why it cannot run


def unmet(study: Study, engines: Mapping[str, Engine], place: Place) -> Reasons:
    """What declared variants need and this machine, or the version of the engine, lacks."""
    found: Reasons = {}
    for variant in study.engines:
        engine = engines[variant.engine]
        for name in variant.declared:
            needs = engine.declared[name].needs
            version = _version(engine, place) if needs.version else None
            reason = variants.unmet(needs, place.device, place.capability, version, place.cpu_flags)
            if reason is not None:
                found.setdefault(variant.label, f"{name} {reason}")
    return found


def impossible(study: Study, engines: Mapping[str, Engine], place: Place) -> Reasons:
    """Which engines cannot run here at all."""
    found: Reasons = {}
    for variant in study.engines:
        engine = engines[variant.engine]
        try:
            if not place.in_containers:
                process.recipe(engine)
                environment.recipe(engine, place.device)
            elif engine.name not in place.images:
                images.name(engine, place.device)
        except UserError as error:
            found[variant.label] = error.message
    return found


def _version(engine: Engine, place: Place) -> Version | None:
    """The version that would run; None: nothing states it."""
    if not place.in_containers:
        return None if engine.native is None else environment.pinned_version(engine, place.device)
    try:
        image = place.images.get(engine.name) or images.name(engine, place.device)
    except UserError:  # it has none for this device, which is another reason
        return None
    return images.tag_version(image)


def possible(study: Study, engines: Mapping[str, Engine], place: Place) -> tuple[Study, Reasons]:
    """The part of a study that this machine can run, and why not the rest.

    Raises:
        UserError: a variant needs what is not there, and the study does not say that such variants
            be left out; or as of ``without``.
    """
    lacks = unmet(study, engines, place)
    if not study.skip_unmet:
        require_met(lacks)
        return study, {}
    missing = lacks | impossible(study, engines, place)
    return without(study, missing) if missing else study, missing


def require_met(reasons: Reasons) -> None:
    """Refuse variants whose needs are not met.

    Raises:
        UserError: there is one.
    """
    for label, reason in reasons.items():
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        raise UserError(
            f"{label}: {reason}{more}; leave it out of the study, or have what this machine cannot "
            "run left out with `skip_unmet: true`"
        )


def without(study: Study, reasons: Reasons) -> Study:
    """The study without these variants.

    Raises:
        UserError: nothing is left, or not the reference.
    """
    kept = [variant for variant in study.engines if variant.label not in reasons]
    if not kept:
        raise UserError(
            f"{study.name}: expected a variant that this machine can run, found none; the first, "
            f"{next(iter(reasons))}: {next(iter(reasons.values()))}"
        )
    if study.reference in reasons:
        raise UserError(
            f"reference {study.reference}: cannot run here: {reasons[study.reference]}; choose "
            "another reference"
        )
    return part(study, kept)


def part(study: Study, kept: list[Variant]) -> Study:
    """The study with these variants only, and the workloads that one of them runs."""
    names = {name for variant in kept for name in variant.workloads}
    runs_all = any(not variant.workloads for variant in kept)
    workloads = [w for w in study.workloads if runs_all or w.name in names]
    return study.model_copy(update={"engines": kept, "workloads": workloads})

"""What each variant of a study comes down to: launch variables, and the model of its engine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from enginebench.engines import variants
from enginebench.engines.directory import Engine
from enginebench.engines.interpolation import Setting
from enginebench.engines.variants import Declared
from enginebench.launch import model_overlay
from enginebench.plan import models
from enginebench.plan.models import Model
from enginebench.plan.study_file import Study


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """One variant of a study, with what the engine's declared variants add to it."""

    parts: Mapping[str, Declared]  # the declared ones, by name
    settings: Mapping[str, Setting]  # launch variables that these set
    model_path: Path  # in the form that the engine is given
    model: Model | None  # a derived copy; None: the study's model as it is
    draft: Model | None  # None: nothing drafts


def of_variants(
    study: Study,
    engines: Mapping[str, Engine],
    model: Model,
    cache: Path,
    in_containers: bool,
    log: Callable[[str], None],
) -> dict[str, Applied]:
    """By engine/variant. Derived models are made here, before any engine starts.

    Args:
        model: the study's.
        cache: where derived models are kept.

    Raises:
        UserError: the model cannot be converted, or a directory not be made beside it.
    """
    copies: dict[str, Model] = {}
    forms: dict[tuple[Path, bool], Path] = {}

    def copy(kind: str | None) -> Model | None:
        if kind is None:
            return None
        if kind not in copies:
            copies[kind] = derived(model, kind, cache, log)
        return copies[kind]

    def form(path: Path, without_eos: bool) -> Path:
        key = path, without_eos
        if key not in forms:
            plain = model_overlay.without_links(path) if in_containers else path
            forms[key] = model_overlay.without_eos(path) if without_eos else plain
        return forms[key]

    applied = {}
    for variant in study.engines:
        engine = engines[variant.engine]
        combined = variants.combine(
            variant.declared, engine.declared, variant.settings, variant.label
        )
        own, draft = copy(combined.weights), copy(combined.draft)
        path = form((own or model).path, engine.without_eos)
        drafts_at = draft.path if draft else None
        if drafts_at is not None and in_containers:  # which see one directory only
            path = model_overlay.with_draft(path, drafts_at)
            drafts_at = path / model_overlay.DRAFT
        applied[variant.label] = Applied(
            parts=combined.parts,
            settings=combined.settings_with(drafts_at),
            model_path=path,
            model=own,
            draft=draft,
        )
    return applied


def derived(model: Model, kind: str, cache: Path, log: Callable[[str], None]) -> Model:
    """A derived copy of a model, made unless it is in the cache."""
    from enginebench.plan import derived_models

    log(f"model {model.name}: its copy {kind}, made unless in the cache ...")
    path = derived_models.derive(model.path, kind, cache)
    found = models.resolve(str(path), [], cache)
    name = f"{model.name}+{kind}"
    return replace(found, name=name, has_random_weights=model.has_random_weights)

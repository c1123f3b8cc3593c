"""The variants that an engine declares: ``variants.yaml`` in its directory, read and checked.

A variant turns one optimization on or off, by settings of the launch file or by another copy of the
model's weights. It says what it needs, what the started engine must show, and where its flag is
documented. ``docs/adding-an-engine.md`` lists the keys. Pure but for reading that file.
"""

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from enginebench.base import text_file, yaml_file
from enginebench.base.errors import UserError
from enginebench.base.text import one_line
from enginebench.engines.interpolation import Setting, as_text, interpolate, variables

FILE = "variants.yaml"
DRAFT_MODEL = "DRAFT_MODEL"  # the variable that holds the path of a draft model
ADVICE = "see docs/adding-an-engine.md"

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=100)]
Text = Annotated[str, Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Needs(_Part):
    """What a variant cannot do without; None: nothing of the kind."""

    device: Literal["cpu", "cuda"] | None = None
    capability: Annotated[float, Field(strict=False, gt=0)] | None = None  # of a GPU, at least
    version: Text | None = None  # of the engine, such as ">=0.24"
    cpu_flag: Text | None = None  # of /proc/cpuinfo, such as amx_tile; not asked beside a GPU

    @field_validator("version")
    @classmethod
    def _is_specifier(cls, value: str | None) -> str | None:
        try:
            SpecifierSet(value or "")
        except InvalidSpecifier:
            raise ValueError(f"expected versions such as >=0.24, found {value!r}") from None
        return value


class Condition(_Part):
    """One thing that the started engine must show; exactly one of the first four is given.

    With ``equals``, the first group of the pattern must be that text wherever the pattern matches.
    """

    log: Text | None = None  # a pattern that must occur in server.log
    no_log: Text | None = None  # a pattern that must not
    metric: Text | None = None  # a metric, or name[label], of the metrics page
    page: Text | None = None  # a path of the engine's, with its query
    has: Text | None = None  # the pattern that must occur on that page
    equals: str | None = None

    @model_validator(mode="after")
    def _is_one_kind(self) -> "Condition":
        given = [name for name in ("log", "no_log", "metric", "page") if getattr(self, name)]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"expected one of log, no_log, metric and page, found {found}")
        if bool(self.page) != bool(self.has):
            raise ValueError("expected has with page, and only there")
        if self.metric and self.equals is None:
            raise ValueError("expected equals with metric")
        if self.no_log and self.equals is not None:
            raise ValueError("expected no equals with no_log")
        for pattern in filter(None, (self.log, self.no_log, self.has)):
            _require_pattern(pattern, needs_group=self.equals is not None)
        return self

    @property
    def expected(self) -> str:
        """The condition in words."""
        if self.metric:
            return f"the metric {self.metric} to be {self.equals!r}"
        if self.no_log:
            return f"no {self.no_log!r} in server.log"
        where = f"on {self.page}" if self.page else "in server.log"
        return f"{self.log or self.has!r} {where}" + (
            "" if self.equals is None else f" to give {self.equals!r}"
        )


def _require_pattern(pattern: str, needs_group: bool) -> None:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"expected a regular expression, found {pattern!r} ({error})") from None
    if needs_group and groups != 1:
        raise ValueError(
            f"expected one group in the pattern, for equals, found {groups} in {pattern!r}"
        )


class Declared(_Part):
    """One entry of ``variants.yaml``."""

    optimization: Text  # the one that it is about, in plain words
    turns: Literal["on", "off"]
    settings: dict[str, Setting] = Field(default_factory=dict)  # variables of launch.yaml
    weights: Name | None = None  # the kind of a derived copy of the model's weights
    draft: Name | None = None  # the kind of a derived draft model
    needs: Needs = Needs()
    resolved: list[Condition] = Field(default_factory=list)
    source: Annotated[str, Field(pattern=r"^https://\S+$")]  # where its flag is documented

    @property
    def asks(self) -> set[str]:
        """The settings that it wants from a study: those that its own ones name."""
        return set().union(*(variables(as_text(v)) for v in self.settings.values())) - {DRAFT_MODEL}

    @property
    def sets(self) -> str:
        """What it sets, in words."""
        texts = [f"{name}={as_text(value)}" for name, value in self.settings.items()]
        texts += [
            f"{what} {kind}" for what in ("weights", "draft") if (kind := getattr(self, what))
        ]
        return ", ".join(texts) or "nothing"


@dataclass(frozen=True, slots=True)
class Combined:
    """What the declared variants of one entry of a study add up to."""

    parts: Mapping[str, Declared]  # by name, in the study's order
    settings: Mapping[str, Setting]
    weights: str | None = None
    draft: str | None = None

    def settings_with(self, draft: Path | None) -> dict[str, Setting]:
        """The settings once the path of the draft model, if there is one, is known."""
        if draft is None:
            return dict(self.settings)
        values = {DRAFT_MODEL: str(draft)}
        return values | {
            name: interpolate(value, values, name) if isinstance(value, str) else value
            for name, value in self.settings.items()
        }


def read(directory: Path, known_variables: Collection[str]) -> dict[str, Declared]:
    """The variants that an engine declares, by name; none without the file.

    Args:
        directory: the engine's.
        known_variables: that its launch file has and a study may set.

    Raises:
        UserError: the file is not as it must be; with the key.
    """
    file = directory / FILE
    if not file.exists():
        return {}
    try:
        text = text_file.read_text(file, yaml_file.MOST_BYTES)
    except text_file.UnreadableFile as error:
        raise UserError(
            f"{error.where(file)}: expected variants as UTF-8 text, found {error.reason}; {ADVICE}"
        ) from None
    data = yaml_file.parse(text, str(file), "settings")
    if not isinstance(data, dict):
        found = "an empty file" if data is None else f"a {type(data).__name__}"
        raise UserError(f"{file}: expected a mapping from names to variants, found {found}")
    declared = {}
    for name, entry in data.items():
        if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
            raise UserError(
                f"{file}: {name!r}: expected a name of lower-case letters, digits, dots and "
                "dashes; rename that variant"
            )
        declared[name] = _entry(entry, f"{file}: {name}", known_variables)
    return declared


def _entry(entry: object, where: str, known_variables: Collection[str]) -> Declared:
    try:
        variant = Declared.model_validate(entry)
    except ValidationError as error:
        raise UserError(_mistake(error, where)) from None
    for name in variant.settings:
        _require_known(name, known_variables, f"{where}.settings")
    if variant.draft:
        texts = [as_text(value) for value in variant.settings.values()]
        if not any(DRAFT_MODEL in known for known in (known_variables, *map(variables, texts))):
            raise UserError(
                f"{where}.draft: expected a variable {DRAFT_MODEL} in launch.yaml or in these "
                f"settings, for the path of the draft model, found none; {ADVICE}"
            )
    return variant


def _require_known(name: str, known: Collection[str], where: str) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        advice = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
        raise UserError(f"{where}.{name}: launch.yaml has no variable of this name; {advice}")


def _mistake(error: ValidationError, where: str) -> str:
    """The first mistake of an entry in one line."""
    first = error.errors()[0]
    place = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{where}{place}: unknown key; {ADVICE}"
    message = first["msg"].removeprefix("Value error, ")
    found = first["input"]
    shown = f", found {found!r}"[:90] if isinstance(found, str | int | float) else ""
    text = f"{where}{place}: {message[:1].lower()}{message[1:]}"
    return one_line(text + ("" if "found" in text else shown))[:400] + f"; {ADVICE}"


def combine(
    names: Sequence[str],
    declared: Mapping[str, Declared],
    own_settings: Mapping[str, Setting],
    where: str,
) -> Combined:
    """What several variants of one engine add up to.

    Args:
        names: as the study names them.
        declared: what the engine declares.
        own_settings: of the study's entry, which may not undo what a variant sets.
        where: the entry, for messages.

    Raises:
        UserError: an unknown name, two that set the same thing differently, or a setting that one
            wants is not there.
    """
    parts = {name: _find(name, declared, where) for name in names}
    set_by: dict[str, tuple[str, str]] = {}  # what -> to what, by whom
    for name, part in parts.items():
        texts = {variable: as_text(value) for variable, value in part.settings.items()}
        copies = {"weights": part.weights, "draft": part.draft}
        for what, text in (texts | {k: v for k, v in copies.items() if v}).items():
            _note(set_by, what, text, name, where)
    for variable, value in own_settings.items():
        if variable in set_by:
            _note(set_by, variable, as_text(value), "its own settings", where)
    given = {name: as_text(value) for name, value in own_settings.items()}
    settings: dict[str, Setting] = {}
    for name, part in parts.items():
        if missing := sorted(part.asks - set(given)):
            raise UserError(
                f"{where}: {name} needs {missing[0]}; expected it under settings of this entry, "
                "found none"
            )
        settings |= {  # the path of a draft comes later
            key: interpolate(value, given | {DRAFT_MODEL: f"${{{DRAFT_MODEL}}}"}, key)
            if isinstance(value, str)
            else value
            for key, value in part.settings.items()
        }
    weights, draft = (
        next((kind for part in parts.values() if (kind := getattr(part, key))), None)
        for key in ("weights", "draft")
    )
    return Combined(parts, settings, weights, draft)


def _find(name: str, declared: Mapping[str, Declared], where: str) -> Declared:
    if name not in declared:
        near = difflib.get_close_matches(name, declared, n=1)
        known = f"known: {', '.join(declared)}" if declared else f"it has no {FILE}"
        advice = f"did you mean {near[0]!r}?" if near else known
        raise UserError(f"{where}: this engine declares no variant {name!r}; {advice}")
    return declared[name]


def _note(set_by: dict[str, tuple[str, str]], what: str, text: str, name: str, where: str) -> None:
    before, first = set_by.setdefault(what, (text, name))
    if before != text:
        raise UserError(
            f"{where}: {first} sets {what} to {before!r} and {name} to {text!r}; "
            "expected variants that agree: leave one out"
        )


def unmet(
    needs: Needs,
    device: str,
    capability: float | None,
    version: Version | None,
    cpu_flags: Collection[str] = (),
) -> str | None:
    """What is needed and not there, in words; None: nothing.

    Args:
        device: that the engines run on.
        capability: compute capability of the GPU; None: not known, and not judged.
        version: of the engine; None: not known, and not judged.
        cpu_flags: what the processors can do; empty: not known, and not judged.
    """
    if needs.device not in (None, device):
        return f"needs the device {needs.device}, this study runs on {device}"
    if device == "cuda" and capability and capability < (needs.capability or 0):
        return f"needs compute capability {needs.capability}, the GPU has {capability}"
    if device == "cpu" and needs.cpu_flag and cpu_flags and needs.cpu_flag not in cpu_flags:
        return f"needs processors with {needs.cpu_flag}, these have none"
    if (
        needs.version
        and version
        and not SpecifierSet(needs.version).contains(version, prereleases=True)
    ):
        return f"needs the engine's version {needs.version}, it is {version}"
    return None

"""Engine directories: finding them, reading ``launch.yaml``, loading ``engine.py``.

A directory is an engine if it holds a ``launch.yaml``; nothing registers it anywhere. The file is
an ordinary compose file. Its ``x-native`` key says how the same engine runs as a plain process;
the flags and environment of the service are used for both, so they stand there once.
``x-cpu-image`` names the image for machines without a GPU, if there is one;
``x-without-end-of-sequence`` asks for the model in a form that never stops by itself (``overlay``);
``x-dtype`` is the dtype that the engine computes in under its settings, wherever it is told so.
"""

import difflib
import importlib.util
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from enginebench.base.errors import UserError
from enginebench.engines.dialect import METRIC_NAMES, Dialect

#: Set by the harness for every engine; a study cannot set them.
HARNESS_VARIABLES = ("MODEL", "HOST", "PORT", "CPUS", "DEVICE", "IMAGE")

_VARIABLE = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<plain>[A-Za-z_]\w*)"
    r"|\{(?P<name>[A-Za-z_]\w*)(?:(?P<operator>:?[-?])(?P<word>[^}]*))?\})"
)


class Environment(BaseModel):
    """A Python environment that an engine needs: pip's arguments, one list a pip call."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    cpu: list[list[str]] = []
    cuda: list[list[str]] = []
    uses_system_packages: bool = False  # it sees what the machine's Python has


class Native(BaseModel):
    """How an engine runs without a container: ``command`` and then the service's flags."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    environment: Environment
    command: Annotated[list[str], Field(min_length=1)]  # a first word "python": the environment's


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine directory, read and checked."""

    name: str
    directory: Path
    dialect: Dialect
    native: Native | None  # None: it runs only in a container
    flags: tuple[str, ...]  # the service's command, not yet interpolated
    env: Mapping[str, str]  # the service's environment, not yet interpolated
    image: str | None = None  # of its containers on a GPU, not yet interpolated
    is_built: bool = False  # the image is built from the engine's own directory
    cpu_image: str | None = None  # None: its containers need a GPU
    without_eos: bool = False  # it cannot be asked to ignore the end of sequence
    passed: tuple[str, ...] = ()  # the caller's variables that it is to have, secrets too
    dtype: str | None = None  # that it computes in, not yet interpolated; None: not stated

    @property
    def launch_file(self) -> Path:
        return self.directory / "launch.yaml"

    @property
    def variables(self) -> set[str]:
        """The variables that this launch file understands."""
        native = self.native
        texts = [*self.flags, *self.env.values()]
        texts += native.command if native else ()
        matches = (match for text in texts for match in _VARIABLE.finditer(text))
        return {name for match in matches if (name := match["name"] or match["plain"])}

    @property
    def settings(self) -> set[str]:
        """The variables that a study may set."""
        return self.variables - set(HARNESS_VARIABLES)

    def dtype_under(self, settings: Mapping[str, Any]) -> str | None:
        """The dtype that the engine computes in under these settings; None: not stated."""
        if self.dtype is None:
            return None
        values = {name: as_text(value) for name, value in settings.items()}
        return interpolate(self.dtype, values, str(self.launch_file)) or None


def check_settings(settings: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Refuse a setting that no launch file uses; ``where`` names the place in the study."""
    names = sorted(known)
    for name in settings:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            advice = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
            raise UserError(
                f"{where}: settings.{name}: no launch.yaml of these engines has a variable of this "
                f"name that a study may set; {advice}"
            )


def find_engines(root: Path) -> list[str]:
    """The names of all engine directories below ``root``, sorted."""
    return sorted(path.parent.name for path in root.glob("*/launch.yaml"))


def load_engine(root: Path, name: str, where: str = "") -> Engine:
    """Read one engine directory; ``where`` says who asks for it, in an error.

    Raises:
        UserError: no such engine, or its files are not as they must be.
    """
    known = find_engines(root)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        advice = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(
            f"{where}{name}: no engine of this name in {root} (a directory with launch.yaml); "
            f"{advice}engines here: {', '.join(known) or 'none'}"
        )
    directory = root / name
    file = directory / "launch.yaml"
    try:
        data = yaml.safe_load(file.read_text())
        (service,) = data["services"].values()
        command = service.get("command") or ()
        flags = tuple(shlex.split(command) if isinstance(command, str) else map(str, command))
        env, passed = _environment(service.get("environment") or {})
        native = Native.model_validate(data["x-native"]) if "x-native" in data else None
        image = _key(service, "image", str, None)
        cpu_image = _key(data, "x-cpu-image", str, None)
        without_eos = _key(data, "x-without-end-of-sequence", bool, False)
        dtype = _key(data, "x-dtype", str, None)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise UserError(
            f"{file}{f':{mark.line + 1}' if mark else ''}: expected YAML, found: "
            f"{getattr(error, 'problem', None) or error}; mend that line"
        ) from None
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{file}: expected a compose file with one service, found: {error!r}; "
            "see docs/adding-an-engine.md"
        ) from None
    except (ValidationError, ValueError) as error:
        first = str(error).splitlines()
        raise UserError(
            f"{file}: expected one service and a well-formed x-native, found: "
            f"{' '.join(line.strip() for line in first[:3])}; see docs/adding-an-engine.md"
        ) from None
    return Engine(
        name,
        directory,
        _load_dialect(directory),
        native,
        flags,
        env,
        image=image,
        is_built="build" in service,
        cpu_image=cpu_image,
        without_eos=without_eos,
        dtype=dtype,
        passed=passed,
    )


def _key(data: dict[str, Any], name: str, kind: type, default: Any) -> Any:
    value = data.get(name, default)
    if value is not default and not isinstance(value, kind):
        raise ValueError(f"{name}: {value!r}")
    return value


def _environment(
    value: dict[str, Any] | list[str],
) -> tuple[dict[str, str], tuple[str, ...]]:
    """A service's environment; compose allows a mapping or ``NAME=value`` lines.

    A name with no value means "pass it on from the caller"; those are the second result. Engines
    started as processes have the caller's environment anyway, but for its secrets.
    """
    if isinstance(value, list):
        pairs = [item.partition("=") for item in value]
        named = {name: text for name, found, text in pairs if found}
        return named, tuple(name for name, found, _ in pairs if not found)
    named = {name: str(text) for name, text in value.items() if text is not None}
    return named, tuple(name for name in value if name not in named)


def _load_dialect(directory: Path) -> Dialect:
    """Load ``engine.py`` by its path under a private name, so that a directory called like a
    package (``vllm``) is never importable by that name."""
    file = directory / "engine.py"
    if not file.is_file():
        raise UserError(
            f"{file}: expected the engine's dialect there, found no such file; "
            "see docs/adding-an-engine.md"
        )
    module_name = f"_enginebench_engine_{re.sub(r'[^A-Za-z0-9]', '_', directory.name)}"
    spec = importlib.util.spec_from_file_location(module_name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    dialect = getattr(module, "DIALECT", None)
    if not isinstance(dialect, Dialect):
        raise UserError(
            f"{file}: expected a constant DIALECT of type enginebench.engines.dialect.Dialect, "
            f"found {type(dialect).__name__}; see docs/adding-an-engine.md"
        )
    unknown = sorted(set(dialect.metrics) - set(METRIC_NAMES))
    if unknown:
        raise UserError(
            f"{file}: metrics: {unknown[0]!r} is none of our metric names; "
            f"known: {', '.join(METRIC_NAMES)}"
        )
    return dialect


def as_text(value: Any) -> str:
    """The value of a setting as the variable that it becomes."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def interpolate(text: str, values: Mapping[str, str], where: str) -> str:
    """Replace ``${NAME}``, ``${NAME:-default}``, ``${NAME:?message}`` and ``$$`` as compose does.

    Raises:
        UserError: a required variable is not set.
    """

    def replace(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "$"
        name, operator = match["name"] or match["plain"], match["operator"] or ""
        value = values.get(name)
        is_set = value is not None and not (operator.startswith(":") and value == "")
        if is_set:
            return value or ""
        if operator.endswith("-"):
            return str(match["word"])
        if operator.endswith("?"):
            raise UserError(f"{where}: {name} must be set: {match['word']}")
        return ""

    return _VARIABLE.sub(replace, text)

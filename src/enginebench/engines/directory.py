"""Engine directories: finding them, reading ``launch.yaml``, loading ``engine.py``.

A directory is an engine if it holds a ``launch.yaml``; nothing registers it anywhere. The file is
an ordinary compose file. Its ``x-native`` key says how the same engine runs as a plain process;
the flags and environment of the service are used for both, so they stand there once.
``x-cpu-image`` names the image for machines without a GPU, if there is one;
``x-without-end-of-sequence`` asks for the model in a form that never stops by itself (``overlay``);
``x-dtype`` is the dtype that the engine computes in under its settings, wherever that is stated;
``x-version-of`` names packages; the one that is installed has the engine's version;
``x-start-up`` is what its log says of its own start (``start_up``). ``variants``
reads the variants that an engine declares.
"""

import difflib
import importlib.util
import re
import shlex
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from enginebench.base import text_file, yaml_file
from enginebench.base.errors import UserError
from enginebench.base.text import one_line
from enginebench.engines import start_up
from enginebench.engines import variants as declarations
from enginebench.engines.dialect import METRIC_NAMES, Dialect
from enginebench.engines.interpolation import (
    Setting,
    as_text,
    interpolate,
    require_known_forms,
    variables,
)
from enginebench.engines.variants import Declared

#: Set by the harness for every engine; a study cannot set them.
HARNESS_VARIABLES = ("MODEL", "HOST", "PORT", "CPUS", "DEVICE", "IMAGE")


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
    version_of: tuple[str, ...] = ()  # packages; the version of one is the engine's
    start_up: Mapping[str, str] = field(default_factory=dict)  # patterns of its log, by name
    declared: Mapping[str, Declared] = field(default_factory=dict)  # of variants.yaml, by name

    @property
    def launch_file(self) -> Path:
        return self.directory / "launch.yaml"

    @property
    def interpolated(self) -> list[str]:
        """Every text of the launch file that we interpolate, as compose does."""
        optional = [text for text in (self.image, self.cpu_image, self.dtype) if text is not None]
        return [*self._run_texts, *optional]

    @property
    def _run_texts(self) -> list[str]:
        return [*self.flags, *self.env.values(), *(self.native.command if self.native else ())]

    @property
    def variables(self) -> set[str]:
        """The variables that this launch file understands."""
        return set().union(*map(variables, self._run_texts))

    @property
    def settings(self) -> set[str]:
        """The variables that a study may set: of the launch file, or asked for by a variant."""
        asked = set().union(*(declared.asks for declared in self.declared.values()))
        return (self.variables | asked) - set(HARNESS_VARIABLES)

    def dtype_under(self, settings: Mapping[str, Setting]) -> str | None:
        """The dtype that the engine computes in under these settings; None: not stated."""
        if self.dtype is None:
            return None
        values = {name: as_text(value) for name, value in settings.items()}
        return interpolate(self.dtype, values, str(self.launch_file)) or None


def check_settings(settings: Mapping[str, Setting], known: Iterable[str], where: str) -> None:
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
            f"{advice}known engines: {', '.join(known) or 'none'}"
        )
    directory = root / name
    return _read_launch_file(name, directory)


def _read_launch_file(name: str, directory: Path) -> Engine:
    file = directory / "launch.yaml"
    try:
        text = text_file.read_text(file, yaml_file.MOST_BYTES)
    except text_file.UnreadableFile as error:
        raise UserError(
            f"{error.where(file)}: expected a compose file of UTF-8 text, found {error.reason}; "
            "see docs/adding-an-engine.md"
        ) from None
    data = yaml_file.parse(text, str(file), "everywhere")
    try:
        service = _service(data)
        env, passed = _environment(service.get("environment") or {})
        engine = Engine(
            name,
            directory,
            _load_dialect(directory),
            Native.model_validate(data["x-native"]) if "x-native" in data else None,
            _words(service, "command"),
            env,
            image=_key(service, "image", str, None),
            is_built="build" in service,
            cpu_image=_key(data, "x-cpu-image", str, None),
            without_eos=_key(data, "x-without-end-of-sequence", bool, False),
            dtype=_key(data, "x-dtype", str, None),
            passed=passed,
            version_of=_words(data, "x-version-of"),
            start_up=start_up.patterns(data.get("x-start-up", {})),
        )
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, ("x-native", *first["loc"])))
        raise UserError(
            f"{file}: {place}: {one_line(first['msg'])[:200]}; see docs/adding-an-engine.md"
        ) from None
    except ValueError as error:
        raise UserError(
            f"{file}: expected a compose file with one service, "
            f"found {one_line(str(error))[:200]}; see docs/adding-an-engine.md"
        ) from None
    for text in engine.interpolated:
        require_known_forms(text, str(file))
    return replace(engine, declared=declarations.read(directory, engine.settings))


def _service(data: Any) -> dict[str, Any]:
    """The only service of a compose file.

    Raises:
        ValueError: there is not one, or it is no mapping; in words that follow "found".
    """
    services = data.get("services") if isinstance(data, dict) else None
    if not isinstance(services, dict):
        raise ValueError("no mapping under the key services")
    if len(services) != 1:
        raise ValueError(f"{len(services)} services")
    (service,) = services.values()
    if not isinstance(service, dict):
        raise ValueError(f"{_shown(service)} in place of the service")
    return service


def _words(service: dict[str, Any], name: str) -> tuple[str, ...]:
    """A command, as a list or as one text that is cut as a shell would."""
    value = service.get(name) or []
    if isinstance(value, str):
        try:
            return tuple(shlex.split(value))
        except ValueError as error:
            raise ValueError(f"{name}: {_shown(value)} ({error})") from None
    if not isinstance(value, list):
        raise ValueError(f"{name}: {_shown(value)}")
    return tuple(_text(name, item) for item in value)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str | int | float):
        raise ValueError(f"{name}: {_shown(value)} in place of a text")
    return as_text(value)


def _shown(value: Any) -> str:
    return value[:80] if isinstance(value, str) else f"a {type(value).__name__}"


def _key(data: dict[str, Any], name: str, kind: type, default: Any) -> Any:
    value = data.get(name, default)
    if value is not default and not isinstance(value, kind):
        raise ValueError(f"{name}: {_shown(value)} in place of a {kind.__name__}")
    return value


def _environment(value: Any) -> tuple[dict[str, str], tuple[str, ...]]:
    """A service's environment; compose allows a mapping or ``NAME=value`` lines.

    A name with no value means "pass it on from the caller"; those are the second result. Engines
    started as processes have the caller's environment anyway, but for its secrets.
    """
    if isinstance(value, list):
        lines = [_text("environment", item).partition("=") for item in value]
        pairs = [(name, text) for name, found, text in lines if found]
        if len(dict(pairs)) != len(pairs):
            raise ValueError("environment: a name twice")
        return dict(pairs), tuple(name for name, found, _ in lines if not found)
    if not isinstance(value, dict):
        raise ValueError(f"environment: {_shown(value)}")
    named = {
        _text("environment", name): _text(f"environment.{name}", text)
        for name, text in value.items()
        if text is not None
    }
    return named, tuple(_text("environment", name) for name in value if name not in named)


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
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a person's own code does
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(file)]
        line = error.lineno if isinstance(error, SyntaxError) else frames and frames[-1].lineno
        raise UserError(
            f"{file}{f':{line}' if line else ''}: expected a file that can be imported, found "
            f"{type(error).__name__}: {one_line(str(error))[:200]}; see docs/adding-an-engine.md"
        ) from None
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

"""What was started: each variant's version, flags and environment, and where they differ. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from enginebench.record.schema import Launch
from enginebench.summarize.study_summary import Summary

SET = "set"  # of a flag without a value
NOT_GIVEN = "–"
BY_CHANCE = ("--port",)  # another one at every start


def dtypes(summary: Summary) -> dict[str, str | None]:
    """Variant -> dtype, of every variant that was started."""
    return {launch.label: launch.dtype for launch in summary.launches.values()}


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What ran of a variant, as texts."""

    label: str
    version: str
    command: str
    env: Mapping[str, str]
    ready: str


def engine_facts(summary: Summary) -> list[EngineFacts]:
    """What ran: one entry a variant, from its first start."""
    facts = []
    for label, launch in launches(summary).items():
        starts = [
            summary.launches[planned.id]
            for planned in summary.study.plan
            if planned.label == label and planned.id in summary.launches
        ]
        ready = [f"{start.ready_s:.0f}" for start in starts if start.ready_s is not None]
        facts.append(
            EngineFacts(
                label=label,
                version=", ".join(filter(None, [_version_text(launch), _image_text(launch)])),
                command=" ".join(map(_portable, launch.command)),
                env=launch.env,
                ready=f"ready after {', '.join(ready)} s" if ready else "never ready",
            )
        )
    return facts


def _version_text(launch: Launch) -> str:
    version = launch.version
    if isinstance(version, dict):
        return ", ".join(f"{name} {value}" for name, value in version.items())
    return "not stated" if version is None else str(version)


def _image_text(launch: Launch) -> str:
    """A container's image, by its digest if it has one."""
    container = launch.container
    if container is None:
        return ""
    built_here = f"{container.image} ({container.image_id[:19]})"
    return f"image {next(iter(container.image_digests), built_here)}"


def _portable(word: str) -> str:
    """A word of a command without the directories of the machine it ran on."""
    name, found, value = word.partition("=")
    return f"{name}={value.rsplit('/', 1)[-1]}" if found else word.rsplit("/", 1)[-1]


def flags(command: Sequence[str]) -> dict[str, str]:
    """Flag -> value of a command line: ``--a=b``, ``--a b``, or ``--a``, which is *set*."""
    found = {}
    words = [_portable(word) for word in command]
    for word, following in zip_longest(words, words[1:], fillvalue="--"):
        if word.startswith("--"):
            name, has_value, value = word[2:].partition("=")
            alone = SET if following.startswith("-") else following
            found[name] = value if has_value else alone
    return found


def launches(summary: Summary) -> dict[str, Launch]:
    """Variant -> its first start, in the order of the study."""
    first: dict[str, Launch] = {}
    for planned in summary.study.plan:
        if planned.id in summary.launches:
            first.setdefault(planned.label, summary.launches[planned.id])
    return {label: first[label] for label in summary.labels if label in first}


@dataclass(frozen=True, slots=True)
class Differences:
    """Settings by variant, a column each."""

    headings: list[str]
    rows: list[list[str]]
    shared: list[str]  # what all variants have in common


def differences(summary: Summary) -> Differences:
    """Every flag and environment variable that is not the same for all variants that got so far as
    to have a command."""
    first = launches(summary)
    columns = {
        label: {f"--{name}": value for name, value in flags(launch.command).items()}
        | {name: value or "empty" for name, value in launch.env.items()}
        | {"dtype, as loaded": launch.dtype or "not stated"}
        | ({"image": text} if (text := _image_text(launch).removeprefix("image ")) else {})
        for label, launch in first.items()
        if launch.command
    }
    names = dict.fromkeys(name for column in columns.values() for name in column)
    rows, shared = [], []
    for name in names:
        values = [column.get(name, NOT_GIVEN) for column in columns.values()]
        if name in BY_CHANCE:
            continue
        if len(set(values)) > 1:
            rows.append([name, *values])
        elif len(values) > 1:
            shared.append(name if values[0] == SET else f"{name} {values[0]}")
    return Differences(["setting", *columns], rows, shared)

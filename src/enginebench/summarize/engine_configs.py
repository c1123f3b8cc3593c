"""What was started: each variant's version, flags and environment, and where they differ. Pure."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from enginebench.summarize.study_summary import Summary

SET = "set"  # of a flag without a value
NOT_GIVEN = "–"
BY_CHANCE = ("--port",)  # another one at every start


def dtypes(summary: Summary) -> dict[str, str | None]:
    """Variant -> dtype, of every variant that was started."""
    return {
        f"{facts['engine']}/{facts['variant']}": facts.get("dtype")
        for facts in summary.launches.values()
    }


def engine_facts(summary: Summary) -> list[dict[str, Any]]:
    """What ran: one entry a variant, from its first start."""
    made = []
    for label, facts in launches(summary).items():
        starts = [
            summary.launches[plan["id"]]
            for plan in summary.study["plan"]
            if plan["label"] == label and plan["id"] in summary.launches
        ]
        ready = [f"{s['ready_s']:.0f}" for s in starts if s.get("ready_s") is not None]
        made.append(
            {
                "label": label,
                "version": ", ".join(filter(None, [_version_text(facts), _image_text(facts)])),
                "settings": facts["settings"],
                "command": " ".join(map(_portable, facts["command"])),
                "env": facts["env"],
                "ready": f"ready after {', '.join(ready)} s" if ready else "never ready",
            }
        )
    return made


def _version_text(facts: Mapping[str, Any]) -> str:
    version = facts.get("version")
    if isinstance(version, dict):
        return ", ".join(f"{name} {value}" for name, value in version.items())
    return "not stated" if version is None else str(version)


def _image_text(facts: Mapping[str, Any]) -> str:
    """A container's image, by its digest if it has one."""
    found = facts.get("container")
    if not found:
        return ""
    built_here = f"{found['image']} ({found['image_id'][:19]})"
    return f"image {next(iter(found['image_digests']), built_here)}"


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


def launches(summary: Summary) -> dict[str, Mapping[str, Any]]:
    """Variant -> launch.json of its first start, in the order of the study."""
    first: dict[str, Mapping[str, Any]] = {}
    for planned in summary.study["plan"]:
        if planned["id"] in summary.launches:
            first.setdefault(planned["label"], summary.launches[planned["id"]])
    return {label: first[label] for label in summary.labels if label in first}


def differences(summary: Summary) -> dict[str, Any]:
    """Every flag and environment variable that is not the same for all variants that got so far as
    to have a command.

    Returns:
        ``headings`` and ``rows``, a column a variant, and ``shared``: what they all have in common.
    """
    first = launches(summary)
    columns = {
        label: {f"--{name}": value for name, value in flags(facts["command"]).items()}
        | {name: value or "empty" for name, value in facts["env"].items()}
        | {"dtype, as loaded": facts.get("dtype") or "not stated"}
        | ({"image": text} if (text := _image_text(facts).removeprefix("image ")) else {})
        for label, facts in first.items()
        if facts["command"]
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
    return {"headings": ["setting", *columns], "rows": rows, "shared": shared}

"""A mistake in a study file in one line: the key, what is wrong with it, and the nearest key."""

import difflib
from types import UnionType
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from enginebench.base.text import one_line

LONGEST_SHOWN = 80  # characters of a wrong value


def describe(error: ValidationError, where: str, root: type[BaseModel]) -> str:
    """The first mistake in words, and how many more there are.

    Args:
        where: names the study in front of it.
        root: the section that was validated.
    """
    # A misspelt key is often the reason why another one is missing: it comes first.
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    first = problems[0]
    location = _readable(first["loc"])
    place = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in location).lstrip(".")
    if first["type"] == "extra_forbidden":
        key = str(location[-1])
        known = sorted(_section_at(root, location[:-1]).model_fields)
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        advice = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        text = f"{where}: {place}: unknown key {key!r}; {advice}"
    elif first["type"] == "missing":
        text = f"{where}: {place}: this key is required and is not there; add it"
    else:
        found = first["input"]
        shown = f", found {_shown(found)}" if not isinstance(found, dict | list) else ""
        message = first["msg"].removeprefix("Value error, ")
        text = f"{where}: {place or 'study'}: {message[0].lower()}{message[1:]}{shown}"
    more = len(problems) - 1
    return one_line(text) + (f" (and {more} more)" if more else "")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


def _readable(loc: tuple[int | str, ...]) -> list[int | str]:
    """A location without the branches of unions, which pydantic names and a reader cannot know."""
    location = list(loc)
    if "settings" in location:
        return location[: location.index("settings") + 2]
    if "output_tokens" in location:
        del location[location.index("output_tokens") + 1 : location.index("output_tokens") + 2]
    return location


def _section_at(root: type[BaseModel], location: list[int | str]) -> type[BaseModel]:
    section = root
    for part in location:
        if isinstance(part, int):
            continue
        found = _sections_in(section.model_fields[part].annotation)
        section = found[0] if found else section
    return section


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is None and not isinstance(annotation, UnionType):
        return []
    return [found for argument in get_args(annotation) for found in _sections_in(argument)]

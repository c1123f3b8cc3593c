"""The data of a stream's event as a JSON object."""

import json
from typing import Any, NoReturn

import orjson


def parse(data: str) -> dict[str, Any]:
    """One event's data.

    A text in it may hold half of a character (``\\ud83d``), as engines that cut a text into UTF-16
    units send it; the harness joins the halves. NaN and infinity are not JSON.

    Raises:
        ValueError: it is no JSON object; with the data's beginning.
    """
    try:
        event = orjson.loads(data)
    except ValueError:
        event = _with_halves(data)
    if type(event) is not dict:
        raise ValueError(f"an event is not a JSON object: {data[:200]}")
    return event


def _with_halves(data: str) -> Any:
    """JSON that orjson refuses, because it takes no half of a character."""
    try:
        if "\\ud" in data.lower():
            return json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError):
        pass
    raise ValueError(f"an event is not JSON: {data[:200]}")


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)

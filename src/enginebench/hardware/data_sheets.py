"""The tables of devices, models and claims, and the ceiling that a data sheet gives. Pure."""

import re
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

import yaml

from enginebench.hardware.roofline import Ceiling


def table(name: str) -> list[dict[str, Any]]:
    """One of the package's data files."""
    text = resources.files("enginebench").joinpath("data", name).read_text()
    rows: list[dict[str, Any]] = yaml.safe_load(text)
    return rows


def data_sheet(device: str, devices: Iterable[Mapping[str, Any]]) -> Ceiling | None:
    """The ceiling of a device by its name; None if it is not in the table."""
    entry = find_device(device, devices)
    if entry is None:
        return None
    flops = {dtype: float(rate) for dtype, rate in entry["flops"].items()}
    return Ceiling(device, float(entry["bandwidth"]), flops, entry["source"])


def find_device(device: str, devices: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The row of a device by its name: an L40 is no L4, an A10G is an A10."""
    name = device.lower().replace("-", " ").replace("max1550", "max 1550")
    for entry in devices:
        if re.search(rf"(?<![a-z0-9]){entry['pattern']}(?!\d)", name):
            return entry
    return None

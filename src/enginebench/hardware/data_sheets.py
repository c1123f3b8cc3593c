"""GPUs by name: what their data sheets promise, and how much memory software sees on them.

A name is read strictly: each of its words with a digit must be the model, a memory size or a form
factor that the table knows. If one is not, the name fits no device. So a count, a slice of a GPU
or a machine of several is never held to the figures of one board.
"""

import functools
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

import yaml

from enginebench.hardware.roofline import Ceiling

Row = Mapping[str, Any]  # one device; devices.yaml says what its keys are

#: Words of a part of a GPU, or of several of them: no board's figures hold for either.
_NOT_ONE_BOARD = re.compile(
    r"(?<![a-z0-9])(mig|grid|vgpu|[dh]gx|nvl\d+|superpod|nodes?|servers?|cluster|rack"
    r"|dual|two|quad|four|eight)(?![a-z0-9])"
    r"|(?<![a-z0-9])\d+g\.\d+gb"  # a MIG profile: 3g.40gb
    r"|(?<=-)\d+[abcq](?![a-z0-9])"  # a vGPU profile: A100-10C
)
_FORM = re.compile(r"(?<![a-z0-9])(sxm|pcie|nvl)\d?(?![a-z0-9])")
_SIZE = re.compile(r"(?<![a-z0-9.])(\d+)\s*(g|gb|gib)?(?![a-z0-9.])")
#: Words with a digit that do not say which board it is.
_HARMLESS = re.compile(r"hbm\d?e?|gddr\d\w?|\d+w|gen\d")

_NUMBERS = {"single": 1, "one": 1, "dual": 2, "two": 2, "quad": 4, "four": 4, "eight": 8}
#: Where people write how many: "8 x A100", "A100 8x"; "A100 x8", "A100x8", "80GBx8"; "A100:8";
#: "8 GPUs"; "(8)"; "8 A100"; "dual A100".
_COUNTS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?<![\w.])(\d+)\s*[x×*]\s*(?=[a-z]|\W|$)",
        r"(?:(?<=[\s(])x|(?<=\d)x(?=\d)|(?<=gb)x(?=\d)|[×*])\s*(\d+)(?![\w.])",
        r"(?<=\w):(\d+)\s*$",
        r"(?<![\w.])(\d+)\s*-?\s*(?:gpus?|cards?|devices?)(?!\w)",
        r"\(\s*(\d+)\s*\)",
        r"^\s*(\d+)\s+(?=[a-z])",
        rf"(?<!\w)({'|'.join(_NUMBERS)})(?:\s*-\s*gpus?)?(?!\w)",
    )
)


@functools.cache
def _rows(name: str) -> list[dict[str, Any]]:
    text = resources.files("enginebench").joinpath("data", name).read_text(encoding="utf-8")
    rows: list[dict[str, Any]] = yaml.safe_load(text)
    return rows


def table(name: str) -> list[dict[str, Any]]:
    """One of the package's data files, a mapping a row."""
    return [dict(row) for row in _rows(name)]


def parse_gpu(text: str | None) -> tuple[int | None, str]:
    """How many GPUs a text names, and the text without that number.

    ``"8 x A100"`` is ``(8, "A100")``, ``"NVIDIA L4"`` is ``(None, "NVIDIA L4")``. A text with two
    different numbers is returned whole with None, and then fits no device.
    """
    whole = " ".join((text or "").split())
    name, counts = whole, set()
    for pattern in _COUNTS:
        while found := pattern.search(name):
            word = found[1].lower()
            counts.add(_NUMBERS[word] if word in _NUMBERS else int(word))
            name = f"{name[: found.start()]} {name[found.end() :]}"
    if len(counts) != 1 or 0 in counts:
        return None, whole
    name = re.sub(r"\(\s*\)|\[\s*\]", " ", name)
    return counts.pop(), " ".join(name.split()).strip(" ,;:-")


def find_devices(name: str | None, devices: Iterable[Row]) -> list[Row]:
    """Every variant that a name may mean, in the order of the table; empty: it fits none.

    ``"NVIDIA A100-SXM4-40GB"`` fits one, ``"A100"`` four, ``"A100 64GB"`` and ``"8 x A100"`` none.
    """
    plain = _plain(name)
    if not plain or _NOT_ONE_BOARD.search(plain):
        return []
    family_of = [(row, _word(row["family"])) for row in devices]
    if exact := [row for row, _ in family_of if _plain(row.get("nvml")) == plain]:
        return exact
    plain = re.sub(r"(?<=\d)(?=sxm|pcie|nvl|hbm)|(?<=gb)(?=hbm)", " ", plain)  # A100PCIe
    fitting = [(row, pattern) for row, pattern in family_of if pattern.search(plain)]
    if len({pattern for _, pattern in fitting}) != 1:
        return []  # none, or "A100 and L4"
    rest = fitting[0][1].sub(" ", plain).replace("-", " ")
    forms = {found[1] for found in _FORM.finditer(rest)}
    rest = _FORM.sub(" ", rest)
    sizes = {int(found[1]) for found in _SIZE.finditer(rest)}
    for word in _SIZE.sub(" ", rest).split():
        if word in "x×*" or (re.search(r"\d", word) and not _HARMLESS.fullmatch(word)):
            return []
    return [row for row, _ in fitting if _fits(row, forms, sizes)]


def _plain(name: str | None) -> str:
    text = re.sub(r"\((?:r|tm)\)|[®™_/,()]", " ", (name or "").lower())
    text = re.sub(r"(?<![a-z])(gaudi|max)\s+(?=\d)", r"\1", text)  # "Gaudi 2", "Max 1550"
    return " ".join(text.split())


@functools.cache
def _word(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![a-z0-9])(?:{pattern})(?![a-z0-9])")


def _fits(row: Row, forms: set[str], sizes: set[int]) -> bool:
    """Whether nothing that a name says contradicts a row, and it says what the row needs."""
    is_named = bool(forms or sizes) or not row.get("is_named_so")
    return is_named and forms <= {row.get("form")} and sizes <= {row["gb"], *row.get("also_gb", ())}


def find_device(device: str | None, devices: Iterable[Row]) -> Row | None:
    """The row of a device by its name; None if it fits none, or more than one."""
    found = find_devices(device, devices)
    return found[0] if len(found) == 1 else None


def memory_bytes(row: Row) -> float:
    """What software sees of a device's memory, or its size as sold where only that is known."""
    memory = row["memory"]
    return float(memory["mib"] * 2**20 if "mib" in memory else memory["gb"] * 1e9)


def data_sheet(device: str | None, devices: Iterable[Row]) -> Ceiling | None:
    """The ceiling of a device by its name; None if no device has it.

    Of a name that fits several variants each figure is the highest of any, as a bound must hold
    for all of them; a dtype that one of them lacks has no bound. The source is that of the one
    with the fastest memory.
    """
    rows = find_devices(device, devices)
    if not rows:
        return None
    fastest = max(rows, key=lambda row: (float(row["bandwidth"]), float(row["power_w"])))
    flops = {
        dtype: max(float(row["flops"][dtype]) for row in rows)
        for dtype in fastest["flops"]
        if all(dtype in row["flops"] for row in rows)
    }
    return Ceiling(str(device), float(fastest["bandwidth"]), flops, fastest["source"])

"""Other people's tables of results: headings, numbers and names as people write them.

What can be read in one way only is read; what can be read in two ways raises ``Unclear`` with the
reason, and its row is not checked. Pure but for ``read``.
"""

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from enginebench.base.errors import UserError

MAX_FILE_BYTES = 256 << 20
MAX_FIELD = 16 << 20  # characters: a column of all gaps between tokens is long
MAX_COUNT = 10**9

#: Our column -> headings that mean it, as ``_plain`` writes them.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "model": ("model", "model name"),
    "gpu": ("gpu", "hardware", "device", "accelerator", "gpu type"),
    "gpus": ("gpus", "num gpus", "number of gpus", "gpu count", "num of hardware"),
    "tensor": ("tensor parallel", "tensor parallel size", "tp", "tp size"),
    "pipeline": ("pipeline parallel", "pipeline parallel size", "pp", "pp size"),
    "data": ("data parallel", "data parallel size", "dp", "dp size", "replicas"),
    "nodes": ("nodes", "num nodes"),
    "dtype": ("precision", "dtype"),
    "quantization": ("quantization", "quant"),
    "kv_dtype": ("kv cache dtype", "kv dtype", "kv precision", "kv cache precision"),
    "batch": ("batch", "batch size", "concurrency"),
    "input": ("in", "input tok", "input length", "isl"),
    "output": ("out", "output tok", "output length", "osl"),
    "both": ("input output length", "length"),
    "latency": ("latency", "latency s"),
    "latency_ms": ("latency ms",),
    "throughput": ("throughput", "throughput tok/s", "tok/s"),
    "output_throughput": ("output throughput", "output throughput tok/s", "output tok/s"),
    "total_throughput": ("total throughput", "total throughput tok/s", "total tok/s"),
    "speculative": ("speculative", "speculative decoding", "spec decode", "draft model",
                    "num speculative tok"),
}  # fmt: skip
SPEEDS = ("latency", "latency_ms", "throughput", "output_throughput", "total_throughput")

LONGEST_CELL = 500  # characters; some patterns that names are read with take the square of them
NO = frozenset(("", "-", "0", "no", "none", "off", "false", "n", "n/a", "na", "null"))
_SPECULATION = re.compile(
    r"speculat|medusa|eagle|lookahead|draft|\bmtp\b|multi.?token pred|\bn.?gram|prompt lookup"
)
_NO_SPECULATION = re.compile(
    r"\b(no|not|without|w/o|non|disabled?)[ :-]+(\w+[ -]+)?(speculat\w*|draft\w*|mtp|eagle)"
)


class Unclear(ValueError):
    """A cell that cannot be read in exactly one way; says why."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its cells under our headings, as text."""

    line: int  # in the file; the heading is line 1
    cells: Mapping[str, Sequence[str]]  # by our column, without empty ones
    text: str  # of all cells, in lower case
    decimal_comma: bool  # how this file may write numbers

    def get(self, column: str) -> str:
        """The cell under a column, empty if there is none.

        Raises:
            Unclear: several headings mean this column, and their cells differ; or it is too long.
        """
        found = sorted(set(self.cells.get(column, ())))
        if len(found) > 1:
            raise Unclear(f"two columns for {column}, with {found[0][:40]!r} and {found[1][:40]!r}")
        if found and len(found[0]) > LONGEST_CELL:
            raise Unclear(f"{column} must be at most {LONGEST_CELL} characters, found more")
        return found[0] if found else ""

    def number(self, column: str) -> float | None:
        """A finite number; None where the cell is empty.

        Raises:
            Unclear: it is none, or may be two.
        """
        text = self.get(column)
        return number(text, column, self.decimal_comma) if text else None

    def count(self, column: str, default: int | None = None) -> int:
        """A whole number above 0.

        Raises:
            Unclear: it is none.
        """
        value = self.number(column)
        if value is None:
            if default is None:
                raise Unclear(f"{column} must be above 0, found nothing")
            return default
        if not 0 < value <= MAX_COUNT:
            wanted = "above 0" if value <= 0 else "a possible count"
            raise Unclear(f"{column} must be {wanted}, found {value:g}")
        if value != int(value):
            raise Unclear(f"{column} must be a whole number, found {value:g}")
        return int(value)

    @property
    def is_speculative(self) -> bool:
        """Whether a cell says that several tokens may come of one reading of the weights."""
        if any(value.lower() not in NO for value in self.cells.get("speculative", ())):
            return True
        return bool(_SPECULATION.search(_NO_SPECULATION.sub(" ", self.text)))


def read(path: Path) -> list[Row]:
    """All rows of a CSV file, with commas, semicolons or tabs.

    Raises:
        UserError: it cannot be read, or lacks a column that is needed.
    """
    limit = csv.field_size_limit(MAX_FIELD)  # of the whole process: put back below
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: expected a CSV file, found no regular file; name a file")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UserError(f"{path}: expected a table of at most 256 MiB, found more; split it")
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline(MAX_FIELD)
            file.seek(0)
            delimiter = max((",", ";", "\t"), key=first.count)
            reader = csv.reader(file, delimiter=delimiter)
            headings = _headings(next(reader, []), path)
            return [
                _row(reader.line_num, cells, headings, delimiter == ";")
                for cells in reader
                if cells
            ]
    except csv.Error as error:
        raise UserError(f"{path}: expected a CSV file, found: {error}; correct that file") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UserError(f"{path}: expected a CSV file, found none ({reason})") from None
    finally:
        csv.field_size_limit(limit)


def _headings(found: Sequence[str], path: Path) -> list[str | None]:
    """Our column of each of the file's; None: none of ours."""
    plain = [_plain(heading) for heading in found]
    if double := next((name for name in plain if name and plain.count(name) > 1), None):
        raise UserError(f"{path}: expected each heading once, found {double!r} twice; rename one")
    ours = {name: column for column, names in COLUMNS.items() for name in names}
    columns = [ours.get(name) for name in plain]
    has_lengths = {"input", "output"} <= set(columns) or "both" in columns
    has_speed = any(speed in columns for speed in SPEEDS)
    if not {"model", "gpu", "batch"} <= set(columns) or not has_lengths or not has_speed:
        raise UserError(
            f"{path}: expected columns model, gpu, batch, in, out and latency or throughput "
            f"(precision and gpus if there are any), found: "
            f"{', '.join(name for name in plain if name)[:300] or 'none'}"
        )
    return columns


def _plain(heading: str) -> str:
    text = re.sub(r"[\s_()\[\]]+", " ", heading.lower()).strip()
    text = re.sub(r"\b(seconds|second|secs|sec)\b", "s", text)
    text = re.sub(r"\btokens?\b", "tok", text)
    return re.sub(r"\btok(/| per )s\b", "tok/s", text)


def _row(line: int, cells: Sequence[str], headings: Sequence[str | None], comma: bool) -> Row:
    named: dict[str, list[str]] = {}
    for column, cell in zip(headings, cells, strict=False):
        if column is not None and (text := cell.strip()):
            for name in ("input", "output") if column == "both" else (column,):
                named.setdefault(name, []).append(text)
    text = " | ".join(cell[:1000] for cell in cells).lower()
    return Row(line, named, text, comma)


def number(text: str, column: str, decimal_comma: bool) -> float:
    """A number as people write it, in the unit that is ours: seconds, tokens, tokens/s.

    Raises:
        Unclear: it is no finite number, or may be two.
    """
    match = re.fullmatch(r"([-+]?[\d.,' ]*\d[\d.,]*(?:e[-+]?\d{1,3})?|[-+]?[a-z]+)\s*(\D*)",
                         text.strip().lower())  # fmt: skip
    if match is None:
        raise Unclear(f"{column}: expected a number, found {text[:40]!r}")
    digits, unit = match[1].strip(), match[2].strip()
    scale = _scale(unit, column)
    try:
        value = float(_decimal(digits, decimal_comma))
    except ValueError:
        value = math.nan
    if scale is None or not math.isfinite(value):
        raise Unclear(f"{column}: expected a number, found {text[:40]!r}")
    return value * scale


def _scale(unit: str, column: str) -> float | None:
    if not unit:
        return 1.0
    if column == "latency":
        return {"s": 1.0, "sec": 1.0, "secs": 1.0, "seconds": 1.0, "ms": 1e-3}.get(unit)
    if column == "latency_ms":
        return {"ms": 1.0}.get(unit)
    if column.endswith("throughput"):
        is_rate = re.fullmatch(r"(tok|tokens?)(/| per )s(ec|econd)?|tps", unit)
        return 1.0 if is_rate else None
    return {"tokens": 1.0, "tok": 1.0, "gpus": 1.0}.get(unit)


def _decimal(digits: str, decimal_comma: bool) -> str:
    """Digits with a point for decimals and nothing between thousands."""
    both = "," in digits and "." in digits
    if both and digits.rfind(",") < digits.rfind("."):
        point, comma = ".", ","
    elif both:
        point, comma = ",", "."
    else:
        point, comma = (",", ".") if decimal_comma and "," in digits else (".", ",")
    whole, _, rest = digits.partition(point)
    if (
        not both
        and re.fullmatch(r"[-+]?[1-9]\d{0,2}[.,]\d{3}", digits)
        and ("," in digits or decimal_comma)
    ):
        raise ValueError("thousands or decimals")
    if comma in whole:
        if not re.fullmatch(rf"[-+]?\d{{1,3}}({re.escape(comma)}\d{{3}})+", whole):
            raise ValueError("neither thousands nor decimals")
        whole = whole.replace(comma, "")
    return f"{whole}.{rest}" if rest else whole


def devices(text: str) -> tuple[str, int | None]:
    """A GPU's name and how many of it the name states: ``8 x A100``, ``A100 x8``, ``4 H100``.

    Raises:
        Unclear: several counts, several devices, or a machine of many.
    """
    name = text.strip()
    if re.search(r"[+&;]|\band\b|\bvs\b", name.lower()):
        raise Unclear(f"several devices in {name[:60]!r}")
    if re.search(r"\b(dgx|hgx|nodes?|nvl\d+|pod|superpod|cluster)\b", name.lower()):
        raise Unclear(f"the number of GPUs in {name[:60]!r} is not known")
    counts = []
    before = re.match(r"(\d{1,5})\s*(?:[x×*]\s*|\s)(?![x×*]\s*\d)(?=[a-z])", name, re.I)
    if before:
        counts.append(int(before[1]))
        name = name[before.end() :]
    after = re.search(
        r"[\s(\[]*(?:[x×*]\s*(\d{1,5})|(?<=[\s(])(\d{1,5})\s*[x×*])[)\]]*$", name, re.I
    )
    if after:
        counts.append(int(after[1] or after[2]))
        name = name[: after.start()]
    if len(counts) > 1 or re.match(r"\d+\s*[x×*]", name) or 0 in counts:
        raise Unclear(f"the number of GPUs in {text[:60]!r} is not clear")
    return name.strip(), counts[0] if counts else None

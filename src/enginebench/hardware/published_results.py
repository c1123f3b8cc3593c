"""Other people's numbers: which rows of a table cannot be true on the hardware they name.

``enginebench check FILE.csv``. A row is impossible if it is faster than the roofline allows, with
everything counted in its favour (``roofline.py``): the fastest variant of the device, perfect
scaling over several, no overhead at all. A row that passes is not impossible; it may be wrong.
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from enginebench.base.errors import UserError
from enginebench.hardware import data_sheets, roofline
from enginebench.hardware.roofline import Shape, UnknownShape

Verdict = Literal["impossible", "possible", "not checked"]
Counts = Literal["output", "total"]

#: Our column -> headings that mean it, compared in lower case with spaces for underscores.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "model": ("model",),
    "gpu": ("gpu", "hardware", "device", "accelerator"),
    "gpus": ("gpus", "num gpus", "num of hardware", "tensor parallel", "tp"),
    "precision": ("precision", "dtype", "quantization"),
    "batch": ("batch", "batch size", "concurrency"),
    "input": ("in", "input tokens", "input length", "isl"),
    "output": ("out", "output tokens", "output length", "osl"),
    "both": ("input output length", "length"),
    "latency": ("latency", "latency s"),
    "throughput": ("throughput", "throughput tokens per s", "tokens per s", "tok/s"),
}


@dataclass(frozen=True, slots=True)
class Checked:
    """One row and what became of it."""

    line: int  # in the file; the heading is line 1
    row: Mapping[str, str]
    verdict: Verdict
    reason: str
    claimed_s: float | None = None  # time of one batch as the row states it
    bound_s: float | None = None  # least time that the hardware allows


def check_file(path: Path, precision: str, counts: Counts) -> list[Checked]:
    """Check every row of a CSV file.

    Args:
        precision: taken where a row states none.
        counts: what a throughput counts: output tokens, or prompt and output tokens. Used only
            where a row has no latency.

    Raises:
        UserError: the file cannot be read, or lacks a column that is needed.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            headings = _match_headings(reader.fieldnames or [], path)
            rows = [(reader.line_num, _pick(row, headings)) for row in reader]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UserError(f"{path}: expected a CSV file, found none ({reason})") from None
    devices, models = data_sheets.table("devices.yaml"), data_sheets.table("models.yaml")
    return [_check_row(line, row, devices, models, precision, counts) for line, row in rows]


def _match_headings(found: Iterable[str], path: Path) -> dict[str, str]:
    plain = {heading.strip().lower().replace("_", " "): heading for heading in found if heading}
    headings = {
        ours: plain[name] for ours, names in COLUMNS.items() for name in names if name in plain
    }
    has_lengths = {"input", "output"} <= headings.keys() or "both" in headings
    has_speed = "latency" in headings or "throughput" in headings
    if not {"model", "gpu", "batch"} <= headings.keys() or not has_lengths or not has_speed:
        raise UserError(
            f"{path}: expected columns model, gpu, batch, in, out and latency or throughput "
            f"(precision and gpus if there are any), found: {', '.join(plain) or 'none'}"
        )
    return headings


def _pick(row: Mapping[str, Any], headings: Mapping[str, str]) -> dict[str, str]:
    picked = {ours: str(row.get(heading) or "").strip() for ours, heading in headings.items()}
    both = picked.pop("both", "")
    return {"input": both, "output": both} | picked


def _shape(model: str, models: Iterable[Mapping[str, Any]]) -> Shape | None:
    name = model.lower().replace("meta-", "")
    return next((roofline.shape(entry) for entry in models if entry["pattern"] in name), None)


def _check_row(
    line: int,
    row: Mapping[str, str],
    devices: Iterable[Mapping[str, Any]],
    models: Iterable[Mapping[str, Any]],
    precision: str,
    counts: Counts,
) -> Checked:
    def skipped(reason: str) -> Checked:
        return Checked(line, row, "not checked", reason)

    dtype = roofline.dtype_name(row.get("precision") or precision)
    ceiling = data_sheets.data_sheet(row["gpu"], devices)
    try:
        model = _shape(row["model"], models)
        batch, prompt, output = (int(float(row[name])) for name in ("batch", "input", "output"))
        gpus = int(float(row.get("gpus") or 1))
        claimed_s = _claimed_s(row, batch, prompt, output, counts)
    except (ValueError, UnknownShape) as error:
        return skipped(str(error))
    if dtype is None:
        return skipped(f"unknown precision {row.get('precision') or precision!r}")
    if ceiling is None:
        return skipped(f"no data sheet here for {row['gpu']!r}")
    if model is None:
        return skipped(f"no shape here for {row['model']!r}")
    if min(batch, prompt, output, gpus) < 1 or claimed_s is None or claimed_s <= 0:
        return skipped("batch, lengths and latency or throughput must be above 0")
    bound_s = roofline.batch_s(model, ceiling.times(gpus), dtype, batch, prompt, output)
    if claimed_s >= bound_s:
        return Checked(line, row, "possible", f"{bound_s / claimed_s:.0%} of the ceiling",
                       claimed_s, bound_s)  # fmt: skip
    reason = (
        f"{output} output tokens in {claimed_s:.3g} s; {dtype} on {gpus} × {row['gpu']} needs at "
        f"least {bound_s:.3g} s: {bound_s / claimed_s:.3g} times too fast"
    )
    return Checked(line, row, "impossible", reason, claimed_s, bound_s)


def _claimed_s(
    row: Mapping[str, str], batch: int, prompt: int, output: int, counts: Counts
) -> float | None:
    """Seconds for one batch: the stated latency, or tokens over the stated throughput."""
    if row.get("latency"):
        return float(row["latency"])
    if not row.get("throughput"):
        return None
    tokens = batch * (output + (prompt if counts == "total" else 0))
    rate = float(row["throughput"])
    return tokens / rate if rate > 0 else None

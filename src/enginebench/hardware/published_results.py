"""Other people's numbers: which rows of a table cannot be true on the hardware they name.

``enginebench check FILE.csv``. A row is impossible if it is faster than the roofline allows, with
everything counted in its favour (``roofline.py``): the fastest variant of the device, perfect
scaling over several, prefill and decode of a batch at the same time, no overhead at all. A row that
passes is not impossible; it may be wrong. A row that cannot be read in one way, or to which the
bound does not apply, is not checked.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from enginebench.hardware import data_sheets, model_names, published_table, roofline
from enginebench.hardware.published_table import Row, Unclear
from enginebench.hardware.roofline import Ceiling, Dtypes, ModelShape, UnknownShape

Verdict = Literal["impossible", "possible", "not checked"]
Counts = Literal["output", "total"]


@dataclass(frozen=True, slots=True)
class Checked:
    """One row and what became of it."""

    line: int  # in the file; the heading is line 1
    model: str
    batch: str
    verdict: Verdict
    reason: str
    claimed_s: float | None = None  # time of one batch as the row states it
    bound_s: float | None = None  # least time that the hardware allows


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    """What a row says, read."""

    shapes: tuple[ModelShape, ...]  # several where the name leaves a version open
    ceiling: Ceiling
    gpus: int
    dtypes: Dtypes
    batch: int
    prompt: int
    output: int
    claimed_s: float
    claimed_with_prompt_s: float | None  # if its throughput counts prompt tokens too

    @property
    def bound_s(self) -> float:
        ceiling = self.ceiling.times(self.gpus)
        return min(
            roofline.batch_s(shape, ceiling, self.dtypes, self.batch, self.prompt, self.output)
            for shape in self.shapes
        )


def check_file(path: Path, precision: str, counts: Counts) -> list[Checked]:
    """Check every row of a CSV file.

    Args:
        precision: taken where neither a row nor its model's name states one.
        counts: what a throughput counts: output tokens, or prompt and output tokens. Used only
            where a row has no latency and its heading does not say which.

    Raises:
        UserError: the file cannot be read, or lacks a column that is needed.
    """
    gpus, models = data_sheets.table("devices.yaml"), data_sheets.table("models.yaml")
    rows = published_table.read(path)
    return [_check_row(row, gpus, models, precision, counts) for row in rows]


def _check_row(
    row: Row,
    gpus: Iterable[Mapping[str, Any]],
    models: Iterable[Mapping[str, Any]],
    precision: str,
    counts: Counts,
) -> Checked:
    name, batch = (" ".join(row.cells.get(column, ()))[:80] for column in ("model", "batch"))
    try:
        claim = _read(row, gpus, models, precision, counts)
        bound_s = claim.bound_s
    except (Unclear, UnknownShape) as error:
        return Checked(row.line, name, batch, "not checked", str(error))
    share = bound_s / claim.claimed_s
    times = claim.claimed_s, bound_s
    if share <= 1:
        return Checked(row.line, name, batch, "possible", f"{share:.0%} of the ceiling", *times)
    reason = (
        f"{claim.output} output tokens in {claim.claimed_s:.3g} s; {claim.dtypes.weights} on "
        f"{claim.gpus} × {claim.ceiling.name} needs at least {bound_s:.3g} s: "
        f"{share:.3g} times too fast"
    )
    with_prompt_s = claim.claimed_with_prompt_s
    if with_prompt_s is not None and with_prompt_s >= bound_s:
        reason += "; not if its throughput counts prompt tokens too (--counts total)"
    return Checked(row.line, name, batch, "impossible", reason, *times)


def _read(
    row: Row,
    gpus: Iterable[Mapping[str, Any]],
    models: Iterable[Mapping[str, Any]],
    precision: str,
    counts: Counts,
) -> _Claim:
    """What a row claims.

    Raises:
        Unclear: it cannot be read in one way, or the bound does not apply to it.
        UnknownShape: the model's form is not worked out.
    """
    if row.is_speculative:
        raise Unclear(
            "speculative decoding: several tokens may come of one reading of the weights, so this "
            "bound does not hold"
        )
    device, count = published_table.devices(row.get("gpu"))
    ceiling = data_sheets.data_sheet(device, gpus)
    if ceiling is None:
        raise Unclear(f"no data sheet here for {row.get('gpu')[:60]!r}")
    named = model_names.find(row.get("model"), models)
    if not named.rows:
        raise Unclear(f"no shape here for {row.get('model')[:80]!r}")
    batch, prompt, output = (row.count(column) for column in ("batch", "input", "output"))
    claimed_s, with_prompt_s = _claimed_s(row, batch, prompt, output, counts)
    return _Claim(
        shapes=tuple(roofline.shape(entry) for entry in named.rows),
        ceiling=ceiling,
        gpus=_gpus(row, count),
        dtypes=_dtypes(row, named, precision),
        batch=batch,
        prompt=prompt,
        output=output,
        claimed_s=claimed_s,
        claimed_with_prompt_s=with_prompt_s,
    )


def _gpus(row: Row, in_name: int | None) -> int:
    """How many GPUs a row used: the most that its columns or its GPU's name may mean."""
    parallel = 1
    for column in ("tensor", "pipeline", "data"):
        parallel *= row.count(column, default=1)
    stated = max(row.count("gpus", default=1), parallel) * row.count("nodes", default=1)
    if in_name is not None and stated not in (1, in_name):
        raise Unclear(f"the GPU's name states {in_name} GPUs, the columns {stated}")
    count = max(stated, in_name or 1)
    if count > published_table.MAX_COUNT:
        raise Unclear(f"gpus must be a possible count, found {count}")
    return count


def _dtypes(row: Row, named: model_names.Named, precision: str) -> Dtypes:
    """The precision of weights and products; keys and values are as these if no column says.

    Raises:
        Unclear: not stated by a row with a quantized model's name, or contradictory.
    """
    method, stated = row.get("quantization"), row.get("dtype")
    if method.lower() in published_table.NO:
        method = ""
    weights = method or stated
    if not weights and named.is_quantized:
        if named.precision is None:
            raise Unclear(f"{row.get('model')[:80]!r} is quantized: its precision is not stated")
        weights = named.precision
    found = _precision(weights or precision)
    if named.is_quantized and roofline.DTYPE_BYTES[found] >= 2:
        raise Unclear(f"{row.get('model')[:80]!r} is quantized, its precision {found} is not")
    kv_dtype = row.get("kv_dtype")
    is_as_weights = kv_dtype.lower() in (*published_table.NO, "auto")
    return Dtypes(found, found if is_as_weights else _precision(kv_dtype))


def _precision(text: str) -> str:
    """Our name of a precision; several words must agree (``AWQ-INT4``)."""
    whole = roofline.dtype_name(text)
    if whole is not None:
        return whole
    words = [roofline.dtype_name(word) for word in re.split(r"[\s/,()+-]+", text) if word]
    names = {name for name in words if name is not None}
    if len(names) != 1 or None in words:
        raise Unclear(f"unknown precision {text[:40]!r}")
    return names.pop()


def _claimed_s(
    row: Row, batch: int, prompt: int, output: int, counts: Counts
) -> tuple[float, float | None]:
    """Seconds for one batch: the stated latency, or tokens over the stated throughput.

    The second is with prompt tokens counted as well, where a heading leaves that open and
    ``counts`` leaves them out.
    """
    latency_s, latency_ms = row.number("latency"), row.number("latency_ms")
    if latency_s is None and latency_ms is not None:
        latency_s = latency_ms / 1000
    if latency_s is not None:
        return _positive(latency_s, "latency"), None
    out, both = batch * output, batch * (output + prompt)
    if (rate := row.number("output_throughput")) is not None:
        return out / _positive(rate, "throughput"), None
    if (rate := row.number("total_throughput")) is not None:
        return both / _positive(rate, "throughput"), None
    if (rate := row.number("throughput")) is None:
        raise Unclear("latency or throughput must be above 0, found nothing")
    rate = _positive(rate, "throughput")
    return (both / rate, None) if counts == "total" else (out / rate, both / rate)


def _positive(value: float, name: str) -> float:
    if not 1e-12 < value < 1e15:
        wanted = "above 0" if value <= 0 else "a possible figure"
        raise Unclear(f"{name} must be {wanted}, found {value:g}")
    return value

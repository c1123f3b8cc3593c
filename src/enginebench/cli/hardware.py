"""The verbs that calculate with data sheets alone."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from enginebench.base.errors import UserError
from enginebench.cli import exit_codes
from enginebench.cli.terminal import log


def check(
    file: Annotated[Path, typer.Argument(help="CSV: model, gpu, batch, in, out, latency or ...")],
    precision: Annotated[str, typer.Option(help="Of rows that state none")] = "float16",
    counts: Annotated[
        Literal["output", "total"],
        typer.Option(help="The tokens that a throughput counts, in rows without a latency"),
    ] = "output",
) -> None:
    """Find impossible rows in a published table of results.

    A row is impossible if it is faster than its hardware. The exit code is 1 if there is one.
    """
    from enginebench.hardware import published_results

    _require_dtype("--precision", precision)
    checked = published_results.check_file(file, precision, counts)
    for row in checked:
        if row.verdict == "impossible":
            name = f"{row.model}, batch {row.batch}"
            log(f"line {row.line}: impossible: {name}: {row.reason}")
    tally = Counter(row.verdict for row in checked)
    log(", ".join(f"{tally[name]} {name}" for name in get_args(published_results.Verdict)))
    reasons = Counter(row.reason for row in checked if row.verdict == "not checked")
    for reason, count in reasons.most_common(10):
        log(f"  not checked: {count} rows: {reason}")
    if tally["impossible"]:
        raise typer.Exit(exit_codes.INVALID)


def kv(
    model: Annotated[str, typer.Argument(help="config.json or its directory, a name, a hub id")],
    gpu: Annotated[str, typer.Option(help="Its memory is taken from the data sheet")] = "",
    dtype: Annotated[str, typer.Option(help="Of the weights")] = "float16",
    kv_dtype: Annotated[str, typer.Option(help="Of keys and values (default: as weights)")] = "",
    context: Annotated[int, typer.Option(min=1, help="Tokens of a request, in and out")] = 4096,
    memory_gib: Annotated[float, typer.Option(min=0, help="Instead of --gpu")] = 0.0,
    share: Annotated[
        float, typer.Option(min=0.01, max=1, help="Part of the memory that the engine takes")
    ] = 0.9,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs that share one model")] = 1,
    block_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a block of the cache")] = 16,
    reserved_blocks: Annotated[
        int, typer.Option(min=0, help="Blocks that the engine keeps for itself")
    ] = 1,
) -> None:
    """Say how many tokens and requests fit on a GPU.

    It is calculated from the model's shape and the data sheet. The exit code is 1 if none fits.
    """
    from enginebench.hardware import capacity, roofline

    weights = _require_dtype("--dtype", dtype)
    cache = _require_dtype("--kv-dtype", kv_dtype) if kv_dtype else None
    name, config = capacity.load_config(model)
    shape = capacity.known_shape(name, config)
    dtypes = roofline.run_dtypes(shape, weights, cache)
    pool = capacity.Pool(block_tokens, reserved_blocks)
    if memory_gib:
        memory_bytes, source = memory_gib * 2**30, "as stated"
    elif gpu:
        memory_bytes, source = capacity.device_memory(gpu)
    else:
        raise UserError("expected --gpu or --memory-gib, found neither; for example: --gpu l4")
    try:
        fit = capacity.fit(shape, dtypes, memory_bytes * share, context, gpus, pool)
    except roofline.UnknownShape as error:
        raise UserError(f"{name}: {error}; the size of its weights is not known") from None
    for line in capacity.lines(name, shape, fit, dtypes, context, source, gpus, pool):
        log(line)
    if not fit.requests:
        raise typer.Exit(exit_codes.INVALID)


def _require_dtype(option: str, given: str) -> str:
    from enginebench.hardware import roofline

    if (name := roofline.dtype_name(given)) is None:
        known = ", ".join(roofline.DTYPE_BYTES)
        raise UserError(f"{option}: expected one of {known}, found {given!r}")
    return name

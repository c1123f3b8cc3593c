"""A long load on the scripted server, with the harness's memory over time: `make soak`.

The load comes in batches, as the cells of a long study do: each is sent, parsed, written, read back
and counted, then forgotten. Printed: every tenth of the batches with its memory and speed; the
slope of memory over requests with its 95 % interval; and the first tenth beside the last.

Exit code 1: memory grows (the interval lies above GROWTH_MIB a million requests), the two tenths
differ by more than their own spread explains and by more than MARGIN, or a request is lost.
"""

import itertools
import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import psutil
import typer
from scipy import stats

from enginebench.load import calibrate, client, client_stats, http1, spec
from enginebench.load.script import Script
from enginebench.metrics import request_table
from enginebench.record import reading, schema
from enginebench.record.files import Writer

TOKENS = 4  # of an answer
STREAMS = 64
SCRIPT = Script(first_s=0.002, pace_s=0.001)
GROWTH_MIB = 16.0  # a million requests
MARGIN = 0.05  # of a figure, between the first and the last tenth
WARM = 0.1  # of the batches before memory is looked at: caches and arenas fill


@dataclass(frozen=True, slots=True)
class Batch:
    """What one batch took."""

    requests: int  # so far
    memory_mib: float  # resident, of this process, once the batch is forgotten
    open_files: int
    requests_per_s: float
    ttft_s: float  # median
    cpu_s: float  # of the client, a request


def run(number: int, requests: int, sent: int, writer: Writer) -> Batch:
    """Send one batch, write its record, read it back and remove it.

    Raises:
        SystemExit: a request failed, or is not in the record.
    """
    with calibrate.reserved_cpu() as cpu, calibrate.serving(SCRIPT, cpu) as server:
        bodies = [
            http1.post(server.address, "/v1/completions", {"max_tokens": TOKENS}, f"{number}-{k}")
            for k in range(requests)
        ]
        began_s = time.perf_counter()
        with client.run(spec.LoadSpec(server.address, bodies, STREAMS, timeout_s=60)) as result:
            load_s = time.perf_counter() - began_s
            records = calibrate.records_of(result, TOKENS)
            figures = client_stats.figures(result)
    path = f"raw/soak/batch-c{STREAMS}/requests.jsonl"
    writer.write_lines(path, records)
    file = writer.directory / path
    columns = request_table.gather(reading.read_rows(file, schema.Request))
    file.unlink()
    good = int((~columns.is_failed).sum())
    if good != requests:
        raise SystemExit(f"soak: batch {number}: {requests - good} of {requests} requests are lost")
    process = psutil.Process()
    return Batch(
        requests=sent + requests,
        memory_mib=process.memory_info().rss / 2**20,
        open_files=process.num_fds(),
        requests_per_s=requests / load_s,
        ttft_s=statistics.median((columns.first_text_s - columns.sent_s).tolist()),
        cpu_s=figures.cpu_s / requests,
    )


def slope(batches: Sequence[Batch]) -> tuple[float, float, float]:
    """MiB of memory a million requests by least squares, with its 95 % interval.

    Neighbouring batches are alike, so tenths are taken in their place.
    """
    means = [
        (statistics.fmean(b.requests for b in part), statistics.fmean(b.memory_mib for b in part))
        for part in tenths(batches)
    ]
    found = stats.linregress([r / 1e6 for r, _ in means], [mib for _, mib in means])
    half = float(stats.t.ppf(0.975, len(means) - 2)) * float(found.stderr)
    return float(found.slope), float(found.slope) - half, float(found.slope) + half


def tenths(batches: Sequence[Batch]) -> list[Sequence[Batch]]:
    edges = [round(k * len(batches) / 10) for k in range(11)]
    return [batches[a:b] for a, b in itertools.pairwise(edges) if b > a]


def differences(first: Sequence[Batch], last: Sequence[Batch]) -> list[str]:
    """Print each figure of both tenths; those that differ by more than chance and MARGIN."""
    found = []
    for name, unit in (("requests_per_s", "/s"), ("ttft_s", "s"), ("cpu_s", "s a request")):
        one, other = ([getattr(b, name) for b in part] for part in (first, last))
        means = statistics.fmean(one), statistics.fmean(other)
        spread = math.sqrt(sum(statistics.variance(x) / len(x) for x in (one, other)))
        change = means[1] / means[0] - 1
        is_apart = abs(means[1] - means[0]) > 2 * spread and abs(change) > MARGIN
        print(
            f"{name}: first tenth {means[0]:.6g} {unit}, last {means[1]:.6g} ({change:+.1%}; "
            f"twice the standard error of the difference is {2 * spread / means[0]:.1%})"
        )
        found += [name] * is_apart
    return found


def main(
    requests: Annotated[int, typer.Option(help="In all")] = 1_000_000,
    batch: Annotated[int, typer.Option(help="Requests at a time")] = 5_000,
) -> None:
    """Send so many requests in batches and watch this process's memory."""
    batches: list[Batch] = []
    count = max(requests // batch, 40)
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        writer = Writer.create(Path(name), "soak")
        for number in range(count):
            sent = batches[-1].requests if batches else 0
            batches.append(run(number, batch, sent, writer))
            if (number + 1) % max(count // 10, 1) == 0:
                now = batches[-1]
                print(
                    f"{now.requests:>9,} requests: {now.memory_mib:.1f} MiB, "
                    f"{now.open_files} open files, {now.requests_per_s:,.0f} requests/s",
                    flush=True,
                )
    warm = batches[int(WARM * count) :]
    mib, low, high = slope(warm)
    print(f"memory: {mib:+.2f} MiB a million requests, 95 % interval {low:+.2f} to {high:+.2f}")
    parts = tenths(batches)
    apart = differences(parts[0], parts[-1])
    files = {b.open_files for b in warm}
    print(f"open files: {min(files)} to {max(files)}")
    if low > GROWTH_MIB or apart or max(files) > min(files) + 2:
        raise SystemExit(f"soak: memory grows, files stay open, or figures drift: {apart or ''}")


if __name__ == "__main__":
    typer.run(main)

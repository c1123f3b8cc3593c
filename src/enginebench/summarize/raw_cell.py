"""The raw files of one attempt of a cell, read."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from enginebench.base.machine_row import MachineRow
from enginebench.check import request_checks
from enginebench.metrics import gpu, memory, metrics_page, request_table
from enginebench.metrics.request_table import Columns
from enginebench.record import reading
from enginebench.record.schema import Launch, Request
from enginebench.record.schema_samples import ContainerSample, GpuSample, ProcessSample, Scrape


@dataclass(frozen=True, slots=True, kw_only=True)
class RawCell:
    """What was recorded while a cell was run."""

    warmup: list[Request]
    requests: Columns  # the measured ones
    tally: request_checks.Tally  # what the checks counted in them
    scrape_errors: list[str | None]  # one a scrape; None: there is a page
    pages: list[metrics_page.Metrics]  # one a scrape
    processes: list[ProcessSample]
    gpus: list[GpuSample]
    own_gpus: list[GpuSample]  # of these, the engine's own
    container: list[ContainerSample]  # of its container, if it has one
    machine: list[MachineRow]  # empty in records before schema 3
    samples: tuple[memory.Sample, ...]
    resident: tuple[tuple[float, float], ...]  # memory over time: t_s, bytes
    power: tuple[tuple[float, float], ...]  # of the engine's GPUs: t_s, watts

    @property
    def ends(self) -> tuple[metrics_page.Metrics, metrics_page.Metrics]:
        """The first and the last page."""
        return (self.pages[0], self.pages[-1]) if self.pages else ({}, {})

    @property
    def pids(self) -> set[int]:
        return {pid for sample in self.processes for pid in sample.pids}


def read(
    where: Path,
    device: str,
    launch: Launch | None,
    cached_permitted: int,
    on_bytes: Callable[[int], object],
) -> RawCell:
    """The files in the directory of one attempt.

    Args:
        cached_permitted: tokens of a prompt that may come from a prefix cache.
        on_bytes: is called with the bytes of requests.jsonl as they are read.

    Raises:
        RecordError: one of them is missing or damaged.
    """
    warmup: list[Request] = []
    tally = request_checks.Tally(cached_permitted)
    requests = request_table.gather(_measured(where / "requests.jsonl", warmup, tally, on_bytes))
    processes = list(reading.read_rows(where / "processes.jsonl", ProcessSample))
    gpus: list[GpuSample] = []
    if (file := where / "gpus.jsonl.gz").exists():
        gpus = list(reading.read_rows(file, GpuSample))
    scrapes = [
        (scrape.t_s, scrape.error, _page(scrape, launch))
        for scrape in reading.read_rows(where / "scrapes.jsonl.gz", Scrape)
    ]
    pages = [page for _, _, page in scrapes]
    machine = reading.kept(where / "machine.jsonl")
    own_gpus = gpu.of_engine(gpus, {pid for sample in processes for pid in sample.pids})
    container = _of_container(where.parent / "container.jsonl", processes)
    has_gpu = device == "cuda"
    return RawCell(
        warmup=warmup,
        requests=requests,
        tally=tally,
        scrape_errors=[error for _, error, _ in scrapes],
        pages=pages,
        processes=processes,
        gpus=gpus,
        own_gpus=own_gpus,
        container=container,
        machine=list(reading.read_rows(machine, MachineRow)) if machine.exists() else [],
        samples=memory.samples([t_s for t_s, _, _ in scrapes], pages, requests),
        resident=tuple(
            gpu.over_time(own_gpus, "memory_used_bytes")
            if has_gpu
            else _memory_over_time(processes, container)
        ),
        power=tuple(gpu.over_time(own_gpus, "power_w") if has_gpu else ()),
    )


def _page(scrape: Scrape, launch: Launch | None) -> metrics_page.Metrics:
    if launch is None:
        return metrics_page.read(scrape.status, scrape.text, {})
    names, kept_back = launch.metrics, launch.kv_blocks_kept_back
    page = metrics_page.read(scrape.status, scrape.text, names, kept_back)
    if launch.kv_capacity_tokens:  # of an engine whose pages do not have it
        page["kv_capacity_tokens"] = float(launch.kv_capacity_tokens)
    return page


def _memory_over_time(
    processes: Sequence[ProcessSample], container: Sequence[ContainerSample]
) -> Sequence[tuple[float, float]]:
    """The PSS of the processes; the container's memory where that is hidden."""
    times = [(p.t_s, p.pss_bytes) for p in processes if p.pss_bytes is not None]
    return times or [(row.t_s, row.memory_bytes) for row in container]


def _of_container(file: Path, processes: Sequence[ProcessSample]) -> list[ContainerSample]:
    """The rows of a launch's container that fall into this cell."""
    if not processes or not file.exists():
        return []
    first_s, last_s = processes[0].t_s, processes[-1].t_s
    rows = reading.read_rows(file, ContainerSample)
    return [row for row in rows if first_s <= row.t_s <= last_s]


def _measured(
    file: Path,
    warmup: list[Request],
    tally: request_checks.Tally,
    on_bytes: Callable[[int], object],
) -> Iterator[Request]:
    """The measured rows of requests.jsonl, counted on their way; the others go to ``warmup``."""
    for row in reading.read_rows(file, Request, on_bytes):
        if row.phase == "measured":
            tally.add(row)
            yield row
        else:
            warmup.append(row)

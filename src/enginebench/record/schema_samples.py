"""Types of what is sampled while a cell runs: the metrics page, processes, GPUs, containers."""

from typing import Annotated

from msgspec import Meta, Struct

from enginebench.record.schema import IDENTIFIER, Bytes, Count


class Scrape(Struct, frozen=True, kw_only=True):
    """A line of ``scrapes.jsonl.gz``: one reading of the engine's metrics page."""

    t_s: Annotated[float, Meta(description="when the reading began")]
    status: Annotated[int | None, Meta(description="HTTP status; null: no answer")]
    text: Annotated[str | None, Meta(description="the page, unparsed")]
    took_s: Annotated[float | None, Meta(description="seconds until it was read")] = None
    error: Annotated[str | None, Meta(description="why there was no answer")] = None


class ProcessSample(Struct, frozen=True, kw_only=True):
    """A line of ``processes.jsonl``: the engine's process and all its descendants."""

    t_s: float
    pss_bytes: Annotated[
        Bytes | None,
        Meta(description="sum of PSS; null between its slower readings, or if one is hidden"),
    ]
    rss_bytes: Annotated[Bytes | None, Meta(description="sum of RSS")] = None
    cpu_s: Annotated[float | None, Meta(description="CPU time since their start")] = None
    pids: Annotated[list[int], Meta(description="new in schema 2")] = []


class GpuSample(Struct, frozen=True, kw_only=True):
    """A line of ``gpus.jsonl.gz``: one GPU at one moment, as NVML gives it.

    What a GPU does not support is ``null``, as is what a partition (MIG) shares with the board's
    other users: memory, utilisation, power, energy.
    """

    t_s: Annotated[float, Meta(description="the same for all GPUs of a sample")]
    index: Annotated[Count, Meta(description="in NVML's order")]
    memory_used_bytes: Annotated[
        Bytes | None,
        Meta(description="of the whole GPU; drivers before 510 include what they reserve"),
    ] = None
    memory_reserved_bytes: Annotated[Bytes | None, Meta(description="by the driver")] = None
    utilisation: Annotated[
        float | None,
        Meta(description="0 to 1: share of the driver's last period in which a kernel ran"),
    ] = None
    memory_utilisation: Annotated[
        float | None, Meta(description="0 to 1: the same, in which memory was read or written")
    ] = None
    power_w: Annotated[float | None, Meta(description="many boards average over a second")] = None
    energy_j: Annotated[float | None, Meta(description="since the driver was loaded")] = None
    sm_clock_hz: float | None = None
    memory_clock_hz: float | None = None
    temperature_c: float | None = None
    throttle_reasons: Annotated[
        list[str] | None,
        Meta(extra=IDENTIFIER, description="why the clock is not at its highest"),
    ] = None
    processes: Annotated[
        dict[str, Bytes | None] | None,
        Meta(description="process id -> bytes, of processes that compute; null: not given"),
    ] = None
    error: Annotated[
        str | None, Meta(description="the first failure other than 'not supported'")
    ] = None


class ContainerSample(Struct, frozen=True, kw_only=True):
    """A line of ``container.jsonl``: the engine's container, once a second."""

    t_s: float
    memory_bytes: Annotated[Bytes, Meta(description="without file cache that can be dropped")]
    memory_limit_bytes: Bytes | None = None
    cpu_s: Annotated[float | None, Meta(description="CPU time since its start")] = None

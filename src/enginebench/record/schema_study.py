"""Types of the files of a whole study. Over 300 lines, as it is a table of every field.

``study.json``, ``events.jsonl``, ``finished.json``.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from enginebench.record.schema import IDENTIFIER, Bytes, Clocks, Count, Files, Identifier, Model
from enginebench.record.schema_decomposition import Decomposition

Setting = str | int | float | bool


class Hint(Struct, frozen=True, kw_only=True):
    """Used for the plan's time estimate only."""

    start_s: float = 30.0
    tokens_per_s: Annotated[
        dict[int, float], Meta(description="output tokens/s by concurrency")
    ] = {}


class Variant(Struct, frozen=True, kw_only=True):
    """One engine under one set of settings."""

    engine: Identifier
    variant: Identifier = "default"
    declared: Annotated[
        list[Identifier], Meta(description="variants of its variants.yaml; schema 4")
    ] = []
    settings: dict[str, Setting] = {}
    workloads: Annotated[list[Identifier], Meta(description="empty: all of them")] = []
    trials: Annotated[Count | None, Meta(description="null: all of them")] = None
    hint: Hint = field(default_factory=Hint)

    @property
    def label(self) -> str:
        return f"{self.engine}/{self.variant}"


class OutputRange(Struct, frozen=True, kw_only=True):
    """Output lengths drawn evenly between both ends."""

    min: Count
    max: Count


class Workload(Struct, frozen=True, kw_only=True):
    """What each request asks for, and the load: closed loops (concurrency) or open ones (rate)."""

    name: Identifier
    prompt_tokens: Count
    shared_prefix_tokens: Annotated[
        Count, Meta(description="that all prompts begin with, warm-up too; schema 4")
    ] = 0
    output_tokens: Count | OutputRange
    concurrency: Annotated[list[Count], Meta(description="requests in flight")] = []
    requests_per_stream: Count = 2
    min_requests: Count = 1
    warmup_output_tokens: Count = 8
    rate: Annotated[list[float], Meta(description="requests/s offered; schema 2")] = []
    duration_s: Annotated[float, Meta(description="of an open loop")] = 60.0
    arrivals: Annotated[
        str, Meta(extra=IDENTIFIER, description="constant, poisson, gamma or trace")
    ] = "poisson"
    burstiness: Annotated[float, Meta(description="shape of gamma's gaps")] = 1.0
    trace: Annotated[str, Meta(description="file of arrival times and lengths")] = ""
    max_in_flight: Count | None = None
    ramp_s: float = 0.0


class Agreement(Struct, frozen=True, kw_only=True):
    """Prompts that every variant answers once, so that answers can be compared."""

    prompts: Count
    prompt_tokens: Count
    output_tokens: Count


class PromptSource(Struct, frozen=True, kw_only=True):
    path: str = "prompts.txt"
    format: Identifier = "auto"


class StatedPrice(Struct, frozen=True, kw_only=True):
    """A price as the study file states it: one of the first three."""

    name: Annotated[str, Meta(description="of a published price; schema 3")] = ""
    usd_per_gpu_hour: Annotated[float | None, Meta(description="schema 3")] = None
    usd_per_hour: Annotated[float | None, Meta(description="of the whole machine")] = None
    source: str = ""
    is_stand_in: Annotated[
        bool, Meta(description="true: the run is not on the hardware of this price")
    ] = False


class Price(Struct, frozen=True, kw_only=True):
    """What an hour costs."""

    usd_per_hour: float
    is_per_gpu: Annotated[
        bool, Meta(description="times the GPUs that an engine uses; else the whole machine")
    ]
    source: str
    is_stand_in: bool


class Noise(Struct, frozen=True, kw_only=True):
    """How steady the machine was for a few seconds before the study."""

    seconds: float
    cpus: Annotated[list[int], Meta(description="that worked")]
    pieces: Annotated[Count, Meta(description="of equal work")]
    sd_log: Annotated[
        float | None, Meta(description="standard deviation of the log of the speed")
    ] = None
    slowest_ratio: Annotated[
        float | None, Meta(description="the longest piece over the median one")
    ] = None
    machine: Annotated[
        dict[str, float | None], Meta(description="its load meanwhile, as of a cell")
    ] = {}
    error: Annotated[str | None, Meta(description="why there is no figure")] = None


class StudyFile(Struct, frozen=True, kw_only=True):
    """The study file, with every default filled in."""

    name: Identifier
    title: str = ""
    model: str = "embedded"
    device: Identifier = "auto"
    settings: dict[str, Setting] = {}
    prompts: PromptSource = field(default_factory=PromptSource)
    engines: list[Variant]
    reference: Annotated[
        Identifier, Meta(description="engine/variant that ratios divide by; empty: the first")
    ] = ""
    workloads: list[Workload]
    agreement: Agreement | None = None
    trials: Count = 1
    seed: int = 0
    price: StatedPrice | None = None
    decompositions: Annotated[list[Decomposition], Meta(description="schema 4")] = []
    ready_timeout_s: float = 600.0
    request_timeout_s: float = 600.0
    calibration_s: float = 1.0
    noise_probe_s: Annotated[float, Meta(description="schema 3")] = 4.0
    judge_client: bool = True
    judge_machine: Annotated[bool, Meta(description="schema 3")] = True
    scrape_interval_s: float = 1.0
    sample_interval_s: float = 0.1
    port: int | None = None
    skip_unmet: Annotated[
        bool, Meta(description="what this machine cannot run is left out; schema 4")
    ] = False


class Gpu(Struct, frozen=True, kw_only=True):
    name: Identifier | None
    memory_bytes: Bytes | None = None
    driver: Identifier | None = None
    mig: Annotated[bool, Meta(description="partitioned")] = False
    capability: Annotated[float | None, Meta(description="compute capability; schema 4")] = None


class Machine(Struct, frozen=True, kw_only=True):
    system: Identifier
    cpu: Identifier
    cpu_bfloat16: Annotated[
        list[Identifier], Meta(description="its bfloat16 instructions; empty: emulated")
    ] = []
    cpus: Annotated[Count, Meta(description="processors that the engines may use")]
    memory_bytes: Bytes
    gpus: list[Gpu] = []
    nvml_error: Annotated[
        str | None, Meta(description="why GPUs that may be there cannot be seen")
    ] = None
    python: Identifier
    packages: Annotated[dict[str, str | None], Meta(extra=IDENTIFIER)] = {}


class Ceiling(Struct, frozen=True, kw_only=True):
    """What a device can do at most."""

    name: Identifier
    bandwidth_bytes_per_s: Annotated[float, Meta(description="of its memory")]
    flops_per_s: Annotated[dict[str, float], Meta(description="by dtype")]
    source: Annotated[str, Meta(description="a data sheet, or when it was measured")]


class Calibration(Struct, frozen=True, kw_only=True):
    """The client's error at one level, against a server whose times are known."""

    streams: Count
    tokens_per_s: Annotated[float, Meta(description="that the server was asked to make")]
    tokens: Count
    has_own_core: Annotated[bool, Meta(description="the server shared no core")]
    stamps: Annotated[str | None, Meta(extra=IDENTIFIER)]
    ttft_error_s_p50: Annotated[float, Meta(description="the client's TTFT above the server's")]
    ttft_error_s_p99: float
    itl_error_s_p99: Annotated[float, Meta(description="distance between both sides' gaps")]
    token_delay_s_p50: Annotated[float, Meta(description="from sending a token to its stamp")]
    token_delay_s_p99: float
    server_late_s_p99: Annotated[float, Meta(description="what the server itself was late")]
    busy_ratio: float | None
    cpu_per_token_s: float


class Git(Struct, frozen=True, kw_only=True):
    commit: Identifier | None = None
    dirty: Annotated[bool | None, Meta(description="the tree had changes")] = None


class PromptFile(Struct, frozen=True, kw_only=True):
    path: str
    sha256: Identifier
    count: Count
    left_out: Annotated[Count, Meta(description="entries of the file without a prompt")] = 0


class PlannedCell(Struct, frozen=True, kw_only=True):
    id: Annotated[Identifier, Meta(description="its directory: <workload>-c<n> or -r<rate>")]
    workload: Identifier
    concurrency: Annotated[Count, Meta(description="most requests in flight")]
    rate: Annotated[float | None, Meta(description="requests/s offered; null: a closed loop")] = (
        None
    )
    requests: Annotated[Count, Meta(description="measured ones")]


class PlannedLaunch(Struct, frozen=True, kw_only=True):
    id: Annotated[Identifier, Meta(description="its directory below raw/")]
    trial: Count
    engine: Identifier
    variant: Identifier
    label: Identifier
    cells: list[PlannedCell]


class LeftOut(Struct, frozen=True, kw_only=True):
    """A variant of the study file that this machine cannot run."""

    label: Identifier
    reason: str


class Study(Struct, frozen=True, kw_only=True):
    """``study.json``: what was to be run, on what machine, with which prompts."""

    schema: Count
    study: StudyFile
    started_at: Annotated[Identifier, Meta(description="wall clock, ISO 8601, UTC")]
    clock: Clocks
    rerun: Annotated[str, Meta(description="the command that runs it again")] = ""
    runner: Annotated[
        Literal["process", "container"], Meta(extra=IDENTIFIER, description="schema 2")
    ] = "process"
    device: Annotated[Literal["cpu", "cuda"], Meta(extra=IDENTIFIER)]
    machine: Machine
    noise: Annotated[Noise | None, Meta(description="schema 3")] = None
    calibration: list[Calibration] = []
    price: Annotated[
        Price | None, Meta(description="null: none stated; before schema 3 see study.price")
    ] = None
    ceiling: Annotated[
        Ceiling | None, Meta(description="before the first engine; null: not known")
    ] = None
    ceiling_unknown: Annotated[str | None, Meta(description="why there is none; schema 3")] = None
    gpu_reached: Annotated[
        Ceiling | None, Meta(description="the same rates of a GPU as measured")
    ] = None
    git: Git = field(default_factory=Git)
    prompts: PromptFile
    model: Model
    plan: list[PlannedLaunch]
    left_out: Annotated[
        list[LeftOut], Meta(description="what study.engines does not have for it; schema 4")
    ] = []


class Event(Struct, frozen=True, kw_only=True):
    """A line of ``events.jsonl``: one step as it happened."""

    t_s: float
    step: Annotated[
        Identifier,
        Meta(description="up, ready, agree, warm, load, record, down, resumed, finished"),
    ]
    launch: Identifier | None = None
    cell: Identifier | None = None
    attempt: Count | None = None
    clock: Annotated[Clocks | None, Meta(description="this and what follows: of resumed")] = None
    noise: Noise | None = None
    calibration: list[Calibration] = []
    ceiling: Ceiling | None = None
    gpu_reached: Ceiling | None = None


class Published(Struct, frozen=True, kw_only=True):
    """``published.json``: what was packed anew when a record was published."""

    files: Annotated[
        Files, Meta(description="by the recorded path: of what is packed, as publishing found it")
    ] = {}


class Finished(Struct, frozen=True, kw_only=True):
    """``finished.json``: exists only if the study came to its end."""

    finished_at: Annotated[Identifier | None, Meta(description="wall clock, ISO 8601, UTC")] = None
    ceiling: Annotated[
        Ceiling | None,
        Meta(description="measured once more; the higher of the two counts"),
    ] = None
    files: Files = {}

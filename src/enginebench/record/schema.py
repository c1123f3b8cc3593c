"""A type for every raw file that a launch leaves. Over 300 lines, as it is a table of every field.

``schema_samples`` has what is sampled while a cell runs, ``schema_study`` the files of the whole
study, ``schema_derived`` those computed from all of them. ``json_schema`` names the type of every
file; ``docs/schema/`` has them as JSON Schema, for other programs.

All times (``_s``) are seconds of one monotonic clock, ``time.perf_counter`` of the harness; sizes
are bytes. ``null`` is "not measured", never 0. A field that is unknown is ignored, so that an older
version reads a newer record of the same schema; one that is missing has its default.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

#: Version of the raw files' form, in ``study.json``. History:
#: 1 (2026-11): first form.
#: 2 (2026-11): open loops (``rate``), ``error_kind``, the client's own figures and its calibration.
#:   ``sent_s`` is read right before the last byte is handed over, and no longer right after.
#: 3 (2026-11): the load of the whole machine (``machine.jsonl``, ``noise``) and further attempts of
#:   a disturbed cell (``<cell>~2``, ``attempt``); ``price`` as it was resolved, or null;
#:   ``ceiling_unknown``.
#: 4 (2026-11): declared variants of an engine (``declared``, ``resolved``), the derived copies of
#:   the model that they run (a launch's ``model``, ``draft``), ``left_out``, ``capability``,
#:   ``decompositions``, ``shared_prefix_tokens``; what a start is made of (``start_up``),
#:   ``perplexity.jsonl``.
SCHEMA = 4
READABLE = (1, 2, 3, 4)  # what is new in one is "not measured" in those before

#: Marks what the harness itself names: redaction never changes it (see ``redacting``).
IDENTIFIER = {"identifier": True}

Identifier = Annotated[str, Meta(extra=IDENTIFIER)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Bytes = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Phase = Literal["warmup", "measured"]


class Request(Struct, frozen=True, kw_only=True, gc=False):
    """A line of ``requests.jsonl`` or ``agreement.jsonl.gz``: one request as it happened."""

    index: Annotated[Count, Meta(description="order in the cell, from 0, per phase")]
    phase: Annotated[Phase, Meta(extra=IDENTIFIER, description="warm-up comes first")]
    request_id: Annotated[Identifier, Meta(description="the X-Request-Id sent")]
    prompt_sha256: Annotated[Identifier, Meta(description="of the prompt's token ids")]
    prompt_tokens_asked: Annotated[Count, Meta(description="tokens of the prompt that was sent")]
    output_tokens_asked: Annotated[Count, Meta(description="output tokens asked for")]
    planned_s: Annotated[
        float | None,
        Meta(description="when it was due; closed loop: when its stream became free"),
    ]
    sent_s: Annotated[
        float | None,
        Meta(description="right before its last byte went to the kernel; null: never sent"),
    ]
    headers_s: Annotated[float | None, Meta(description="first byte of the answer")]
    event_s: Annotated[
        list[float], Meta(description="arrival of each event that carries tokens or text")
    ]
    event_tokens: Annotated[
        list[Count | None],
        Meta(description="tokens in each event; null: the engine does not say"),
    ]
    event_chars: Annotated[list[Count], Meta(description="characters of text in each event")]
    end_s: Annotated[float | None, Meta(description="end of the answer, or of the wait for it")]
    text: Annotated[str, Meta(description="the generated text")]
    prompt_tokens: Annotated[Count | None, Meta(description="by the engine's usage")]
    output_tokens: Annotated[Count | None, Meta(description="by the engine's usage")]
    finish_reason: Annotated[
        str | None, Meta(extra=IDENTIFIER, description="as the engine gives it")
    ]
    status: Annotated[int | None, Meta(description="HTTP status")]
    error: Annotated[str | None, Meta(description="why the request does not count; null: it does")]
    text_tokens: Annotated[
        Count | None, Meta(description="tokens of the text by the harness's tokenizer")
    ] = None
    cached_tokens: Annotated[
        Count | None, Meta(description="prompt tokens from a cache, by the engine's usage")
    ] = None
    token_ids: Annotated[
        list[Count] | None,
        Meta(description="ids of the output tokens, where answers are compared"),
    ] = None
    margins: Annotated[
        list[float | None] | None,
        Meta(description="log-probability of each token above the next best one's, in nats"),
    ] = None
    error_kind: Annotated[
        str | None,
        Meta(
            extra=IDENTIFIER,
            description="refused, cut, timeout, cancelled, protocol, http, engine (an error inside "
            "a 200), incomplete (no finish reason), trailing, not sent; new in schema 2",
        ),
    ] = None


class GpuMeter(Struct, frozen=True, kw_only=True):
    """A GPU's meters at one end of a cell."""

    index: Count = 0  # schema 1 has one GPU a position
    energy_j: Annotated[float | None, Meta(description="since the driver was loaded")] = None
    power_limit_w: Annotated[float | None, Meta(description="enforced limit")] = None


class Clocks(Struct, frozen=True, kw_only=True):
    """The monotonic clock of all times beside the wall clock, read together."""

    t_s: float
    wall_s: Annotated[float, Meta(description="seconds since 1970, UTC")]


class Meters(Clocks, frozen=True, kw_only=True):
    """Both clocks and the GPUs' meters, at one end of a cell."""

    gpus: list[GpuMeter] = []


class ClientStats(Struct, frozen=True, kw_only=True):
    """What the load generator measures of itself over one cell; new in schema 2."""

    stamps: Annotated[
        str | None,
        Meta(extra=IDENTIFIER, description="who stamps arrivals: kernel, client or both"),
    ] = None
    clock_error_s: Annotated[
        float | None, Meta(description="of the kernel's clock beside ours, at most")
    ] = None
    processes: Count = 1
    streams: Annotated[Count, Meta(description="requests in flight at most")] = 0
    connections: Annotated[Count, Meta(description="opened in all")] = 0
    pieces: Annotated[Count, Meta(description="reads that returned bytes")] = 0
    cpu_s: Annotated[float, Meta(description="CPU time of all its processes")] = 0.0
    cpu_ratio: Annotated[float | None, Meta(description="CPU time over wall time, a process")] = (
        None
    )
    busy_ratio: Annotated[
        float | None,
        Meta(description="time in flight over the same plus the time requests were sent late"),
    ] = None
    lag_s_mean: Annotated[
        float | None, Meta(description="how late the loop came to a moment it had set")
    ] = None
    lag_s_p50: float | None = None
    lag_s_p99: float | None = None
    lag_s_max: float | None = None
    send_late_s_mean: Annotated[
        float | None, Meta(description="from when a request could go to its sending")
    ] = None
    send_late_s_p50: float | None = None
    send_late_s_p99: float | None = None
    send_late_s_max: float | None = None
    receive_late_s_mean: Annotated[
        float | None, Meta(description="from the kernel's stamp of a piece to its reading")
    ] = None
    receive_late_s_p50: float | None = None
    receive_late_s_p99: float | None = None
    receive_late_s_max: float | None = None


class PulseCost(Struct, frozen=True, kw_only=True):
    """What one sampler took of the machine over a cell, and how punctual it was."""

    interval_s: float
    beats: Annotated[Count, Meta(description="samples between both ends of the cell")]
    missed: Annotated[Count, Meta(description="left out, as the one before was not done")]
    late_s_mean: float | None = None
    late_s_max: float | None = None
    took_s: Annotated[float | None, Meta(description="time spent in samples")] = None
    cpu_s: Annotated[float | None, Meta(description="CPU time of its thread")] = None


class Cell(Struct, frozen=True, kw_only=True):
    """``cell.json``: how one cell was measured. Its existence says that the cell was run."""

    started: Meters
    ended: Meters
    engine_death: Annotated[
        str | None, Meta(description="why the engine's process was gone; null: it was not")
    ]
    log_tail: Annotated[list[str], Meta(description="last lines of the log of a dead engine")]
    attempt: Annotated[
        Count, Meta(description="from 1; more where others disturbed the ones before; schema 3")
    ] = 1
    client: Annotated[ClientStats | None, Meta(description="new in schema 2")] = None
    watching: Annotated[
        dict[str, PulseCost],
        Meta(
            description="by sampler: scraping, weighing (PSS), sampling (RSS, GPUs), overseeing "
            "(the machine)"
        ),
    ] = {}


class Failure(Struct, frozen=True, kw_only=True):
    """Why a launch did not reach its end."""

    message: str
    log_tail: list[str] = []


class Container(Struct, frozen=True, kw_only=True):
    """The container that an engine ran in, as Docker describes it."""

    name: Identifier
    image: Annotated[str, Meta(description="as it was asked for")]
    image_id: Identifier
    image_digests: Annotated[
        list[Identifier], Meta(description="empty: built on this machine")
    ] = []
    image_created: str | None = None
    docker: Annotated[Identifier, Meta(description="Docker's version")]
    asked_at: Annotated[str, Meta(description="address that the requests went to")]


class Ended(Struct, frozen=True, kw_only=True):
    """How a container ended."""

    died: Annotated[str | None, Meta(description="why, if it ended before it was stopped")] = None
    exit_code: int | None = None
    out_of_memory: bool | None = None
    restarts: int | None = None


class Checksum(Struct, frozen=True, kw_only=True):
    """What a raw file was when it was written."""

    bytes: Bytes
    sha256: Identifier


Files = Annotated[
    dict[str, Checksum],
    Meta(extra=IDENTIFIER, description="by path below the study's directory; empty: not recorded"),
]


class Model(Struct, frozen=True, kw_only=True):
    """A model as an engine is given it."""

    name: Identifier
    sha256: Identifier
    hashed: Annotated[Identifier, Meta(description="what the digest covers")]
    has_random_weights: bool
    parameters: Annotated[int | None, Meta(description="schema 2")] = None
    weights_bytes: Annotated[
        Bytes | None, Meta(description="of the weights' files, as stored; schema 3")
    ] = None
    config: Annotated[
        dict[str, Any], Meta(extra=IDENTIFIER, description="config.json of the model")
    ]


class PromptScore(Struct, frozen=True, kw_only=True):
    """A line of ``perplexity.jsonl``: how probable an engine finds one prompt."""

    index: Annotated[Count, Meta(description="order in which they were asked, from 0")]
    prompt_sha256: Annotated[Identifier, Meta(description="of the prompt's token ids")]
    tokens: Annotated[Count, Meta(description="those that have a probability: all but the first")]
    logprob_sum: Annotated[
        float | None, Meta(description="sum of their natural logarithms; null: not given")
    ]
    error: Annotated[str | None, Meta(description="why it was not given")] = None


class StartUp(Struct, frozen=True, kw_only=True):
    """A start by the engine's own account, in its log; null: it does not say."""

    weights_s: Annotated[float | None, Meta(description="loading the weights")] = None
    compile_s: Annotated[float | None, Meta(description="compiling, or loading compiled code")] = (
        None
    )
    capture_s: Annotated[float | None, Meta(description="capturing CUDA graphs")] = None
    init_s: Annotated[
        float | None,
        Meta(description="after the weights until it serves; contains compile_s and capture_s"),
    ] = None
    compile_cache: Annotated[
        Literal["found", "new"] | None,
        Meta(extra=IDENTIFIER, description="new: there was no compiled code from before"),
    ] = None


class Resolved(Struct, frozen=True, kw_only=True):
    """One thing that a declared variant promises, and what the started engine showed."""

    variant: Identifier
    sets: Annotated[str, Meta(description="what the variant sets, as name=value")]
    expected: Annotated[str, Meta(description="the condition in words")]
    found: Annotated[str, Meta(description="what was found instead, or that holds it")]
    holds: bool


class Launch(Struct, frozen=True, kw_only=True):
    """``launch.json``: one start of one engine."""

    engine: Identifier
    variant: Identifier
    trial: Annotated[Count, Meta(description="from 1")]
    settings: Annotated[dict[str, Any], Meta(description="launch variables")]
    command: Annotated[list[str], Meta(description="empty: it was not started")]
    env: Annotated[dict[str, str], Meta(description="added to the environment")]
    metrics: Annotated[
        dict[str, list[str]],
        Meta(extra=IDENTIFIER, description="our metric -> the engine's names that were read"),
    ] = {}
    inherited_env: Annotated[
        dict[str, str], Meta(description="variables of the caller that may move numbers")
    ] = {}
    python: Annotated[Identifier | None, Meta(description="the engine's environment")] = None
    dtype: Annotated[str | None, Meta(extra=IDENTIFIER, description="the weights' dtype")] = None
    version: Annotated[Any, Meta(description="what the engine says of itself")] = None
    ready_s: Annotated[
        float | None, Meta(description="from the start to the first real generation")
    ] = None
    start_up: Annotated[
        StartUp | None, Meta(description="null: before schema 4, or never ready; schema 4")
    ] = None
    kv_blocks_kept_back: Annotated[
        Count, Meta(description="blocks of its KV cache that the engine keeps for itself; schema 3")
    ] = 0
    kv_capacity_tokens: Annotated[
        int | None, Meta(description="from the engine's log, where its metrics lack it")
    ] = None
    declared: Annotated[
        list[Identifier], Meta(description="declared variants that were applied; schema 4")
    ] = []
    resolved: Annotated[list[Resolved], Meta(description="whether they took effect; schema 4")] = []
    model: Annotated[
        Model | None, Meta(description="a derived copy; null: the study's model; schema 4")
    ] = None
    draft: Annotated[Model | None, Meta(description="the model that drafts; schema 4")] = None
    failure: Annotated[
        Failure | UnsetType | None,
        Meta(description="null: every planned cell was run; absent: the harness was cut off"),
    ] = UNSET
    container: Annotated[Container | None, Meta(description="null: a process")] = None
    ended: Annotated[Ended | None, Meta(description="of a container")] = None
    left_behind: Annotated[
        list[str], Meta(description="what Docker said, if it could not be removed")
    ] = []
    files: Files = {}

    @property
    def label(self) -> str:
        return f"{self.engine}/{self.variant}"

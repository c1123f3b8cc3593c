"""Types of the derived files. Over 300 lines, as it is a table of every derived field.

``docs/method.md`` has the formula of every figure. ``null`` is "not measured".
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from enginebench.record.schema import Bytes, ClientStats, Count


class Finding(Struct, kw_only=True):
    """One thing that is wrong with a cell."""

    check: str
    verdict: Literal["valid", "suspect", "invalid"]
    text: str
    failed: Annotated[Count | None, Meta(description="requests that failed the check")] = None
    advice: str = ""


_LATENCIES = {
    "ttft_s": "time to first token: first event with text minus sent, s",
    "ttft_planned_s": "first event with text minus planned, s",
    "tpot_s": "time per output token: (last token - first token) / (output tokens - 1), s",
    "itl_s": "inter-token latency: the gap before each token after the first event, s",
    "e2e_s": "end to end: last token minus sent, s",
    "e2e_planned_s": "last token minus planned, s",
}
_STATISTICS = {
    "mean": "mean",
    "p50": "median",
    "p90": "90th percentile",
    "p95": "95th percentile",
    "p99": "99th percentile",
}
_UPPER = {
    "bound": "at most this with 95 % confidence",
    "claim": "at most this with 99 % confidence, the conservative order statistic of MLPerf",
}
_COUNTS = {
    "requests": "measured requests",
    "requests_failed": "of these, those that do not count",
    "output_tokens": "sum over all measured requests",
    "prompt_tokens": "sum over all measured requests",
    "itl_gaps": "gaps between tokens that the ITL figures rest on",
}
_FIGURES = {
    "window_s": "from the first request sent to the last token received, s",
    "output_tokens_per_s": "output tokens over the window",
    "requests_per_s": "requests that ended well over the window",
    "requests_offered_per_s": "planned arrivals over their span",
    "in_flight_mean": "mean requests in flight, by Little's law",
    "ttft_s_min": "least TTFT, s",
    "tpot_s_min": "least TPOT, s",
    "itl_s_max": "longest gap between tokens, s",
    "in_step_share": "0 to 1: how far the streams of a closed loop move in step",
    "ttft_burst_s_p50": "median TTFT of the first request of every stream, s",
    "ttft_steady_s_p50": "median TTFT of all later requests, s",
    "memory_peak_bytes": "peak PSS of the engine's processes, else of its container",
    "container_memory_peak_bytes": "peak memory of the container, file cache left out",
    "kv_used_ratio_peak": "peak share of the KV cache in use, by the engine",
    "gpu_memory_peak_bytes": "peak memory of the engine's GPUs, summed",
    "power_w_mean": "mean power of the engine's GPUs, summed",
    "gpu_utilisation_mean": "0 to 1: mean over the engine's GPUs",
    "kv_capacity_tokens": "tokens that the KV cache can hold",
    "kv_block_tokens": "tokens of one block of the KV cache",
    "kv_reserved_bytes": "bytes reserved for the KV cache",
    "kv_used_tokens_peak": "peak tokens in use, by the engine",
    "kv_bytes_per_token_measured": "reserved bytes over the tokens they can hold",
    "waiting_for_room_peak": "most requests that waited while the KV cache was full",
    "kv_waste": "0 to 1: median share of used tokens that no request in generation needs",
    "kv_follow_error": "median distance of the engine's and the client's count over the peak",
    "requests_running_peak": "by the engine",
    "requests_waiting_peak": "by the engine",
    "weights_bytes": "parameters times the size of their dtype",
    "other_bytes": "total less weights less KV reserved",
    "total_bytes": "what the machine shows: GPU memory, or PSS",
    "kv_bytes_per_token": "bytes of keys and values a token, by the model's config",
    "usd_per_million_output_tokens": "price an hour over output tokens an hour, times 1e6",
    "kv_tokens_in_flight_peak": "peak tokens of requests in generation, by the client",
    "energy_j": "of the engine's GPUs over the cell",
    "energy_j_per_output_token": "energy over output tokens",
    "preemptions": "growth of the engine's counter over the cell",
    "drafts": "drafts of speculative decoding checked in the cell, by the engine",
    "draft_tokens": "tokens of these drafts",
    "draft_tokens_accepted": "of these, tokens that the model accepted",
    "draft_acceptance": "0 to 1: accepted over proposed tokens",
    "draft_step_tokens": "1 + accepted tokens over drafts: of a step that checked a draft",
    "cached_share": "0 to 1: prompt tokens that the engine says came from a prefix cache; only "
    "where a workload's prompts begin alike",
    "ceiling_share": "least time that the hardware allows over the window",
    "ceiling_share_decode": "least time of a decoding step over the least TPOT",
    "ceiling_share_prefill": "least time of a prefill over the least TTFT",
    "ceiling_share_request": "greatest share over single requests",
}


def _described(kind: Any, text: str) -> Any:
    return Annotated[kind, Meta(description=text)]


#: The figures of a cell. Built from tables, as five latencies have the same five statistics.
Figures = msgspec.defstruct(
    "Figures",
    [
        *((name, _described(int | None, text), None) for name, text in _COUNTS.items()),
        *((name, _described(float | None, text), None) for name, text in _FIGURES.items()),
        *(
            (f"{name}_{which}", _described(float | None, f"{statistic} of {text}"), None)
            for name, text in _LATENCIES.items()
            for which, statistic in _STATISTICS.items()
        ),
        *(
            (f"{name}_{q}_{which}", _described(float | None, f"{q} of {name}: {meaning}"), None)
            for name in _LATENCIES
            if name != "itl_s"  # the gaps of one batch depend on each other
            for q in ("p90", "p95", "p99")
            for which, meaning in _UPPER.items()
        ),
        ("throttled", _described(dict[str, float] | None, "reason -> share of samples"), None),
        ("gpu_errors", _described(dict[str, Count], "failure -> samples"), {}),
        ("client", _described(ClientStats | None, "of the load generator itself"), None),
        ("client_judged", _described(bool, "whether its error can make a cell suspect"), False),
        ("counters_checked", _described(bool, "against the engine's own counters"), False),
        ("cache_checked", _described(bool, "the engine says what came from a cache"), False),
        ("machine", _described(dict[str, float | None] | None, "its load in the cell"), None),
        ("ceiling_is_measured", _described(bool, "false: of a data sheet"), False),
    ],
    kw_only=True,
    module=__name__,
)


class AttemptFigures(Struct, kw_only=True):
    """One run of a cell; more than one where others disturbed it."""

    number: Count
    is_invalid: bool
    is_disturbed: bool
    disturbance_cores: Annotated[
        float | None, Meta(description="lost to others; by it the attempt that counts is chosen")
    ]
    start_s: float
    end_s: float


class CellFigures(Struct, kw_only=True):
    """One cell of one trial."""

    launch: str
    trial: Count
    engine: str
    variant: str
    label: str
    workload: str
    concurrency: Annotated[Count, Meta(description="most requests in flight")]
    rate: Annotated[float | None, Meta(description="requests/s offered; null: closed loop")]
    findings: list[Finding]
    log_tail: list[str]
    figures: Annotated[
        Figures,  # type: ignore[valid-type]
        Meta(description="all null where the cell was not run"),
    ]
    samples: Annotated[list[Any], Meta(description="empty: see kv_cache_data.json")]
    resident: Annotated[list[Any], Meta(description="empty: see gpu_memory_data.json")]
    power: Annotated[list[Any], Meta(description="empty: see gpu_memory_data.json")]
    elsewhere: Annotated[dict[str, Any], Meta(description="empty: see other_tools_data.json")]
    attempts: list[AttemptFigures]
    verdict: Literal["valid", "suspect", "invalid"]
    is_valid: Annotated[bool, Meta(description="its figures go into averages: not invalid")]
    problems: Annotated[list[str], Meta(description="the findings' texts")]


class Interval(Struct, kw_only=True):
    """An estimate over trials on the log scale and its 95 % interval; null ends: none is known."""

    mean: float
    low: float | None
    high: float | None
    trials: Count


class Ratio(Struct, kw_only=True):
    """One variant's figure over another's, from the comparison of all variants at a level."""

    together: Annotated[Interval, Meta(description="95 % for all pairs at once")]
    alone: Annotated[Interval, Meta(description="95 % for this pair alone")]
    verdict: Literal["apart", "tie", "cannot tell"]


class PairRatio(Ratio, kw_only=True):
    a: str
    b: str


class Spread(Struct, kw_only=True):
    """How much the starts of one variant differ, block effects taken out."""

    log_sd: float
    df: Count
    noisiest: str | None
    noisiest_times: float | None
    apart: list[str]


class LevelComparison(Struct, kw_only=True):
    """All variants at one level by one figure: the source of order, places and ratios."""

    workload: str
    level: float
    figure: str
    order: Annotated[list[str], Meta(description="the best estimate first")]
    places: Annotated[dict[str, list[Count]], Meta(description="first and last possible place")]
    ratios: list[PairRatio]
    spreads: list[Spread]
    excluded: Annotated[dict[str, str], Meta(description="variant -> why it has no estimate")]
    margin: float


class Gap(Struct, kw_only=True):
    """A rung or a combination of switches without a figure."""

    name: str
    run: str
    reason: str


class Leader(Struct, kw_only=True):
    """What gave most of a whole that is apart from 1."""

    names: Annotated[
        list[str],
        Meta(description="several: the trials cannot tell which; the best estimate first"),
    ]
    is_most: Annotated[bool, Meta(description="more than half of the whole's logarithm")]


class Step(Struct, kw_only=True):
    """A rung of a ladder over the last one below it that has a figure."""

    name: str
    run: str
    skipped: Annotated[
        list[str], Meta(description="rungs without a figure, whose changes are in the factor")
    ]
    factor: Ratio
    share: Annotated[Interval | None, Meta(description="of the whole's logarithm, Fieller")]


class Ladder(Struct, kw_only=True):
    """The steps of a ladder; their factors multiply to the whole."""

    first: Annotated[str, Meta(description="the lowest rung with a figure")]
    last: Annotated[str, Meta(description="the highest rung with a figure")]
    between: Annotated[list[str] | None, Meta(description="the runs of these two")]
    steps: list[Step]
    whole: Annotated[Ratio | None, Meta(description="the last over the first")]
    leader: Leader | None
    gaps: list[Gap]


class Switch(Struct, kw_only=True):
    """What one switch gives; null: does not follow from the runs that have a figure."""

    name: str
    first_in: Annotated[Ratio | None, Meta(description="on alone, over none")]
    last_in: Annotated[Ratio | None, Meta(description="all on, over all but it")]
    shapley: Annotated[Interval | None, Meta(description="its part of the whole, as a factor")]
    share: Annotated[Interval | None, Meta(description="the same of the logarithm, Fieller")]


class Interaction(Struct, kw_only=True):
    """Two switches together over the product of what each gives, in the mean over the others."""

    a: str
    b: str
    factor: Annotated[Interval, Meta(description="95 % for all pairs of switches at once")]
    verdict: Literal["apart", "tie", "cannot tell"]


class Factorial(Struct, kw_only=True):
    """The switches of a decomposition; their Shapley factors multiply to the whole."""

    measured: Annotated[Count, Meta(description="combinations that have a figure")]
    combinations: Count
    between: Annotated[list[str] | None, Meta(description="the runs of no switch and of all")]
    switches: list[Switch]
    interactions: Annotated[list[Interaction], Meta(description="those that can be estimated")]
    whole: Annotated[Ratio | None, Meta(description="all switches on over none")]
    leader: Leader | None
    gaps: list[Gap]


class Attribution(Struct, kw_only=True):
    """One decomposition at one level by one figure: which change gave what."""

    decomposition: str
    workload: str
    level: float
    figure: str
    ladder: Ladder | None
    factorial: Factorial | None


class Group(Struct, kw_only=True):
    """One variant at one workload and level, over its valid trials."""

    label: str
    engine: str
    variant: str
    workload: str
    concurrency: Count
    rate: float | None
    trials_valid: Count
    trials_planned: Count
    requests: Annotated[Count, Meta(description="measured, over the valid trials")]
    figures: dict[str, Interval | None]
    ratio: Annotated[
        Ratio | None, Meta(description="output tokens/s over the reference's; null: the reference")
    ]


class Difference(Struct, kw_only=True):
    """One prompt that two variants answered differently."""

    prompt: Count
    token: Annotated[Count | None, Meta(description="first different token, from 1")]
    margin: Annotated[float | None, Meta(description="how clear the choice was, in nats")]


class Comparison(Struct, kw_only=True):
    """The answers of one variant beside those of another."""

    label: str
    against: str
    dtypes: list[str | None]
    prompts: Annotated[Count, Meta(description="answered by both")]
    unanswered: Annotated[Count, Meta(description="by either")]
    differences: list[Difference]
    margin_error: Annotated[
        float | None, Meta(description="largest disagreement on a margin, in nats")
    ]
    identical: Count
    clear: Annotated[Count, Meta(description="differences at a clear choice")]
    first_token_median: float | None
    first_token_worst: Count | None
    margin_largest: float | None


class Starts(Struct, kw_only=True):
    """The starts of a variant of one kind: means, in s; null: not every log states it."""

    label: str
    kind: Annotated[str, Meta(description="cold, warm, or not known: of compiled code")]
    starts: Count
    ready_s: Annotated[float, Meta(description="from the launch to the first generation")]
    weights_s: float | None
    init_s: Annotated[float | None, Meta(description="contains compile_s and capture_s")]
    compile_s: float | None
    capture_s: float | None
    rest_s: Annotated[float | None, Meta(description="that no stated part accounts for")]


class Perplexity(Struct, kw_only=True):
    """How probable a variant finds the prompts on which answers are compared."""

    label: str
    tokens: Annotated[Count | None, Meta(description="that it is the mean over")]
    perplexity: Annotated[float | None, Meta(description="exp(−mean of ln p)")]
    ratio: Annotated[float | None, Meta(description="to the reference's")]
    reason: Annotated[str | None, Meta(description="why it is not measured")]


class Metrics(Struct, kw_only=True):
    """``derived/metrics_data.json``: every figure of every cell, and the groups over trials."""

    study: str
    reference: str
    cells: list[CellFigures]
    agreement: list[Comparison]
    groups: list[Group]
    comparisons: list[LevelComparison]
    attributions: Annotated[
        list[Attribution], Meta(description="of studies with decompositions")
    ] = []
    start_up: Annotated[list[Starts], Meta(description="empty: not recorded")] = []
    perplexity: Annotated[list[Perplexity], Meta(description="empty: not asked")] = []


class _Series(Struct, kw_only=True):
    label: str
    trial: Count
    workload: str
    concurrency: Count
    rate: float | None


class KvSeries(_Series, kw_only=True):
    """An entry of ``derived/kv_cache_data.json``: the KV cache of a cell, one value a scrape."""

    kv_capacity_tokens: float | None
    kv_block_tokens: float | None
    kv_reserved_bytes: float | None
    kv_bytes_per_token: float | None
    t_s: list[float]
    used_tokens: Annotated[list[float | None], Meta(description="by the engine")]
    held_tokens: Annotated[list[int], Meta(description="by the client")]
    held_in_blocks: Annotated[list[int], Meta(description="the same in whole blocks")]
    running: list[float | None]
    waiting: list[float | None]
    preemptions: list[float | None]


class MemorySeries(_Series, kw_only=True):
    """An entry of ``derived/gpu_memory_data.json``: memory and power of a cell over time."""

    memory_t_s: list[float]
    memory_bytes: list[Bytes]
    power_t_s: list[float]
    power_w: list[float]


class LatencySeries(_Series, kw_only=True):
    """An entry of ``derived/latency_data.json``: 201 quantiles of each latency, in s."""

    ttft_s: list[float] = []
    ttft_planned_s: list[float] = []
    tpot_s: list[float] = []
    itl_s: list[float] = []
    e2e_s: list[float] = []
    e2e_planned_s: list[float] = []


class OtherTools(_Series, kw_only=True):
    """An entry of ``derived/other_tools_data.json``: what other tools would have printed."""

    tools: Annotated[
        dict[str, dict[str, float | None]], Meta(description="tool -> its name -> its value")
    ]

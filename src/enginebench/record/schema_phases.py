"""Types of ``derived/phases_data.json``, which a study has if it varies lengths."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from enginebench.record.schema import Count
from enginebench.record.schema_derived import Interval, Ratio


class PhasePoint(Struct, kw_only=True):
    """What a variant took at one length."""

    tokens: float
    seconds: Annotated[Interval, Meta(description="of the trials' medians, s")]
    floor_s: Annotated[float | None, Meta(description="least time that the hardware allows, s")]


class Line(Struct, kw_only=True):
    """time = constant + slope · tokens, by least squares."""

    constant: Annotated[float, Meta(description="s")]
    slope: Annotated[float, Meta(description="s a token")]
    slope_error: Annotated[float, Meta(description="standard error")]


class PowerLaw(Struct, kw_only=True):
    """time = factor · tokens ** exponent, by least squares of the logarithms."""

    exponent: float
    exponent_error: Annotated[float, Meta(description="standard error")]
    last_exponent: Annotated[float, Meta(description="between the two longest lengths")]


class PhaseCurve(Struct, kw_only=True):
    """One variant over at least three lengths."""

    label: str
    points: list[PhasePoint]
    line: Line
    law: PowerLaw


class Phase(Struct, kw_only=True):
    """A time against a length: TTFT against the prompt (prefill), first to last token against the
    output after the first (decode), ITL against the context (itl)."""

    name: Literal["prefill", "decode", "itl"]
    fixed_tokens: Annotated[Count, Meta(description="of the output; in decode of the prompt")]
    curves: list[PhaseCurve]


class Placed(Struct, kw_only=True):
    """A prefill or a decoding step in the roofline picture; both axes are of the least work."""

    label: str
    name: Literal["prefill", "decode"]
    tokens: Annotated[float, Meta(description="of the prompt; of the context")]
    intensity: Annotated[float, Meta(description="FLOP/byte")]
    flops_per_s: float


class GridCell(Struct, kw_only=True):
    """One variant at one prompt and output length of the grid."""

    label: str
    in_flight: Count
    prompt_tokens: Count
    output_tokens: Count
    figures: Annotated[
        dict[str, Interval | None], Meta(description="p50 and p95 of E2E, TTFT and ITL, s")
    ]


class Steps(Struct, kw_only=True):
    """The steps that a workload's outputs take: in static batches, and if slots are refilled."""

    slots: Count
    tokens: Count
    shortest: Count
    longest: Count
    requests: Count
    static: Count
    static_slots: Annotated[Count, Meta(description="steps times the requests of their batch")]
    continuous: Count


class Lengths(Struct, kw_only=True):
    """Two workloads that differ in the spread of their outputs, and the requests in flight."""

    equal: str
    spread: str
    in_flight: Count
    equal_steps: Steps
    spread_steps: Steps


class BatchingGain(Struct, kw_only=True):
    """One variant's output tokens/s over another's on equal and on spread outputs."""

    lengths: Lengths
    computed: Annotated[float, Meta(description="of continuous batching over static batches")]
    label: str
    over: str
    on_equal: Ratio
    on_spread: Ratio
    gain: Annotated[Ratio, Meta(description="on spread outputs over on equal ones")]


class Phases(Struct, kw_only=True):
    """``derived/phases_data.json``: prefill, decode, the grid of lengths, and batching."""

    phases: list[Phase]
    roofline: list[Placed]
    grid: list[GridCell]
    batching: list[BatchingGain]

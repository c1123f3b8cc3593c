"""Prefill and decode apart: how each grows with length, beside the least that the hardware allows.

Pure. All of it is of single requests whose lengths are fixed: prompts of at least three lengths
with one output length, or outputs of at least three lengths with one prompt. A study that has
neither has no phases.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from enginebench.base import stats
from enginebench.base.estimator import Interval
from enginebench.hardware import roofline
from enginebench.hardware.model_shape import ModelShape
from enginebench.hardware.roofline import Ceiling, Dtypes, UnknownShape, Work
from enginebench.summarize import ceiling_shares, growth
from enginebench.summarize.groups import Group
from enginebench.summarize.study_summary import Summary, workload_of

LEAST_TOKENS = 8  # an output shorter than this has too few gaps to speak of decode

Name = Literal["prefill", "decode", "itl"]
Lengths = tuple[int, int]  # tokens of the prompt and of the output


@dataclass(frozen=True, slots=True)
class Point:
    """What a variant took at one length."""

    tokens: float
    seconds: Interval
    floor_s: float | None  # the least time that the hardware allows; None: not known


@dataclass(frozen=True, slots=True)
class Curve:
    """One variant over at least three lengths."""

    label: str
    dtypes: Dtypes | None
    points: tuple[Point, ...]  # by length
    line: growth.Line
    law: growth.PowerLaw


@dataclass(frozen=True, slots=True)
class Phase:
    """One experiment: a time against a length, with the other length fixed."""

    name: Name
    fixed_tokens: int  # of the output in prefill and itl, of the prompt in decode
    curves: tuple[Curve, ...]


@dataclass(frozen=True, slots=True)
class Placed:
    """A phase of one variant at one length in the roofline picture."""

    label: str
    name: Literal["prefill", "decode"]
    tokens: float  # of the prompt; of the context
    intensity: float  # FLOP/byte of the least work
    flops_per_s: float  # the least arithmetic over the time it took


@dataclass(frozen=True, slots=True)
class Roof:
    """What a device can do at most, as the roofline picture draws it."""

    dtype: str
    bandwidth_bytes_per_s: float
    peak_flops_per_s: float


def phases(summary: Summary) -> tuple[Phase, ...]:
    """The experiments that the study's lengths allow; empty where fewer than three vary."""
    single = list(_single(summary))
    made = (_prefill(summary, single), _decode(summary, single), _itl(summary, single))
    return tuple(phase for phase in made if phase is not None)


Single = Sequence[tuple[Group, Lengths]]


def _single(summary: Summary) -> Iterator[tuple[Group, Lengths]]:
    """The cells of one request at a time, with their lengths; of whole prefills only."""
    for group in summary.groups:
        work = workload_of(summary, group.workload)
        output = work.output_tokens
        is_single = group.concurrency == 1 and group.rate is None and not work.shared_prefix_tokens
        if is_single and isinstance(output, int):
            yield group, (work.prompt_tokens, output)


def _prefill(summary: Summary, single: Single) -> Phase | None:
    """TTFT against the prompt. Of several output lengths the one with the most prompts, then the
    shortest."""
    output = _most_varied([lengths for _, lengths in single], of=0, prefer=min)
    if output is None:
        return None
    values = [
        (group, float(prompt), group.figures["ttft_s_p50"])
        for group, (prompt, own) in single
        if own == output
    ]
    return _phase(summary, "prefill", output, values, _prefill_floor)


def _decode(summary: Summary, single: Single) -> Phase | None:
    """From the first token to the last, against the tokens after the first: TPOT times these, as
    all requests of a cell have one length."""
    many = [(group, lengths) for group, lengths in single if lengths[1] >= LEAST_TOKENS]
    prompt = _most_varied([lengths for _, lengths in many], of=1, prefer=min)
    if prompt is None:
        return None
    values = [
        (group, output - 1.0, stats.scaled(group.figures["tpot_s_p50"], output - 1))
        for group, (own, output) in many
        if own == prompt
    ]

    def floor(model: ModelShape, ceiling: Ceiling, dtypes: Dtypes, tokens: float) -> float:
        whole_s = roofline.request_s(model, ceiling, dtypes, prompt, int(tokens) + 1)
        return whole_s - roofline.prefill_s(model, ceiling, dtypes, prompt)

    return _phase(summary, "decode", prompt, values, floor)


def _itl(summary: Summary, single: Single) -> Phase | None:
    """The gap between tokens against the context: the prompt and half of the output. Of several
    output lengths the one with the most prompts, then the longest."""
    long = [(group, lengths) for group, lengths in single if lengths[1] >= LEAST_TOKENS]
    output = _most_varied([lengths for _, lengths in long], of=0, prefer=max)
    if output is None:
        return None
    values = [
        (group, prompt + output / 2, group.figures["itl_s_p50"])
        for group, (prompt, own) in long
        if own == output
    ]
    return _phase(summary, "itl", output, values, _itl_floor)


def _most_varied(
    lengths: Sequence[Lengths], of: int, prefer: Callable[[Sequence[int]], int]
) -> int | None:
    """The fixed length beside which the other one (``of``: 0 prompt, 1 output) varies most."""
    beside: dict[int, set[int]] = {}
    for pair in lengths:
        beside.setdefault(pair[1 - of], set()).add(pair[of])
    most = max(map(len, beside.values()), default=0)
    if most < growth.MINIMUM_POINTS:
        return None
    return prefer([fixed for fixed, found in beside.items() if len(found) == most])


def _prefill_floor(model: ModelShape, ceiling: Ceiling, dtypes: Dtypes, tokens: float) -> float:
    return roofline.prefill_s(model, ceiling, dtypes, int(tokens))


def _itl_floor(model: ModelShape, ceiling: Ceiling, dtypes: Dtypes, tokens: float) -> float:
    return roofline.decode_step_s(model, ceiling, dtypes, [int(tokens)])


Floor = Callable[[ModelShape, Ceiling, Dtypes, float], float]


def _phase(
    summary: Summary,
    name: Name,
    fixed: int,
    values: Sequence[tuple[Group, float, Interval | None]],
    floor: Floor,
) -> Phase | None:
    """The curves of all variants that have at least three lengths; None if none has."""
    dtypes = _dtypes(summary)
    curves = []
    for label in summary.labels:
        known = dtypes.get(label)
        points = tuple(
            Point(tokens, seconds, _floor_s(summary, known, floor, tokens))
            for group, tokens, seconds in sorted(values, key=lambda value: value[1])
            if group.label == label and seconds is not None
        )
        fitted = [(point.tokens, point.seconds.mean) for point in points]
        line, law = growth.line(fitted), growth.power_law(fitted)
        if line is not None and law is not None:
            curves.append(Curve(label, known, points, line, law))
    return Phase(name, fixed, tuple(curves)) if curves else None


def _floor_s(summary: Summary, dtypes: Dtypes | None, floor: Floor, tokens: float) -> float | None:
    model = ceiling_shares.model_shape(summary.study.model)
    if model is None or summary.ceiling is None or dtypes is None:
        return None
    try:
        return floor(model, summary.ceiling, dtypes, tokens) or None
    except UnknownShape:
        return None


def _dtypes(summary: Summary) -> dict[str, Dtypes]:
    """Variant -> its dtypes, where the study's model and these say what the least work is: not for
    a derived copy of the model, nor where the engine quantizes it or speculates."""
    model, found = ceiling_shares.model_shape(summary.study.model), {}
    if model is not None:
        for launch in summary.launches.values():
            options = ceiling_shares.launch_options(launch)
            is_other = launch.model or options.is_quantized or options.is_speculative
            dtypes = None if is_other else ceiling_shares.run_dtypes(model, launch)
            if dtypes is not None:
                found[launch.label] = dtypes
    return found


def placed(summary: Summary, found: Sequence[Phase]) -> tuple[Placed, ...]:
    """Every measured prefill, and every decoding step, by its arithmetic and its rate.

    Both axes count the least work (``roofline``): the weights' products, and the weights, keys and
    values that are read once. What an engine does beyond that lowers its rate and nothing else.
    """
    model = ceiling_shares.model_shape(summary.study.model)
    if model is None:
        return ()
    points = []
    for phase in found:
        if phase.name == "decode":
            continue  # its steps are those of itl, at other contexts
        for curve in phase.curves:
            for point in curve.points:
                work = _work(model, curve.dtypes, phase.name, int(point.tokens))
                if work is not None:
                    points.append(
                        Placed(
                            curve.label,
                            "prefill" if phase.name == "prefill" else "decode",
                            point.tokens,
                            work.intensity,
                            work.flops / point.seconds.mean,
                        )
                    )
    return tuple(points)


def _work(model: ModelShape, dtypes: Dtypes | None, name: Name, tokens: int) -> Work | None:
    if dtypes is None:
        return None
    try:
        if name == "prefill":
            return roofline.prefill_work(model, dtypes, tokens)
        return roofline.decode_step_work(model, dtypes, [tokens])
    except UnknownShape:
        return None


def roofs(summary: Summary, ceiling: Ceiling | None, found: Sequence[Phase]) -> tuple[Roof, ...]:
    """A ceiling in the dtypes that the phases ran in; none where a rate is not known."""
    model = ceiling_shares.model_shape(summary.study.model)
    if model is None or ceiling is None:
        return ()
    dtypes = {c.dtypes.weights: c.dtypes for phase in found for c in phase.curves if c.dtypes}
    peaks = {
        name: roofline.peak_flops_per_s(model, ceiling, known) for name, known in dtypes.items()
    }
    return tuple(
        Roof(name, ceiling.bandwidth_bytes_per_s, peak)
        for name, peak in sorted(peaks.items())
        if math.isfinite(peak)
    )

"""Claims of the literature, tested by a study where it covers them. Pure.

The claims are data (``data/claims.yaml``), the rule is here and in ``docs/method.md``::

    not covered     no level has both sides in one dtype with an interval (two common trials)
    not seen        the ratio's 95 % interval rules out the claimed figure and contains 1, or lies
                    below 1
    cannot tell     the interval contains both 1 and the claimed figure
    same direction  the interval lies above 1, and the claimed figure is outside
    same shape      the claimed figure is inside, but GPU, model, lengths or load are others
    confirmed here  the claimed figure is inside, and all of these are the claim's

The interval is that of the pair alone: each claim is one question, asked before the study.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, get_args

from msgspec import Struct, convert

from enginebench.base.estimator import Interval
from enginebench.base.load_level import load_text
from enginebench.hardware import data_sheets
from enginebench.record.schema_study import OutputRange
from enginebench.summarize import engine_configs
from enginebench.summarize.groups import RATE, Group
from enginebench.summarize.study_summary import Summary, output_text, workload_of

Pair = tuple[Group, Group, Interval]  # the two sides at one level, and the ratio of the first
Verdict = Literal[
    "confirmed here", "same shape", "same direction", "cannot tell", "not seen", "not covered"
]


class Side(Struct, frozen=True):
    """One side of a claimed ratio."""

    engine: str
    flags: dict[str, str] = {}  # without dashes, that its command must have


class Conditions(Struct, frozen=True):
    """What must match before a claim can be confirmed."""

    gpu: list[str]  # parts of its name, one of which must match
    model: list[str]
    outputs: Literal["equal", "varied"]
    in_flight: tuple[float, float]  # least and most requests
    output_tokens: tuple[float, float] | None = None


class Claim(Struct, frozen=True):
    """An entry of ``data/claims.yaml``, which says what the fields are."""

    name: str
    times: float
    range: str
    over: tuple[Side, Side]
    model: str
    gpu: str
    workload: str
    source: str
    url: str
    comparable: Conditions
    outputs: Literal["equal", "varied"] | None = None
    needs: str | None = None


def published() -> list[Claim]:
    """The claims of ``data/claims.yaml``."""
    return convert(data_sheets.table("claims.yaml"), list[Claim])


@dataclass(frozen=True, slots=True)
class Tested:
    """One claim and what this study says of it."""

    claim: Claim
    verdict: Verdict
    reason: str  # why it is no more than that; empty: confirmed
    ratio: Interval | None
    here: str  # the pair, the workload and the level that it was tested on


def tested(summary: Summary, claims: Iterable[Claim]) -> list[Tested]:
    """Every claim, those that the study covers first."""
    order = get_args(Verdict)
    found = [_test(summary, claim) for claim in claims]
    return sorted(found, key=lambda test: order.index(test.verdict))


def _test(summary: Summary, claim: Claim) -> Tested:
    pairs = list(_pairs(summary, claim))
    tested_pairs = [pair for pair in pairs if pair[2].low is not None]
    if not tested_pairs or claim.needs:
        return Tested(claim, "not covered", _gap(summary, claim, pairs), None, "")
    a, b, ratio = max(tested_pairs, key=lambda pair: pair[0].level)
    here = f"{a.label} over {b.label}, {_work_text(summary, a)}"
    assert ratio.low is not None and ratio.high is not None
    verdict, reason = _judged(ratio.low, ratio.high, claim.times)
    against = [reason] if reason else []
    if verdict in ("same shape", "same direction"):
        against += _unlike(summary, claim, a)
    if not against:
        verdict = "confirmed here"
    return Tested(claim, verdict, "; ".join(against), ratio, here)


def _judged(low: float, high: float, claimed: float) -> tuple[Verdict, str]:
    """What an interval says of a claimed ratio above 1, and why it says no more."""
    has_claimed = low <= claimed <= high
    if high < 1:
        return "not seen", "the interval lies below 1"
    if low <= 1:
        if has_claimed:
            return "cannot tell", "the interval contains 1 and the claimed figure"
        return "not seen", "the interval contains 1 and not the claimed figure"
    if has_claimed:
        return "same shape", ""
    return "same direction", "the claimed figure is outside the interval"


def _work_text(summary: Summary, group: Group) -> str:
    work, load = workload_of(summary, group.workload), load_text(group.concurrency, group.rate)
    return f"{work.name}: {work.prompt_tokens} tokens in, {output_text(work)} out, {load}"


def _gap(summary: Summary, claim: Claim, pairs: Sequence[Pair]) -> str:
    """Why a claim cannot be tested here."""
    if claim.needs:
        return f"no workload here has {claim.needs}"
    absent = [_side_text(side) for side in claim.over if not _variants(summary, side)]
    if absent:
        return f"{' and '.join(absent)}: not measured here"
    if pairs:
        return "one trial has both, so there is no interval"
    varied = " with outputs of different lengths" if claim.outputs else ""
    return f"no closed loop{varied} has valid cells of both sides in one dtype"


def _pairs(summary: Summary, claim: Claim) -> Iterator[Pair]:
    """The groups of both sides at every level, in one dtype, with their ratio."""
    ours, theirs = (_variants(summary, side) for side in claim.over)
    dtypes = engine_configs.dtypes(summary)
    for a, b in product(summary.groups, summary.groups):
        same_level = (a.workload, a.level, a.rate) == (b.workload, b.level, None)
        same_dtype = dtypes.get(a.label) == dtypes.get(b.label) is not None
        outputs = _outputs(summary, a.workload)
        if a.label in ours and b.label in theirs and same_level and same_dtype:
            is_shared = workload_of(summary, a.workload).shared_prefix_tokens > 0
            if is_shared or claim.outputs not in (None, outputs):
                continue
            ratio = summary.comparisons[a.workload, a.level, RATE].ratio(a.label, b.label)
            if ratio is not None:
                yield a, b, ratio.alone


def _variants(summary: Summary, side: Side) -> list[str]:
    """The variants that were started with a side's engine and flags."""
    return [
        label
        for label, launch in engine_configs.launches(summary).items()
        if launch.engine == side.engine
        and side.flags.items() <= engine_configs.flags(launch.command).items()
    ]


def _side_text(side: Side) -> str:
    flags = [f"--{name}={value}" for name, value in side.flags.items()]
    return " ".join([side.engine, *flags])


def _outputs(summary: Summary, workload: str) -> str:
    output = workload_of(summary, workload).output_tokens
    return "varied" if isinstance(output, OutputRange) else "equal"


def _unlike(summary: Summary, claim: Claim, group: Group) -> list[str]:
    """What of the claim's conditions does not hold here."""
    must, study = claim.comparable, summary.study
    names = [gpu.name or "" for gpu in study.machine.gpus] if study.device == "cuda" else []
    found = []
    if not any(part in name.lower() for part in must.gpu for name in names):
        found.append("another device")
    if not any(part in study.model.name.lower() for part in must.model):
        found.append("another model")
    if _outputs(summary, group.workload) != must.outputs:
        found.append(f"outputs not {must.outputs} in length")
    tokens = workload_of(summary, group.workload).output_tokens
    if must.output_tokens and not (isinstance(tokens, int) and _within(tokens, must.output_tokens)):
        found.append("another length of outputs")
    if not _within(group.level, must.in_flight):
        found.append("another load")
    return found


def _within(value: float, ends: Sequence[float]) -> bool:
    return ends[0] <= value <= ends[1]

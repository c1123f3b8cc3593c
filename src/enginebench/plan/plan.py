"""From a study to the list of everything that will be run, before anything starts. Pure."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from enginebench.base.load_level import cell_id
from enginebench.plan import blocks
from enginebench.plan.blocks import Balance
from enginebench.plan.study_file import Study, Variant
from enginebench.plan.workload import Workload

AGREEMENT = "agreement"
OPEN_WARMUPS = 16  # an open loop has no streams that one could be sent for


@dataclass(frozen=True, slots=True)
class Cell:
    """One workload at one level of load, on one started engine."""

    workload: Workload
    concurrency: int  # most requests in flight
    wants_ids: bool = False  # the answers' token ids are asked for, to compare them
    rate: float | None = None  # requests/s offered in an open loop; None: a closed loop

    @property
    def id(self) -> str:
        return cell_id(self.workload.name, self.concurrency, self.rate)

    @property
    def requests(self) -> int:
        if self.rate is not None:
            return self.workload.requests_at(self.rate)
        return self.workload.requests(self.concurrency)

    @property
    def warmups(self) -> int:
        """Warm-up requests, all in flight at once."""
        return self.concurrency if self.rate is None else min(self.concurrency, OPEN_WARMUPS)


@dataclass(frozen=True, slots=True)
class Launch:
    """One fresh start of one engine variant, and the cells run on it in order."""

    trial: int  # from 1
    variant: Variant
    cells: tuple[Cell, ...]
    agreement: Cell | None = None  # answered first, and not measured

    @property
    def id(self) -> str:
        # Names hold no underscore, so two launches never share an id.
        return f"trial{self.trial}_{self.variant.engine}_{self.variant.variant}"


@dataclass(frozen=True, slots=True)
class Plan:
    launches: tuple[Launch, ...]
    trials: int
    balance: Balance  # of the order of starts

    @property
    def cells(self) -> int:
        return sum(len(launch.cells) for launch in self.launches)

    @property
    def requests(self) -> int:
        return sum(cell.requests for launch in self.launches for cell in launch.cells)

    @property
    def estimate_s(self) -> float:
        return sum(launch_estimate_s(launch) for launch in self.launches)


def make(study: Study) -> Plan:
    """Expand a study. Every trial is a block in which each variant is started once.

    The order of starts is balanced over the trials for place and for what came before, and so is
    that of the levels within a start, which all starts of a trial share. Both follow from the seed.
    """
    trials = [min(v.trials or study.trials, study.trials) for v in study.engines]
    starts = blocks.block_orders(trials, study.seed)
    cells = [cell for workload in study.workloads for cell in levels(workload)]
    orders = blocks.level_orders(cells, len(starts), study.seed)
    launches = []
    for trial, (members, order) in enumerate(zip(starts, orders, strict=True), 1):
        agreement = _agreement(study) if trial == 1 else None
        for variant in (study.engines[index] for index in members):
            own = [
                c for c in order if not variant.workloads or c.workload.name in variant.workloads
            ]
            launches.append(Launch(trial, variant, tuple(own), agreement))
    return Plan(tuple(launches), study.trials, blocks.balance(starts, trials))


def balance_text(plan: Plan) -> str:
    """How even the order is, in one sentence; empty with a single start a trial, or one trial."""
    found, trials = plan.balance, plan.trials
    if trials == 1 or len(plan.launches) == trials:
        return ""
    text = (
        f"Order: of {trials} trials a variant has the same place in at most {found.same_place} and "
        f"directly follows the same other in at most {found.same_before}"
    )
    best = "no order is more even" if found.is_best else "found by search"
    return f"{text} ({best}); levels of load are balanced in the same way."


def _agreement(study: Study) -> Cell | None:
    """The prompts of the comparison of answers as a cell of its own: one request at a time."""
    asked = study.agreement
    if asked is None:
        return None
    workload = Workload(
        name=AGREEMENT,
        prompt_tokens=asked.prompt_tokens,
        output_tokens=asked.output_tokens,
        concurrency=[1],
        requests_per_stream=asked.prompts,
    )
    return Cell(workload, 1, wants_ids=True)


def levels(workload: Workload) -> list[Cell]:
    """The cells of a workload: one a level of concurrency, or of rate."""
    if not workload.rate:
        return [Cell(workload, concurrency) for concurrency in workload.concurrency]
    return [
        Cell(workload, workload.max_in_flight or workload.requests_at(rate), rate=rate)
        for rate in workload.rate
    ]


def launch_estimate_s(launch: Launch) -> float:
    """Expected seconds from start to stop, by the study's hints."""
    cells = (*launch.cells, *([launch.agreement] if launch.agreement else []))
    return launch.variant.hint.start_s + sum(cell_estimate_s(launch, cell) for cell in cells)


def cell_estimate_s(launch: Launch, cell: Cell) -> float:
    """Expected seconds for warm-up and measurement of one cell, by the study's hints."""
    rate = tokens_per_s(launch, cell)
    warmup = cell.warmups * cell.workload.warmup_output_tokens
    work_s = (warmup + cell.requests * cell.workload.mean_output) / rate
    if cell.rate is None:
        return work_s + 1.0
    # An open loop lasts as long as its schedule, or longer where the engine cannot keep up.
    return max(work_s, cell.requests / cell.rate) + cell.workload.ramp_s / 2 + 1.0


def tokens_per_s(launch: Launch, cell: Cell) -> float:
    """Expected output tokens/s, by the study's hints."""
    return _rate_at(launch.variant.hint.tokens_per_s, cell.concurrency)


def _rate_at(rates: dict[int, float], concurrency: int) -> float:
    """Interpolate between the given levels on the logarithm of the concurrency."""
    levels = sorted(rates)
    below = max((level for level in levels if level <= concurrency), default=levels[0])
    above = min((level for level in levels if level >= concurrency), default=levels[-1])
    if below == above or not below <= concurrency <= above:
        return rates[below if concurrency >= below else above]
    share = math.log(concurrency / below) / math.log(above / below)
    return rates[below] + share * (rates[above] - rates[below])


def output_lengths(workload: Workload, count: int, seed: str) -> Sequence[int]:
    """Output tokens asked of each request: fixed, or one seeded draw that all engines share."""
    output = workload.output_tokens
    if isinstance(output, int):
        return [output] * count
    draw = random.Random(f"lengths/{seed}")
    return [draw.randint(output.min, output.max) for _ in range(count)]

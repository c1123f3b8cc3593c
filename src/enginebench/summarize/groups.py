"""One variant at one level of load, over its trials: compared where an interval makes sense."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from enginebench.base import estimator
from enginebench.base.estimator import Better, Comparison, Interval, Ratio
from enginebench.summarize.cells import CellRow

RATE = "output_tokens_per_s"
COST = "usd_per_million_output_tokens"

#: Figures that are compared on the log scale: they are positive wherever they are measured.
COMPARED: Mapping[str, Better] = {
    RATE: "higher",
    "requests_per_s": "higher",
    "requests_offered_per_s": "higher",
    COST: "lower",  # a constant over the rate, so that it has the rate's interval
    "ttft_s_p50": "lower",
    "ttft_s_p90": "lower",
    "ttft_s_p95": "lower",
    "ttft_s_p99": "lower",
    "ttft_planned_s_p50": "lower",
    "ttft_planned_s_p90": "lower",
    "ttft_planned_s_p95": "lower",
    "ttft_planned_s_p99": "lower",
    "ttft_burst_s_p50": "lower",
    "ttft_steady_s_p50": "lower",
    "tpot_s_p50": "lower",
    "itl_s_p50": "lower",
    "itl_s_p95": "lower",
    "itl_s_p99": "lower",
    "itl_s_max": "lower",
    "e2e_s_p50": "lower",
    "e2e_s_p90": "lower",
    "e2e_s_p95": "lower",
    "e2e_s_p99": "lower",
    "e2e_planned_s_p50": "lower",
    "e2e_planned_s_p90": "lower",
    "e2e_planned_s_p95": "lower",
    "e2e_planned_s_p99": "lower",
    "memory_peak_bytes": "lower",
    "gpu_memory_peak_bytes": "lower",
    "power_w_mean": "lower",
    "ceiling_share": "higher",
}

#: Figures that may be 0 or below, or are the same in every start: a plain mean, no interval.
AVERAGED = (
    "itl_gaps",
    "in_step_share",
    "gpu_utilisation_mean",
    "weights_bytes",
    "kv_reserved_bytes",
    "other_bytes",
    "kv_capacity_tokens",
    "kv_used_tokens_peak",
    "kv_tokens_in_flight_peak",
    "kv_bytes_per_token",
    "kv_bytes_per_token_measured",
    "kv_waste",
    "kv_follow_error",
    "requests_running_peak",
    "requests_waiting_peak",
    "preemptions",
    "waiting_for_room_peak",
)

FIGURES = (*COMPARED, *AVERAGED)


@dataclass(frozen=True, slots=True)
class Group:
    """One variant at one workload and level, over its valid trials."""

    label: str
    engine: str
    variant: str
    workload: str
    concurrency: int
    rate: float | None
    trials_valid: int
    trials_planned: int
    requests: int  # measured, over the valid trials
    figures: Mapping[str, Interval | None]  # None: not measured
    ratio: Ratio | None  # output tokens/s over the reference's; None: no trial links them

    @property
    def level(self) -> float:
        return self.concurrency if self.rate is None else self.rate


Members = Mapping[str, Sequence[CellRow]]  # the cells of every variant at one level


def compared(members: Members) -> dict[str, Comparison]:
    """Every figure of COMPARED at one level; an invalid cell is a missing one."""
    return {
        figure: estimator.compare(
            {
                label: {c.trial: c.figures.get(figure) if c.counts else None for c in own}
                for label, own in members.items()
            },
            better,
        )
        for figure, better in COMPARED.items()
    }


def group(
    label: str, members: Sequence[CellRow], comparisons: Mapping[str, Comparison], reference: str
) -> Group:
    valid = [cell for cell in members if cell.counts]
    first = members[0]
    return Group(
        label,
        first.engine,
        first.variant,
        first.workload,
        first.concurrency,
        first.rate,
        len(valid),
        len(members),
        sum(int(cell.figures["requests"] or 0) for cell in valid),
        # A figure that is 0 somewhere has no estimate: its comparison says so in ``excluded``.
        {
            figure: found.means.get(label) or _plain_mean(valid, figure)
            for figure, found in comparisons.items()
        }
        | {figure: _plain_mean(valid, figure) for figure in AVERAGED},
        comparisons[RATE].ratio(label, reference),
    )


def _plain_mean(valid: Sequence[CellRow], figure: str) -> Interval | None:
    values = [value for cell in valid if (value := cell.figures.get(figure)) is not None]
    return Interval(math.fsum(values) / len(values), None, None, len(values)) if values else None

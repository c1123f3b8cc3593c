"""Whether what was measured in a cell is possible: clocks, Little's law, hardware, energy. Pure."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from enginebench.check.findings import Finding
from enginebench.record.schema import Clocks, Meters

CLOCK_SLACK_S = 0.05  # plus a thousandth: what two clocks may differ over a cell
CLOCK_SLACK_RATIO = 1e-3
MEASURED_SLACK = 1.5  # a measured ceiling may be this far off where others use the machine
POWER_SLACK = 1.05  # boards overshoot their limit for moments; a whole cell does not


@dataclass(frozen=True, slots=True)
class Shares:
    """How much of what the hardware allows was reached, 0 to 1; None where it is not known."""

    throughput: float | None = None  # least time for the cell's work / its window
    decode: float | None = None  # least time of a decoding step / shortest TPOT
    prefill: float | None = None  # least time of the prompt / shortest TTFT
    # Least time of a request, prefill and decoding / its E2E; the largest of all requests.
    request: float | None = None
    is_measured: bool = False  # the ceiling was measured, so it is itself off


def clock_findings(started: Clocks, ended: Clocks) -> Iterator[Finding]:
    """The monotonic and the wall clock, both read at the two ends of the cell."""
    monotonic_s = ended.t_s - started.t_s
    wall_s = ended.wall_s - started.wall_s
    if abs(wall_s - monotonic_s) > CLOCK_SLACK_S + CLOCK_SLACK_RATIO * monotonic_s:
        text = f"by one clock the cell took {monotonic_s:.3f} s, by the other {wall_s:.3f} s"
        yield Finding("clock", "suspect", text, None, "measure again; a clock was set or jumped")


def load_findings(in_flight_mean: float | None, concurrency: int) -> Iterator[Finding]:
    """Little's law: requests in flight on average (rate x time in system) never exceed the load."""
    if in_flight_mean is not None and in_flight_mean > concurrency * 1.001:
        text = (
            f"rate x time in system says {in_flight_mean:.2f} requests were in flight, "
            f"at most {concurrency} were sent at once (Little's law)"
        )
        yield Finding("clock", "invalid", text, None, "the times of this cell cannot be right")


def physics_findings(shares: Shares) -> Iterator[Finding]:
    """Nothing beats its ceiling.

    A short TPOT alone proves nothing: where a server holds its first token back and sends it with
    the next ones, decoding looks too fast and the request as a whole does not.
    """
    is_held_back = shares.request is not None and shares.request <= 1
    if shares.decode is not None and shares.decode > 1 and is_held_back:
        text = (
            f"a TPOT is {shares.decode:.2f} times as fast as the hardware allows, no request as a "
            "whole is: tokens were held back and came together"
        )
        advice = "is the engine's HTTP server short of CPU time? its TTFT and TPOT are off"
        yield Finding("physics", "suspect", text, None, advice)
    for what, share in (
        ("the cell as a whole", shares.throughput),
        ("a request as a whole", shares.request),
        ("decoding", None if is_held_back else shares.decode),
        ("prefill", shares.prefill),
    ):
        if share is not None and share > 1:
            is_close = shares.is_measured and share <= MEASURED_SLACK
            text = f"{what} is {share:.2f} times as fast as the hardware allows"
            advice = "were all tokens made, and with the weights the study names?"
            if is_close:
                advice = "was the machine busy while its ceiling was measured? measure again"
            yield Finding("physics", "suspect" if is_close else "invalid", text, None, advice)


def kv_findings(
    peak_tokens: float | None, capacity_tokens: float | None, preemptions: float | None
) -> Iterator[Finding]:
    """The tokens that running requests hold fit into the KV cache, unless some were pushed out."""
    if peak_tokens is None or capacity_tokens is None or preemptions:
        return
    if peak_tokens > capacity_tokens:
        text = (
            f"{peak_tokens:,.0f} tokens were in generation at once, the engine says that its KV "
            f"cache holds {capacity_tokens:,.0f}, and it preempted nobody"
        )
        yield Finding("kv", "suspect", text, None, "does it drop or compress keys and values?")


def energy_used_j(started: Meters, ended: Meters, indices: Collection[int] = ()) -> float | None:
    """What GPUs drew between two readings of their meters; None without such meters.

    Args:
        indices: of the GPUs that count; none: all.
    """
    numbers = [gpu.index for gpu in started.gpus]
    if len(set(numbers)) < len(numbers):
        numbers = list(range(len(numbers)))  # schema 1 has one GPU a position
    used_j, is_metered = 0.0, False
    for number, before, after in zip(numbers, started.gpus, ended.gpus, strict=True):
        if indices and number not in indices:
            continue
        if before.energy_j is None or after.energy_j is None:
            return None
        used_j += after.energy_j - before.energy_j
        is_metered = True
    return used_j if is_metered else None


def energy_findings(started: Meters, ended: Meters) -> Iterator[Finding]:
    """GPUs draw no more than their enforced power limit over a whole cell."""
    used_j = energy_used_j(started, ended)
    limits_w = [gpu.power_limit_w for gpu in ended.gpus if gpu.power_limit_w is not None]
    if used_j is None or len(limits_w) < len(ended.gpus):
        return
    most_j = sum(limits_w) * (ended.t_s - started.t_s)
    if used_j > most_j * POWER_SLACK or used_j < 0:
        text = f"the GPUs' meters say {used_j:,.0f} J, their power limits allow {most_j:,.0f} J"
        advice = "measure again; a meter was reset or a limit changed in between"
        yield Finding("energy", "suspect", text, None, advice)

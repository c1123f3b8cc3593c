"""Whether others disturbed a cell, and what is done then: it is run again, and the least disturbed
attempt counts. Pure.

The speed of a cell is never looked at here: an attempt that was chosen for its speed would bend the
comparison.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from enginebench.check.findings import Finding
from enginebench.metrics.machine_load import MachineFigures

CHECK = "machine"  # a key of check.CHECKS

#: Cores that others had while we had none to spare. An engine whose threads wait for the slowest of
#: them loses up to as large a share of its speed as others take of one core. The kernel's counters
#: are off by up to 0.04 cores over a cell (seen with 2 CPUs and much loopback traffic), a quiet
#: system's services take a few hundredths more.
OTHERS_CORES = 0.10
#: Services grow with the machine: up to 1 % of it, a third of the difference that a reader cares
#: about, is its own.
OTHERS_SHARE = 0.01
BURST_SHARE = 0.05  # of the time: beyond it, a p95 is of the bursts
#: Time that is stolen, or in which all wait for memory, is missing from the cell in full: as much
#: of it as the difference that a reader cares about (3 %).
STEAL_SHARE = 0.03
STEAL_CORES = 0.02  # two ticks in a second: less is rounding
MEMORY_FULL_SHARE = 0.03

MOST_RERUNS = 2  # of a cell
#: Of the plan's expected time, for all reruns of a study together: a machine that is never quiet
#: does not double it.
RERUNS_SHARE = 0.25


def disturbance_findings(figures: MachineFigures) -> Iterator[Finding]:
    """A cell that others disturbed is suspect; nothing is said of what is not known."""
    if reasons := _reasons(figures):
        advice = "is anything else running here? stop it, or compare only within the same trial"
        yield Finding(CHECK, "suspect", "; ".join(reasons), None, advice)


def _reasons(figures: MachineFigures) -> list[str]:
    reasons = []
    if _is_contested(figures):
        reasons.append(_others_text(figures))
    steal, stolen = figures.steal_share, figures.steal_cores_mean
    if steal is not None and steal >= STEAL_SHARE and (stolen or 0.0) >= STEAL_CORES:
        reasons.append(f"steal {steal:.0%} of the CPU time that was asked for")
    memory = figures.waited_memory_full_share
    if memory is not None and memory >= MEMORY_FULL_SHARE:
        reasons.append(f"all processes waited for memory {memory:.0%} of the time")
    return reasons


def _is_contested(figures: MachineFigures) -> bool:
    contested, bursts = figures.contested_cores_mean, figures.burst_share
    if contested is None or figures.cpus is None:
        return False
    least = max(OTHERS_CORES, OTHERS_SHARE * figures.cpus)
    return contested >= least or (bursts is not None and bursts >= BURST_SHARE)


def _others_text(figures: MachineFigures) -> str:
    return (
        f"other processes used {figures.others_cores_mean or 0:.2f} of {figures.cpus} cores on "
        f"average ({figures.others_share or 0:.0%}), at most {figures.others_cores_max or 0:.1f}"
    )


def is_disturbed(figures: MachineFigures) -> bool:
    return bool(_reasons(figures))


def disturbance(figures: MachineFigures) -> float | None:
    """Cores that were lost to others: contested or stolen. By it, and nothing else, attempts are
    compared; None where neither is known."""
    parts = [figures.contested_cores_mean, figures.steal_cores_mean]
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of a cell, without its speed."""

    number: int  # from 1
    is_invalid: bool  # for whatever reason
    is_disturbed: bool
    disturbance_cores: float | None

    @property
    def directory_suffix(self) -> str:
        """Of the cell's directory in the record: the first attempt is the cell itself."""
        return attempt_suffix(self.number)


def attempt_suffix(number: int) -> str:
    """``raw/<launch>/<cell>``, ``<cell>~2``, ``<cell>~3``: names of cells have no tilde."""
    return "" if number == 1 else f"~{number}"


def counting_attempt(attempts: Sequence[Attempt]) -> Attempt:
    """The attempt that counts: the least disturbed one that is not invalid; of equals, the first.

    Where all are invalid: the first.

    Raises:
        ValueError: there is none.
    """
    valid = [attempt for attempt in attempts if not attempt.is_invalid]
    if not valid:
        return min(attempts, key=lambda attempt: attempt.number)
    return min(valid, key=_rank)


def _rank(attempt: Attempt) -> tuple[bool, bool, float, int]:
    cores = attempt.disturbance_cores
    return (attempt.is_disturbed, cores is None, cores or 0.0, attempt.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class RerunBudget:
    """Time for reruns, in seconds."""

    planned_s: float  # of the whole study, without reruns
    spent_s: float  # on reruns so far
    left_s: float  # until the study has to end; infinite where it has no limit
    planned_left_s: float  # of the plan, still to be run in that time


def wants_rerun(attempts: Sequence[Attempt], expected_s: float, budget: RerunBudget) -> bool:
    """Whether a cell is run once more, right after its last attempt.

    Args:
        attempts: of this cell so far, at least one.
        expected_s: of another attempt.
    """
    if len(attempts) > MOST_RERUNS or not counting_attempt(attempts).is_disturbed:
        return False
    if any(attempt.is_invalid and not attempt.is_disturbed for attempt in attempts):
        return False  # something else is wrong with it, and would be again
    within_share = budget.spent_s + expected_s <= RERUNS_SHARE * budget.planned_s
    within_limit = expected_s + budget.planned_left_s <= budget.left_s
    return within_share and within_limit


def attempts_text(attempts: Sequence[Attempt]) -> str:
    """What the report says of a cell that was run again; empty for one attempt."""
    if len(attempts) < 2:
        return ""
    counted = counting_attempt(attempts)
    texts = [
        f"{attempt.number}: {_cores_text(attempt)}{', invalid' if attempt.is_invalid else ''}"
        for attempt in attempts
    ]
    why = "the least disturbed of those that are not invalid"
    return (
        f"run {len(attempts)} times because others disturbed it; attempt {counted.number} counts, "
        f"{why}, whatever its speed (cores lost to others: {'; '.join(texts)})"
    )


def _cores_text(attempt: Attempt) -> str:
    cores = attempt.disturbance_cores
    return "not measured" if cores is None else f"{cores:.2f}"

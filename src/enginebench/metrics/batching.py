"""What the lengths of outputs alone say of batching: steps that slots stand empty. Pure.

A closed loop keeps ``slots`` requests in flight. Two ideal engines take one request a slot, make
one token a slot and step, and every step takes the same time, however many slots are filled:

* *static*: the next ``slots`` requests, in order, are one batch; it ends with its longest member,
  and the slots of the others stand empty meanwhile (Yu et al., Orca, OSDI 2022);
* *continuous*: a slot takes the next request at the step after its last one ended.

Prefill is left out, and so is that a step with fewer sequences is a little faster. The first
lengthens the steps of both; the second makes the real gain smaller than this one.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from enginebench.metrics.request_table import Columns


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps that both ideal engines take for the same requests."""

    slots: int
    tokens: int  # of all outputs
    shortest: int
    longest: int
    requests: int
    static: int
    static_slots: int  # steps times the requests of their batch: what the slots could have made
    continuous: int

    @property
    def useful_share(self) -> float:
        """Of the static batches' slots the share that makes tokens: the mean length over the mean
        of the batches' longest, as every batch is full but the last."""
        return self.tokens / self.static_slots

    @property
    def gain(self) -> float:
        """Tokens a step of continuous batching over those of static batches."""
        return self.static / self.continuous


def steps(lengths: Sequence[int], slots: int) -> Steps | None:
    """Of outputs of these lengths, in the order in which they are sent; None without any.

    Args:
        lengths: tokens of each output, all above zero.
        slots: requests in flight, above zero.
    """
    if not lengths:
        return None
    batches = [lengths[start : start + slots] for start in range(0, len(lengths), slots)]
    return Steps(
        slots=slots,
        tokens=sum(lengths),
        shortest=min(lengths),
        longest=max(lengths),
        requests=len(lengths),
        static=sum(map(max, batches)),
        static_slots=sum(max(batch) * len(batch) for batch in batches),
        continuous=_refilled(lengths, slots),
    )


def _refilled(lengths: Sequence[int], slots: int) -> int:
    """Steps until the last output ends, if each takes the slot that is free first."""
    ends = [0] * min(slots, len(lengths))
    for length in lengths:
        heapq.heapreplace(ends, ends[0] + length)
    return max(ends)


def of_requests(found: Columns, slots: int) -> Steps | None:
    """Of a cell's requests, in the order in which they were sent."""
    order = np.argsort(found.sent_s, kind="stable")
    return steps(found.output_tokens_asked[order].tolist(), slots)

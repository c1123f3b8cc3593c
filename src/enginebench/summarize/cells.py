"""One recorded cell: its figures, what is wrong with it, and its series over time. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from enginebench.base.load_level import cell_id, load_text
from enginebench.check import disturbance
from enginebench.check import findings as check
from enginebench.check.disturbance import Attempt
from enginebench.check.findings import Finding, Verdict
from enginebench.metrics import memory, other_tools
from enginebench.metrics.batching import Steps
from enginebench.metrics.figures import Figures
from enginebench.metrics.machine_load import LoadPoint, MachineFigures
from enginebench.record.schema import ClientStats


@dataclass(frozen=True, slots=True)
class AttemptSpan:
    """One run of a cell, and the machine's load during it."""

    attempt: Attempt
    start_s: float
    end_s: float
    load: tuple[LoadPoint, ...]  # over sliding seconds; empty in older records


@dataclass(frozen=True, slots=True)
class CellRow:
    """One cell of one trial."""

    launch: str
    trial: int
    engine: str
    variant: str
    label: str
    workload: str
    concurrency: int  # most requests in flight
    rate: float | None  # requests/s offered in an open loop; None: a closed loop
    findings: tuple[Finding, ...]  # empty: the cell is valid
    log_tail: tuple[str, ...]
    figures: Figures  # empty where nothing was recorded
    samples: tuple[memory.Sample, ...] = ()  # the KV cache over time
    resident: tuple[tuple[float, float], ...] = ()  # the processes' or GPUs' memory: t_s, bytes
    power: tuple[tuple[float, float], ...] = ()  # of all GPUs: t_s, watts
    elsewhere: Mapping[str, other_tools.Printed] = field(default_factory=dict)  # by tool
    attempts: tuple[AttemptSpan, ...] = ()  # all of them, in order; empty where nothing was run
    quantiles: Mapping[str, Sequence[float]] = field(default_factory=dict)  # by latency
    client: ClientStats | None = None  # None in older records
    machine: MachineFigures | None = None  # None: its load was not recorded
    throttled: Mapping[str, float] | None = None  # share of the samples by reason
    gpu_errors: Mapping[str, int] = field(default_factory=dict)  # samples by failure
    steps: Steps | None = None  # that its outputs take by how they are batched; None: one stream

    @property
    def id(self) -> str:
        return cell_id(self.workload, self.concurrency, self.rate)

    @property
    def level(self) -> float:
        return self.concurrency if self.rate is None else self.rate

    @property
    def load_text(self) -> str:
        return load_text(self.concurrency, self.rate)

    @property
    def verdict(self) -> Verdict:
        return check.verdict(self.findings)

    @property
    def counts(self) -> bool:
        """Whether its figures go into averages: a suspect cell does, an invalid one never."""
        return self.verdict != "invalid"

    @property
    def attempts_text(self) -> str:
        """How often the cell was run and which attempt counts; empty if it was run once."""
        return disturbance.attempts_text([span.attempt for span in self.attempts])

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(finding.text for finding in self.findings)

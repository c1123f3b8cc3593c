"""The workloads of a study file: what each request asks for, and the load."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from enginebench.plan.limits import (
    LONGEST_S,
    MOST_PROMPT_TOKENS,
    MOST_REQUESTS,
    Amount,
    Interval,
    Name,
    Number,
    Positive,
    Seconds,
    Streams,
)  # fmt: skip
from enginebench.plan.section import Section


class OutputRange(Section):
    """Output lengths drawn evenly between both ends, the same draw for every engine."""

    min: Positive
    max: Positive

    @model_validator(mode="after")
    def _ordered(self) -> "OutputRange":
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


def _output_kind(value: Any) -> str:
    return "range" if isinstance(value, dict | OutputRange) else "length"


class Workload(Section):
    """What each request asks for, and the load: closed loops (concurrency) or open ones (rate)."""

    name: Name
    prompt_tokens: Positive
    # All prompts of the workload begin with the same so many tokens, those of the warm-up too: what
    # is measured is a prefix cache that has them. 0: every prompt begins with its own tag.
    shared_prefix_tokens: Annotated[int, Field(ge=0)] = 0
    output_tokens: Annotated[
        Annotated[Positive, Tag("length")] | Annotated[OutputRange, Tag("range")],
        Discriminator(_output_kind),
    ]
    concurrency: list[Streams] = []  # closed loop: requests in flight
    requests_per_stream: Positive = 2
    min_requests: Positive = 1  # a level has the larger of this and streams x per stream requests
    warmup_output_tokens: Positive = 8  # one warm-up request a stream, this many tokens
    rate: list[Amount] = []  # open loop: requests/s offered
    duration_s: Interval = 60.0  # open loop: rate x this
    arrivals: Literal["constant", "poisson", "gamma", "trace"] = "poisson"
    burstiness: Annotated[Number, Field(ge=1e-3, le=1e6)] = 1.0  # shape of gamma's gaps
    trace: str = ""  # file of times and lengths; the lengths are cut to those above
    max_in_flight: Streams | None = None  # open loop: more than these wait in the client
    ramp_s: Seconds = 0.0  # the load rises over this time

    @field_validator("concurrency", "rate")
    @classmethod
    def _different(cls, levels: list[float]) -> list[float]:
        # Cells are named by six digits of it (base.load_level).
        if len({f"{level:g}" for level in levels}) != len(levels):
            raise ValueError(f"a level is there twice in {levels}; each is run once a trial")
        return levels

    @model_validator(mode="after")
    def _one_loop(self) -> "Workload":
        if bool(self.concurrency) == bool(self.rate):
            found = "both" if self.rate else "neither"
            raise ValueError(
                "expected levels of concurrency (closed loop) or of rate (open loop), "
                f"found {found}"
            )
        given = self.model_fields_set
        foreign = {"duration_s", "arrivals", "burstiness", "trace", "max_in_flight"} & given
        if self.concurrency and foreign:
            raise ValueError(f"{min(foreign)} belongs to an open loop; give rate, not concurrency")
        if self.rate and "requests_per_stream" in given:
            raise ValueError("requests_per_stream belongs to a closed loop; give duration_s")
        if (self.arrivals == "trace") != bool(self.trace):
            raise ValueError("arrivals: trace and a file in trace belong together")
        if "burstiness" in given and self.arrivals != "gamma":
            raise ValueError("burstiness belongs to arrivals: gamma")
        return self

    @model_validator(mode="after")
    def _prefix_fits(self) -> "Workload":
        shared = self.shared_prefix_tokens
        if shared >= self.prompt_tokens:
            raise ValueError(
                f"expected shared_prefix_tokens below prompt_tokens ({self.prompt_tokens}), "
                f"found {shared}"
            )
        if shared and self.trace:
            raise ValueError("shared_prefix_tokens needs prompts of one length; leave out trace")
        return self

    @model_validator(mode="after")
    def _bounded(self) -> "Workload":
        wanted = [rate * self.duration_s for rate in self.rate]
        wanted += [float(self.requests(streams)) for streams in self.concurrency]
        most = max(*wanted, self.min_requests)
        for what, found, limit in (
            ("requests a level", most, MOST_REQUESTS),
            ("prompt tokens a level", most * self.prompt_tokens, MOST_PROMPT_TOKENS),
            ("seconds a level", max((most / rate for rate in self.rate), default=0), LONGEST_S),
        ):
            if found > limit:
                raise ValueError(f"expected at most {limit:,.0f} {what}, found {found:,.6g}")
        return self

    def requests(self, concurrency: int) -> int:
        return max(self.min_requests, self.requests_per_stream * concurrency)

    def requests_at(self, rate: float) -> int:
        """Requests of an open loop."""
        return max(self.min_requests, round(rate * self.duration_s))

    @property
    def longest_output(self) -> int:
        output = self.output_tokens
        return output.max if isinstance(output, OutputRange) else output

    @property
    def mean_output(self) -> float:
        output = self.output_tokens
        return (output.min + output.max) / 2 if isinstance(output, OutputRange) else float(output)

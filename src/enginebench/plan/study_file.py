"""A study file: what is compared, on what work, under which loads.

The file is YAML; every key is checked, and a mistake is answered with the key, the file and the
nearest key that exists. ``docs/study-file.md`` lists them all.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from enginebench.base import text_file, yaml_file
from enginebench.base.errors import UserError
from enginebench.hardware import prices
from enginebench.hardware.prices import HourlyPrice
from enginebench.plan import study_mistakes
from enginebench.plan.limits import (
    LONGEST_S,
    MOST_CELLS,
    MOST_PROMPT_TOKENS,
    MOST_REQUESTS,
    Amount,
    Flag,
    Interval,
    Name,
    Number,
    Positive,
    Seconds,
    Settings,
    Streams,
)  # fmt: skip

PromptFormat = Literal["auto", "blocks", "lines", "jsonl", "sharegpt", "dialogues"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Hint(_Section):
    """Used for the plan's time estimate only, never for a result."""

    start_s: Seconds = 30.0  # from launch to ready
    # Output tokens/s by concurrency.
    tokens_per_s: Annotated[
        dict[Positive, Annotated[Number, Field(ge=1e-3)]], Field(min_length=1)
    ] = {1: 40.0}


class Variant(_Section):
    """One engine under one set of settings."""

    engine: Name  # the name of an engine directory
    variant: Name = "default"
    settings: Settings = {}  # variables of its launch.yaml
    workloads: list[Name] = []  # run only these; empty: all
    trials: Positive | None = None  # run only the first so many trials; none: all
    hint: Hint = Hint()

    @property
    def label(self) -> str:
        return f"{self.engine}/{self.variant}"


class OutputRange(_Section):
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


class Workload(_Section):
    """What each request asks for, and the load: closed loops (concurrency) or open ones (rate)."""

    name: Name
    prompt_tokens: Positive
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


class Agreement(_Section):
    """Prompts that every variant answers once, one after another, so that answers can be compared.

    They are asked on its first start, before anything is measured.
    """

    prompts: Annotated[int, Field(ge=1, le=10_000)] = 16
    prompt_tokens: Positive = 64
    output_tokens: Positive = 64


class Prompts(_Section):
    path: str = "prompts.txt"
    format: PromptFormat = "auto"


class Price(_Section):
    """What an hour costs: a published price by name, one of a GPU, or one of the whole machine."""

    name: str = ""  # of an entry of data/prices.yaml
    usd_per_gpu_hour: Amount | None = None
    usd_per_hour: Amount | None = None
    source: str = ""
    is_stand_in: Flag = False  # true: the study does not run on the hardware that the price is for

    @model_validator(mode="after")
    def _stated_once(self) -> "Price":
        own = [usd for usd in (self.usd_per_gpu_hour, self.usd_per_hour) if usd is not None]
        if len(own) + bool(self.name) != 1:
            raise ValueError(
                "expected one of `name` (of prices.yaml), `usd_per_gpu_hour` and `usd_per_hour`, "
                f"found {len(own) + bool(self.name) or 'none'}"
            )
        if own and not self.source:
            raise ValueError("a price of your own needs its `source`: of what, from where, when")
        if self.name and self.source:
            raise ValueError("a price by `name` has its source in prices.yaml; leave `source` out")
        if self.name:
            try:
                prices.find(self.name)
            except UserError as error:
                raise ValueError(str(error)) from None
        return self

    def hourly(self, gpus: Sequence[str | None]) -> HourlyPrice:
        """What an hour of the study costs.

        Args:
            gpus: the names of the machine's GPUs; empty on a CPU, where any price is a stand-in.

        Raises:
            UserError: the price is one of another GPU, and not declared a stand-in.
        """
        is_stand_in = self.is_stand_in or not gpus
        if self.name:
            found = prices.find(self.name)
            is_stand_in = is_stand_in or found.is_stand_in
            if not is_stand_in:
                prices.check(found, gpus)
            usd, is_per_gpu, source = found.usd_per_gpu_hour, True, found.text
        else:
            is_per_gpu = self.usd_per_gpu_hour is not None
            usd = self.usd_per_gpu_hour if is_per_gpu else self.usd_per_hour
            source = self.source
        assert usd is not None  # one of them is stated
        return HourlyPrice(
            usd_per_hour=usd, is_per_gpu=is_per_gpu, source=source, is_stand_in=is_stand_in
        )


class Study(_Section):
    """A whole study, as its file says it."""

    name: Name
    title: str = ""
    model: str = "embedded"  # as in model.resolve
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: a GPU if there is one
    settings: Settings = {}  # launch variables for every engine
    prompts: Prompts = Prompts()
    engines: Annotated[list[Variant], Field(min_length=1)]
    reference: str = ""  # engine/variant that ratios divide by; empty: the first one
    workloads: Annotated[list[Workload], Field(min_length=1)]
    agreement: Agreement | None = None  # none: answers are not compared
    trials: Positive = 1  # fresh starts of every engine
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    price: Price | None = None  # none: no costs are worked out
    ready_timeout_s: Interval = 600.0
    request_timeout_s: Interval = 600.0
    calibration_s: Seconds = 1.0  # of the client, a level
    noise_probe_s: Seconds = 4.0  # of the machine; 0: none
    # False: what other processes use is shown, but makes no cell suspect and has none run again.
    judge_machine: Flag = True
    judge_client: Flag = True  # false: the client's own error is shown, but makes no cell suspect
    scrape_interval_s: Interval = 1.0
    sample_interval_s: Annotated[Number, Field(ge=0.01, le=LONGEST_S)] = 0.1
    port: Annotated[int, Field(ge=1, le=65535)] | None = None  # none: a free one is chosen

    @model_validator(mode="after")
    def _consistent(self) -> "Study":
        labels = [variant.label for variant in self.engines]
        for kind, names in (
            ("engine variant", labels),
            ("workload", [workload.name for workload in self.workloads]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"the {kind} {twice[0]!r} is there twice; give each its own name")
        known = [workload.name for workload in self.workloads]
        for variant in self.engines:
            for name in variant.workloads:
                if name not in known:
                    raise ValueError(
                        f"{variant.label} names the workload {name!r}, "
                        f"which is none of {', '.join(known)}"
                    )
        levels = sum(len(load.concurrency or load.rate) for load in self.workloads)
        if (cells := self.trials * len(labels) * levels) > MOST_CELLS:
            raise ValueError(
                f"expected at most {MOST_CELLS:,} cells (trials x variants x levels), "
                f"found {cells:,}"
            )
        if "agreement" in known:
            raise ValueError("a workload cannot be called 'agreement': that name is taken")
        if self.reference and self.reference not in labels:
            raise ValueError(
                f"reference {self.reference!r} is none of the variants ({', '.join(labels)})"
            )
        return self


def load(path: Path) -> Study:
    """Read and check a study file.

    Raises:
        UserError: unreadable, not YAML, or a key or value that does not fit.
    """
    try:
        text = text_file.read_text(path, yaml_file.MOST_BYTES)
    except text_file.UnreadableFile as error:
        known = ", ".join(sorted(str(p) for p in path.parent.glob("*.yaml"))) or "none"
        raise UserError(
            f"{error.where(path)}: expected a study file of UTF-8 text, found {error.reason}; "
            f"study files beside it: {known}"
        ) from None
    data = yaml_file.parse(text, str(path), "settings")
    if not isinstance(data, dict):
        raise UserError(
            f"{path}: expected a mapping with name, engines and workloads, "
            f"found {type(data).__name__}; see studies/smoke.yaml for an example"
        )
    return parse(data, str(path))


def parse(data: Mapping[str, Any], where: str) -> Study:
    """Check a study given as plain data; ``where`` names its source in the error."""
    try:
        return Study.model_validate(data)
    except ValidationError as error:
        raise UserError(study_mistakes.describe(error, where, Study)) from None

"""A study file: what is compared, on what work, under which loads.

The file is YAML; every key is checked, and a mistake is answered with the key, the file and the
nearest key that exists. ``docs/study-file.md`` lists them all.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    ValidationError,
    model_validator,
)

from enginebench.base import text_file, yaml_file
from enginebench.base.errors import UserError
from enginebench.plan import decomposition, study_mistakes
from enginebench.plan.decomposition import Decomposition
from enginebench.plan.limits import (
    LONGEST_S,
    MOST_CELLS,
    Flag,
    Interval,
    Name,
    Number,
    Positive,
    Seconds,
    Settings,
)  # fmt: skip
from enginebench.plan.price import Price
from enginebench.plan.section import Section
from enginebench.plan.workload import Workload

PromptFormat = Literal["auto", "blocks", "lines", "jsonl", "sharegpt", "dialogues"]


class Hint(Section):
    """Used for the plan's time estimate only, never for a result."""

    start_s: Seconds = 30.0  # from launch to ready
    # Output tokens/s by concurrency.
    tokens_per_s: Annotated[
        dict[Positive, Annotated[Number, Field(ge=1e-3)]], Field(min_length=1)
    ] = {1: 40.0}


class Variant(Section):
    """One engine under one set of settings."""

    engine: Name  # the name of an engine directory; in a file also engine@variant+variant
    variant: Name = "default"
    declared: list[Name] = []  # variants of the engine's variants.yaml
    settings: Settings = {}  # variables of its launch.yaml
    workloads: list[Name] = []  # run only these; empty: all
    trials: Positive | None = None  # run only the first so many trials; none: all
    hint: Hint = Hint()

    @model_validator(mode="before")
    @classmethod
    def _split(cls, data: Any) -> Any:
        """``name@one+two`` is the engine of that name with two of the variants it declares."""
        engine = data.get("engine") if isinstance(data, dict) else None
        if not isinstance(engine, str) or "@" not in engine:
            return data
        name, _, rest = engine.partition("@")
        declared = rest.split("+")
        if not all(declared) or len(set(declared)) < len(declared) or "declared" in data:
            raise ValueError(
                "expected engine@variant or engine@variant+variant, each variant once, "
                f"found {engine!r}"
            )
        return {"variant": "-".join(declared), **data, "engine": name, "declared": declared}

    @property
    def label(self) -> str:
        return f"{self.engine}/{self.variant}"


class Agreement(Section):
    """Prompts that every variant answers once, one after another, so that answers can be compared.

    They are asked on its first start, before anything is measured.
    """

    prompts: Annotated[int, Field(ge=1, le=10_000)] = 16
    prompt_tokens: Positive = 64
    output_tokens: Positive = 64


class Prompts(Section):
    path: str = "prompts.txt"
    format: PromptFormat = "auto"


class Study(Section):
    """A whole study, as its file says it."""

    name: Name
    title: str = ""
    model: str = "embedded"  # as in model.resolve
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: a GPU if there is one
    settings: Settings = {}  # launch variables for every engine
    prompts: Prompts = Prompts()
    engines: Annotated[list[Variant], Field(min_length=1)]
    reference: str = ""  # engine/variant that ratios divide by; empty: the first that runs
    workloads: Annotated[list[Workload], Field(min_length=1)]
    agreement: Agreement | None = None  # none: answers are not compared
    trials: Positive = 1  # fresh starts of every engine
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    price: Price | None = None  # none: no costs are worked out
    decompositions: list[Decomposition] = []  # which optimization gave what
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
    skip_unmet: Flag = False  # true: what this machine cannot run is left out, with the reason

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
        decomposition.require_known(self.decompositions, labels)
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

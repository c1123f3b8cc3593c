"""What a reader must know before quoting a study's numbers: only what is true of this one. Pure."""

from collections.abc import Iterable, Mapping

from enginebench.base.load_level import load_text
from enginebench.metrics import cost
from enginebench.metrics.agreement import Comparison
from enginebench.record.schema_study import Study
from enginebench.report import formats
from enginebench.summarize import engine_configs
from enginebench.summarize.groups import RATE
from enginebench.summarize.ranking import is_varied, ranking
from enginebench.summarize.study_summary import Summary, cells_of

WIDE_TRIALS = 1.5  # starts of one variant that are further apart are worth a word
SMALL = 1e9  # parameters: less than what people serve
MOVED_CEILING = 0.1  # so is a change of the machine's own speed between the study's two ends


def threats(summary: Summary) -> list[str]:
    """What a reader must know before quoting these numbers: only what is true of this study."""
    study = summary.study
    found = []
    if not summary.finished:
        found.append("The study did not reach its end: cells not run are listed as invalid.")
    if summary.resumed:
        found.append(
            f"The study was cut off and resumed ({summary.resumed}): its engine starts are "
            "further apart in time; its calibration and first ceiling are those of its beginning."
        )
    if summary.invalid:
        found.append(
            f"{len(summary.invalid)} of {len(summary.cells)} cells are invalid; no figure here "
            "includes them."
        )
    found += [
        f"{left_out.label} was left out, as this machine cannot run it: {left_out.reason}."
        for left_out in study.left_out
    ]
    if study.model.has_random_weights:
        found.append(
            f"The model ({study.model.name}) has random weights, so its text is gibberish. "
            "Speed does not depend on what the weights say; its size and shape are real"
            + (", but small." if (study.model.parameters or 0) < SMALL else ".")
        )
    price = cost.recorded_price(study)
    if price is not None and price.is_stand_in:
        found.append(
            f"The price ({price.usd_per_hour} USD per hour, "
            f"{price.source}) is a declared stand-in: the study did not run on that "
            "hardware. Costs compare the engines with each other and mean nothing as dollars."
        )
    single = sorted({g.label for g in summary.groups if g.trials_planned == 1})
    if single:
        found.append(f"One trial only, so no interval over fresh starts: {', '.join(single)}.")
    if study.device == "cpu":
        found.append(
            "Engines, load generator and sampler share the same CPU cores: all engines lose time "
            "to them in the same way, not by the same amount."
        )
    fewest = min((int(c.figures["requests"] or 0) for c in summary.cells if c.figures), default=0)
    if fewest < 30:
        found.append(
            f"The smallest cell has {fewest} requests: even its medians are close to single "
            "observations."
        )
    dtypes = sorted({dtype for dtype in engine_configs.dtypes(summary).values() if dtype})
    if len(dtypes) > 1:
        found.append(
            f"Variants ran in different dtypes ({', '.join(dtypes)}). Which is fast depends on "
            f"the CPU or GPU{_bfloat16_text(study)}: compare engines within one dtype, or each "
            "engine's best."
        )
    found += [_answers_text(c) for c in summary.agreement if c.is_same_dtype and c.differences]
    return found + _spread_of_trials(summary) + _of_the_machine(summary) + _gpu_limits(summary)


def _spread_of_trials(summary: Summary) -> list[str]:
    """How far the starts of a variant were apart, and what that leaves open."""
    found, wide = [], []
    for group in summary.groups:
        rates = [
            rate
            for cell in cells_of(summary, group)
            if cell.counts and (rate := cell.figures[RATE])
        ]
        if len(rates) > 1 and max(rates) > WIDE_TRIALS * min(rates):
            wide.append((max(rates) / min(rates), group))
    if wide:
        times, worst = max(wide, key=lambda pair: pair[0])
        found.append(
            f"At {len(wide)} of {len(summary.groups)} levels the starts of a variant differ by "
            f"more than {WIDE_TRIALS:g} times in output tokens/s, at most {times:.1f} times "
            f"({worst.label}, {worst.workload}, {load_text(worst.concurrency, worst.rate)}): "
            "something beside the engines was at work. Mistrust means; intervals show it."
        )
    compared = [
        group.ratio.verdict
        for group in summary.groups
        if group.rate is None  # in an open loop the offered rate makes them alike
        and group.label != summary.reference
        and group.ratio
    ]
    unclear = compared.count("cannot tell")
    if unclear:
        found.append(
            f"{unclear} of {len(compared)} ratios to {summary.reference} are “cannot tell”: there "
            "the data do not say which of the two is faster."
        )
    return found + _equal_outputs(summary)


def _equal_outputs(summary: Summary) -> list[str]:
    """Which workloads have outputs of one length, and whether the headline is from one of them."""
    workloads = [w for w in summary.study.study.workloads if max(w.concurrency or [2]) > 1]
    equal = [w.name for w in workloads if not is_varied(w)]
    if not equal:
        return []
    ranked = ranking(summary)
    of_headline = " (the headline’s)" if ranked and ranked.workload.name in equal else ""
    return [
        f"All outputs of {formats.listed(equal)}{of_headline} are equally long, which favours "
        "engines that wait for the longest answer of a batch; with mixed lengths they would do "
        "worse."
    ]


def _of_the_machine(summary: Summary) -> list[str]:
    """What the machine and its environment did beside the study."""
    found = []
    before, after = summary.ceiling_before, summary.ceiling_after
    if before and after:
        rates = [
            ("memory bandwidth", before.bandwidth_bytes_per_s, after.bandwidth_bytes_per_s),
            *((f"{name} FLOPs/s", before.flops_per_s[name], after.flops_per_s[name])
              for name in before.flops_per_s.keys() & after.flops_per_s.keys()),
        ]  # fmt: skip
        moved = [(a / b, what) for what, b, a in rates if b and abs(a / b - 1) > MOVED_CEILING]
        if moved:
            texts = [f"{what} {ratio - 1:+.0%}" for ratio, what in sorted(moved)]
            found.append(
                "The machine itself was not the same before the first engine and after the last: "
                f"{', '.join(texts)}. Ratios are paired by trial, so that a drift cancels in part."
            )
    if not summary.study.calibration:
        found.append("The client was not calibrated before the study: its own error is not known.")
    inherited = {
        f"{name}={value}"
        for launch in summary.launches.values()
        for name, value in launch.inherited_env.items()
        if value
    }
    if inherited:
        found.append(
            "Engines inherited settings from the caller's environment: "
            f"{', '.join(sorted(inherited))}."
        )
    if summary.study.git.dirty:
        found.append(
            "enginebench had changes that are in no commit: the code that ran cannot be had again."
        )
    return found


def _gpu_limits(summary: Summary) -> list[str]:
    """What the GPUs, or the library that watches them, did to these numbers."""
    machine = summary.study.machine
    found = []
    if machine.nvml_error:
        found.append(f"NVML could not be used in full ({machine.nvml_error}): GPUs were missed.")
    if summary.study.device == "cuda" and any(gpu.mig for gpu in machine.gpus):
        found.append(
            "A GPU is partitioned (MIG): its memory, utilisation, power and energy are those of "
            "the whole board with all its users, so they are left out."
        )
    measured = [cell for cell in summary.cells if cell.figures]
    slowed = [cell.throttled for cell in measured if cell.throttled]
    if slowed:
        found.append(
            f"A GPU was throttled in {len(slowed)} of {len(measured)} cells "
            f"({_most(slowed)}): its clock was below what it "
            "is capable of. Engines are comparable as far as all met the same."
        )
    failed = [cell.gpu_errors for cell in measured if cell.gpu_errors]
    if failed:
        found.append(
            f"A GPU stopped answering in {len(failed)} of {len(measured)} cells "
            f"({', '.join(sorted({text for errors in failed for text in errors}))}): "
            "its figures there are of the samples before, or missing."
        )
    return found


def _most(shares: Iterable[Mapping[str, float]]) -> str:
    """Every reason with the largest share of a cell's samples that it had."""
    most: dict[str, float] = {}
    for cell in shares:
        for reason, share in cell.items():
            most[reason] = max(share, most.get(reason, 0.0))
    texts = (
        f"{reason} in up to {share * 100:.0f} % of samples"
        for reason, share in sorted(most.items())
    )
    return ", ".join(texts)


def _answers_text(found: Comparison) -> str:
    text = (
        f"In {found.dtypes[0]}, {found.label} gave another answer than {found.against} to "
        f"{len(found.differences)} of {found.prompts} prompts"
    )
    if found.first_token_worst is not None:
        text += f", from token {found.first_token_worst} on at the earliest"
    if found.clear:
        unknown = sum(difference.margin is None for difference in found.clear)
        text += f"; {len(found.clear)} of them part where the choice was clear"
        return text + (f" or ({unknown}) cannot be told to be near ties." if unknown else ".")
    return text + (
        f"; all part at a near tie (the better token led by at most "
        f"{found.margin_largest:.2g} nats), as rounding does."
    )


def _bfloat16_text(study: Study) -> str:
    if study.device != "cpu":
        return ""
    flags = study.machine.cpu_bfloat16
    return f" (this CPU has {', '.join(flags)})" if flags else " (this one has no bfloat16 unit)"

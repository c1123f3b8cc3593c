"""The sentences of a report: each is made from the summary, or does not appear."""

from collections.abc import Iterable, Mapping
from typing import Any

from enginebench import stats
from enginebench.agreement import Comparison
from enginebench.stats import Interval
from enginebench.summarize import Group, Summary, paired_ratio

RATE = "output_tokens_per_s"


def output_text(workload: Mapping[str, Any]) -> str:
    output = workload["output_tokens"]
    return f"{output['min']} to {output['max']}" if isinstance(output, dict) else f"{output}"


def answers(summary: Summary) -> list[str]:
    """What the study found, a sentence for each workload at its highest level."""
    found = []
    for workload in summary.study["study"]["workloads"]:
        level = max(workload["concurrency"] or workload["rate"])
        groups = [
            group
            for group in summary.groups
            if (group.workload, group.level) == (workload["name"], level)
            and group.figures[RATE] is not None
        ]
        if groups and workload["concurrency"]:
            found.append(_answer(summary, workload["name"], level, groups))
        elif groups:
            found.append(_open_answer(workload["name"], groups))
    return found or ["No cell of this study is valid, so it says nothing about the engines."]


def _answer(summary: Summary, workload: str, level: int, groups: list[Group]) -> str:
    ranked = sorted(groups, key=lambda group: -_rate(group))
    best = ranked[0]
    in_flight = "one request" if level == 1 else f"{level} requests"
    text = f"With {in_flight} in flight ({workload}), {best.label} is first with "
    text += f"{_rate(best):.0f} output tokens/s"
    dtypes = _dtypes(summary)
    own, against = dtypes.get(best.label), dtypes.get(summary.reference)
    if best.label != summary.reference and best.ratio is not None:
        text += f", {_times(best.ratio)} {summary.reference}"
        text += f" ({own} against {against})" if own != against else ""
    rest = [f"{group.label} {_rate(group):.0f}" for group in ranked[1:]]
    text += f"; then {', '.join(rest)}." if rest else "."
    text += _lead(summary, best, ranked[1]) if rest else ""
    same = [g for g in ranked if dtypes.get(g.label) == against and g.label != summary.reference]
    if own != against and same and same[0].ratio is not None:
        text += f" Within {against}, {same[0].label} makes {_times(same[0].ratio)} "
        text += f"{summary.reference}."
    return text


def _open_answer(workload: str, groups: list[Group]) -> str:
    """At a given rate of requests engines differ in how long they let wait, not in how much."""

    def figure(group: Group, name: str) -> float:
        found = group.figures[name]
        return found.mean if found else float("inf")

    ranked = sorted(groups, key=lambda group: figure(group, "ttft_planned_s_p50"))
    offered = figure(ranked[0], "requests_offered_per_s")
    parts = [
        f"{group.label} {figure(group, 'ttft_planned_s_p50') * 1e3:.0f} ms "
        f"({figure(group, 'requests_per_s'):.3g} requests/s answered)"
        for group in ranked
    ]
    return (
        f"With {offered:.3g} requests/s offered ({workload}), the median time from the moment a "
        f"request was due to its first token was: {', '.join(parts)}."
    )


def _times(ratio: Interval) -> str:
    if ratio.low is None or ratio.high is None:
        return f"{ratio.mean:.1f} times (one trial, so no interval)"
    return (
        f"{ratio.mean:.1f} times (95 % interval {ratio.low:.1f} to {ratio.high:.1f}, "
        f"{ratio.trials} trials)"
    )


def _bfloat16_text(facts: Mapping[str, Any]) -> str:
    if facts["device"] != "cpu":
        return ""
    flags = facts["machine"].get("cpu_bfloat16")
    return f" (this CPU has {', '.join(flags)})" if flags else " (this one has no bfloat16 unit)"


def _lead(summary: Summary, best: Group, second: Group) -> str:
    """Whether the first place is one: the best two, paired by trial."""
    here = [
        cell for cell in summary.cells if (cell.workload, cell.level) == (best.workload, best.level)
    ]
    ratio = paired_ratio(
        [cell for cell in here if cell.label == best.label],
        [cell for cell in here if cell.label == second.label],
    )
    if ratio is None or ratio.low is None:
        return " Fewer than two trials have both of the first two, so their order is not tested."
    interval = f"ratio {ratio.mean:.2f}, 95 % interval {ratio.low:.2f} to {ratio.high:.2f}"
    if stats.standing(ratio) == "tie":
        return f" {best.label} and {second.label} are a tie ({interval})."
    if stats.standing(ratio) == "unclear":
        return f" {best.label} and {second.label} cannot be ranked ({interval})."
    return f" The lead over {second.label} holds ({interval})."


def _rate(group: Group) -> float:
    found = group.figures[RATE]
    assert found is not None
    return found.mean


def limits(summary: Summary) -> list[str]:
    """What a reader must know before quoting these numbers: only what is true of this study."""
    facts, study = summary.study, summary.study["study"]
    found = []
    if not summary.finished:
        found.append("The study did not reach its end: cells not run are listed as invalid.")
    if summary.invalid:
        found.append(
            f"{len(summary.invalid)} of {len(summary.cells)} cells are invalid; no figure here "
            "includes them."
        )
    if facts["model"]["has_random_weights"]:
        found.append(
            "The model has random weights, so its text is gibberish. Speed does not depend on "
            "what the weights say; its size and shape are real, but small."
        )
    if price_is_stand_in(summary):
        found.append(
            f"The price ({study['price']['usd_per_hour']} USD per hour, "
            f"{study['price']['source']}) is a declared stand-in: the study did not run on that "
            "hardware. Costs compare the engines with each other and mean nothing as dollars."
        )
    single = sorted({g.label for g in summary.groups if g.trials_planned == 1})
    if single:
        found.append(f"One trial only, so no interval over fresh starts: {', '.join(single)}.")
    if facts["device"] == "cpu":
        found.append(
            "Engines, load generator and sampler share the same CPU cores: all engines lose time "
            "to them in the same way, not by the same amount."
        )
    fewest = min((c.figures["requests"] for c in summary.cells if c.figures), default=0)
    if fewest < 30:
        found.append(
            f"The smallest cell has {fewest} requests: its percentiles are close to single "
            "observations. p99 of a figure is given only from 662 samples on."
        )
    dtypes = sorted({dtype for dtype in _dtypes(summary).values() if dtype})
    if len(dtypes) > 1:
        found.append(
            f"Variants ran in different dtypes ({', '.join(dtypes)}). Which is fast depends on "
            f"the CPU or GPU{_bfloat16_text(facts)}: compare engines within one dtype, or each "
            "engine's best."
        )
    found += [_answers_text(c) for c in summary.agreement if c.is_same_dtype and c.differences]
    found += _gpu_limits(summary)
    return found


def _gpu_limits(summary: Summary) -> list[str]:
    """What the GPUs, or the library that watches them, did to these numbers."""
    machine = summary.study["machine"]
    found = []
    if machine.get("nvml_error"):
        found.append(f"NVML could not be used in full ({machine['nvml_error']}): GPUs were missed.")
    if summary.study["device"] == "cuda" and any(gpu.get("mig") for gpu in machine["gpus"]):
        found.append(
            "A GPU is partitioned (MIG): its memory, utilisation, power and energy are those of "
            "the whole board with all its users, so they are left out."
        )
    measured = [cell for cell in summary.cells if cell.figures]
    slowed = [cell for cell in measured if cell.figures["throttled"]]
    if slowed:
        found.append(
            f"A GPU was throttled in {len(slowed)} of {len(measured)} cells "
            f"({_most(cell.figures['throttled'] for cell in slowed)}): its clock was below what it "
            "is capable of. Engines are comparable as far as all met the same."
        )
    failed = [cell for cell in measured if cell.figures["gpu_errors"]]
    if failed:
        found.append(
            f"A GPU stopped answering in {len(failed)} of {len(measured)} cells "
            f"({', '.join(sorted({text for c in failed for text in c.figures['gpu_errors']}))}): "
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


def price_is_stand_in(summary: Summary) -> bool:
    """Declared so, or the study ran on a CPU: the price is one of a GPU's hour."""
    return bool(summary.study["study"]["price"]["is_stand_in"] or summary.study["device"] == "cpu")


def _dtypes(summary: Summary) -> dict[str, str | None]:
    """Variant -> dtype, of every variant that was started."""
    return {
        f"{facts['engine']}/{facts['variant']}": facts.get("dtype")
        for facts in summary.launches.values()
    }


def engine_facts(summary: Summary) -> list[dict[str, Any]]:
    """What ran: one entry a variant, from its first start."""
    made = []
    for label in dict.fromkeys(plan["label"] for plan in summary.study["plan"]):
        starts = [
            summary.launches[plan["id"]]
            for plan in summary.study["plan"]
            if plan["label"] == label and plan["id"] in summary.launches
        ]
        if starts:
            ready = [s["ready_s"] for s in starts if s.get("ready_s") is not None]
            made.append(
                {
                    "label": label,
                    "version": _version_text(starts[0].get("version")),
                    "settings": starts[0]["settings"],
                    "command": _portable(starts[0]["command"]),
                    "env": starts[0]["env"],
                    "ready": f"ready after {', '.join(f'{s:.0f}' for s in ready)} s"
                    if ready
                    else "never ready",
                }
            )
    return made


def _version_text(version: Any) -> str:
    if isinstance(version, dict):
        return ", ".join(f"{name} {value}" for name, value in version.items())
    return "not stated" if version is None else str(version)


def _portable(command: list[str]) -> str:
    """The command without the directories of the machine it ran on."""
    return " ".join(
        f"{name}={value.rsplit('/', 1)[-1]}" if found else word.rsplit("/", 1)[-1]
        for word in command
        for name, found, value in [word.partition("=")]
    )

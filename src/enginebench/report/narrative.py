"""The sentences of a report: each is made from the summary, or does not appear."""

from enginebench.base import load_level, stats
from enginebench.base.stats import Interval
from enginebench.hardware import roofline
from enginebench.metrics import cost
from enginebench.report.tables import interval_text
from enginebench.summarize import engine_configs
from enginebench.summarize.ranking import RATE, Place, Ranking, pareto, ranking
from enginebench.summarize.study_summary import Group, Summary, cells_of, paired_ratio

NOTHING = "No cell of this study is valid, so it says nothing about the engines."
NO_PRICE = (
    "No costs: the study file states no `price`. For the next run, name one of prices.yaml there, "
    "or give your own with its source (docs/study-file.md)."
)


def headline(summary: Summary) -> str:
    """The study in one sentence: who is first, or that the trials cannot tell."""
    found = ranking(summary)
    if found is None:
        return NOTHING
    first = found.places[0]
    where = f"{found.workload['name']}, {found.load_text}"
    if len(found.places) == 1:
        alone = f"{first.group.label} {_made(first, found, summary)} ({where})"
        return f"{alone}; no other variant was measured there."
    if first.worst > 1:
        level = [place.group.label for place in found.places if place.best == 1]
        text = f"Cannot rank the first: {_among(level)} may each be first ({where}); "
        return (
            f"{text}the best mean is {first.group.label}'s, which {_made(first, found, summary)}."
        )
    text = f"{first.group.label} is first ({where}): it {_made(first, found, summary)}"
    following = found.places[1].group.label
    if first.to_next is not None and following != summary.reference:
        text += f", {_times(first.to_next)} that of {following}, the next"
    return text + "."


def _made(place: Place, found: Ranking, summary: Summary) -> str:
    """What a variant did at the ranking's level, with its ratio to the reference."""
    group = place.group
    if found.figure != RATE:
        wait = group.figures[found.figure]
        return f"answers {interval_text(stats.scaled(wait, 1e3), 0)} ms after a request was due"
    text = f"makes {interval_text(group.figures[RATE], 0)} output tokens/s"
    if group.ratio is not None and group.label != summary.reference:
        text += f", {_times(group.ratio)} {summary.reference}"
    return text


def _among(labels: list[str]) -> str:
    return f"{', '.join(labels[:-1])} and {labels[-1]}"


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
    return found or [NOTHING]


def _answer(summary: Summary, workload: str, level: int, groups: list[Group]) -> str:
    ranked = sorted(groups, key=lambda group: -_rate(group))
    best = ranked[0]
    in_flight = "one request" if level == 1 else f"{level} requests"
    text = f"With {in_flight} in flight ({workload}), {best.label} has the best mean, "
    text += f"{_rate(best):.0f} output tokens/s"
    dtypes = engine_configs.dtypes(summary)
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

    waits = {
        group.label: found.mean
        for group in groups
        if (found := group.figures["ttft_planned_s_p50"]) is not None
    }
    answered = {
        group.label: f" ({found.mean:.3g} requests/s answered)"
        for group in groups
        if (found := group.figures["requests_per_s"]) is not None
    }
    parts = [
        f"{label} {waits[label] * 1e3:.0f} ms{answered.get(label, '')}"
        for label in sorted(waits, key=lambda label: waits[label])
    ]
    return (
        f"With {groups[0].level:.3g} requests/s offered ({workload}), the median time from the "
        f"moment a request was due to its first token was: {', '.join(parts)}."
    )


def hardware(summary: Summary) -> str:
    """What the machine can do at most, and what of it was reached where that was measured apart."""
    found = summary.study["ceiling"]
    text = "What this hardware can do at most is not known here, so nothing is held to it."
    if why := summary.study.get("ceiling_unknown"):
        text = f"{text[:-1]}: {why}."
    if found is not None:
        text = f"{found.name}, {found.source}: {_rates(found, None)}."
    if reached := summary.study.get("gpu_reached"):
        text += f" Measured in this study: {_rates(roofline.Ceiling(**reached), found)}."
    return text


def _rates(found: roofline.Ceiling, whole: roofline.Ceiling | None) -> str:
    """Memory and arithmetic rates, and what share of another ceiling they are."""

    def share(value: float, of: float | None) -> str:
        return f" ({value / of:.0%} of that)" if of else ""

    bandwidth = found.bandwidth_bytes_per_s
    part = share(bandwidth, whole.bandwidth_bytes_per_s if whole else None)
    parts = [f"memory {bandwidth / 1e9:,.0f} GB/s{part}"]
    for name, rate in sorted(found.flops_per_s.items()):
        part = share(rate, whole.flops_per_s.get(name) if whole else None)
        parts.append(f"{name} products {rate / 1e12:.3g} TFLOP/s{part}")
    return ", ".join(parts)


def _times(ratio: Interval) -> str:
    if ratio.low is None or ratio.high is None:
        return f"{ratio.mean:.1f} times (one trial, so no interval)"
    return (
        f"{ratio.mean:.1f} times (95 % interval {ratio.low:.1f} to {ratio.high:.1f}, "
        f"{ratio.trials} trials)"
    )


def _lead(summary: Summary, best: Group, second: Group) -> str:
    """Whether the first place is one: the best two, paired by trial."""
    ratio = paired_ratio(cells_of(summary, best), cells_of(summary, second))
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


def trades(summary: Summary) -> list[str]:
    """What a longer wait buys: the points that no other beats in latency and throughput."""
    said = []
    for workload in summary.study["study"]["workloads"]:
        found = pareto(summary, workload)
        if found is None:
            continue
        unit = "in flight" if workload["concurrency"] else "requests/s"
        parts = [
            f"{label} with {level:g} {unit} ({found.rates[label, level].mean:.0f} output tokens/s, "
            f"{found.latency[label, level]:.3g} s)"
            for label, level in found.front
        ]
        beaten = len(found.latency) - len(parts)
        of = f"Of {len(found.latency)} points of workload {workload['name']}, "
        said.append(
            f"{of}{beaten or 'none'} {'is' if beaten < 2 else 'are'} beaten by another in "
            f"throughput and latency both; by the means there remain: {', '.join(parts)}."
        )
    return said


def costs(summary: Summary) -> list[str]:
    """The cheapest variant at its best level, a sentence a workload; or why there are no costs."""
    if cost.recorded_price(summary.study) is None:
        return [NO_PRICE]
    said = []
    for workload in summary.study["study"]["workloads"]:
        cheapest: dict[str, tuple[float, Group]] = {}
        for group in summary.groups:
            found = group.figures["usd_per_million_output_tokens"]
            if group.workload == workload["name"] and found:
                best = cheapest.get(group.label, (float("inf"), group))
                cheapest[group.label] = min(best, (found.mean, group), key=lambda pair: pair[0])
        if len(cheapest) < 2:
            continue
        ranked = sorted(cheapest.values(), key=lambda pair: pair[0])
        texts = [
            f"{group.label} {interval_text(group.figures['usd_per_million_output_tokens'], 2)} "
            f"({load_level.load_text(group.concurrency, group.rate)})"
            for _, group in ranked
        ]
        said.append(
            f"A million output tokens of workload {workload['name']}, each at its cheapest level, "
            f"in USD: {', '.join(texts)}."
        )
    return said

"""The sentences of a report: each is one claim, made from the summary, or does not appear."""

from collections.abc import Mapping

from enginebench.base import stats
from enginebench.base.estimator import Comparison, Interval, Ratio
from enginebench.base.load_level import load_text
from enginebench.hardware import roofline
from enginebench.metrics import cost
from enginebench.report import formats
from enginebench.summarize import engine_configs
from enginebench.summarize.cheapest import Cheapest, cheapest
from enginebench.summarize.groups import COST, RATE, Group
from enginebench.summarize.ranking import WAIT, Place, Ranking, groups_at, pareto, ranking
from enginebench.summarize.study_summary import Summary, levels

NOTHING = "No cell of this study is valid, so it says nothing about the engines."
NO_PRICE = (
    "No costs: the study file states no `price`. For the next run, name one of prices.yaml there, "
    "or give your own with its source (docs/study-file.md)."
)
OPEN_LOOP_COST = (
    "At an offered rate that an engine can follow, a machine costs the same whatever runs on it: "
    "costs are compared in closed loops only."
)


def headline(summary: Summary) -> str:
    """The study in one or two sentences: who is first, or that the trials cannot tell."""
    found = ranking(summary)
    if found is None:
        return NOTHING
    first = found.places[0]
    label = first.group.label
    where = f"{found.workload.name}: {found.outputs_text}, {found.load_text}"
    if len(found.places) == 1:
        alone = f"{label} {_made(first, found, summary)} ({where})"
        return f"{alone}; no other variant was measured there."
    if not found.comparison.is_sole_first:
        best = f"The best estimate is {label}’s: it {_made(first, found, summary)}."
        return f"{_no_sole_first(found, where)} {best}"
    text = f"{label} is first ({where}): it {_made(first, found, summary)}"
    following = found.places[1].group.label
    if first.to_next is not None and following != summary.reference:
        as_many = "as many as" if found.figure == RATE else "the time of"
        text += f", {formats.times(first.to_next)} {as_many} {following}, the next"
    return text + "."


def _no_sole_first(found: Ranking, where: str) -> str:
    """Who may be first, and what the comparison says of these."""
    order, comparison = found.comparison.order, found.comparison
    against = {label: comparison.ratio(order[0], label) for label in order[1:]}
    close = [label for label, r in against.items() if r is None or r.verdict != "apart"]
    close = [label for label in close if comparison.places[label][0] == 1] or close
    among = formats.listed([order[0], *close])
    if all(ratio and ratio.verdict == "tie" for ratio in map(against.get, close)):
        return f"{among} tie for the first place ({where})."
    return f"Cannot rank the first: {among} may each be first ({where})."


def _made(place: Place, found: Ranking, summary: Summary) -> str:
    """What a variant did at the ranking's level, with its ratio to the reference."""
    group = place.group
    if found.figure != RATE:
        wait = group.figures[found.figure]
        return f"answers {formats.interval(stats.scaled(wait, 1e3), 0)} ms after a request was due"
    text = f"makes {formats.interval(group.figures[RATE], 0)} output tokens/s"
    if group.ratio is not None and group.label != summary.reference:
        text += f", {formats.times(group.ratio)} as many as {summary.reference}"
    return text


def answers(summary: Summary) -> list[str]:
    """What the study found, a paragraph for each workload at its highest level."""
    found = []
    for workload in summary.study.study.workloads:
        level = max(levels(workload))
        figure = RATE if workload.concurrency else WAIT
        comparison = summary.comparisons.get((workload.name, level, figure))
        if comparison is None or not comparison.order:
            continue
        groups = groups_at(summary, workload.name, level)
        said = _answer if workload.concurrency else _open_answer
        found.append(" ".join(said(summary, workload.name, comparison, groups)))
    return found or [NOTHING]


def _answer(
    summary: Summary, workload: str, comparison: Comparison, groups: Mapping[str, Group]
) -> list[str]:
    first = comparison.order[0]
    level = groups[first].concurrency
    in_flight = "one request" if level == 1 else f"{level} requests"
    rates = [f"{label} {comparison.means[label].mean:,.0f}" for label in comparison.order]
    said = [f"With {in_flight} in flight ({workload}), output tokens/s: {', '.join(rates)}."]
    if len(comparison.order) > 1:
        said.append(_between(comparison, first, comparison.order[1]))
    return said + _against_reference(summary, comparison)


def _between(comparison: Comparison, a: str, b: str) -> str:
    """What the comparison says of two variants' output tokens/s, the better estimate first."""
    ratio = comparison.ratio(a, b)
    if ratio is not None and ratio.verdict == "apart":
        return f"{a} is {formats.times(ratio)} as fast as {b}."
    return _not_apart(ratio, a, b, "is faster")


def _between_waits(comparison: Comparison, a: str, b: str) -> str:
    """The same of the time to the first token."""
    ratio = comparison.ratio(a, b)
    if ratio is not None and ratio.verdict == "apart":
        return f"{a} answers sooner than {b}: the ratio of the times is {formats.factor(ratio)}."
    return _not_apart(ratio, a, b, "answers sooner")


def _not_apart(ratio: Ratio | None, a: str, b: str, is_better: str) -> str:
    if ratio is None:
        return f"No trial has valid cells of {a} and {b}, so their order is not tested."
    if ratio.verdict == "tie":
        return f"{a} and {b} are a tie: the ratio is {formats.factor(ratio)}."
    return f"The trials cannot tell which of {a} and {b} {is_better}: {formats.factor(ratio)}."


def _against_reference(summary: Summary, comparison: Comparison) -> list[str]:
    """The first against the reference, and the best of the reference's own dtype against it."""
    reference, order = summary.reference, comparison.order
    if reference not in order:
        return []
    dtypes = engine_configs.dtypes(summary)
    own, against = dtypes.get(order[0]), dtypes.get(reference)
    said = []
    if reference not in order[:2] and (ratio := comparison.ratio(order[0], reference)):
        in_dtypes = f" ({own} against {against})" if own != against else ""
        said.append(f"{order[0]} is {formats.times(ratio)} as fast as {reference}{in_dtypes}.")
    same = [label for label in order if dtypes.get(label) == against and label != reference]
    if own != against and same and (ratio := comparison.ratio(same[0], reference)):
        text = f"Within {against}, {same[0]} is {formats.times(ratio)} as fast as {reference}"
        word = "" if ratio.verdict == "apart" else f" ({ratio.verdict})"
        said.append(f"{text}{word}.")
    return said


def _open_answer(
    _: Summary, workload: str, comparison: Comparison, groups: Mapping[str, Group]
) -> list[str]:
    """At a given rate of requests engines differ in how long they let wait, not in how much."""
    parts = []
    for label in comparison.order:
        answered = groups[label].figures["requests_per_s"]
        rate = f" ({answered.mean:.3g} requests/s answered)" if answered else ""
        parts.append(f"{label} {comparison.means[label].mean * 1e3:.0f} ms{rate}")
    said = [
        f"With {groups[comparison.order[0]].level:.3g} requests/s offered ({workload}), the median "
        f"time from the moment a request was due to its first token was: {', '.join(parts)}."
    ]
    if len(comparison.order) > 1:
        said.append(_between_waits(comparison, *comparison.order[:2]))
    return said


def hardware(summary: Summary) -> str:
    """What the machine can do at most, and what of it was reached where that was measured apart."""
    found = summary.ceiling
    text = "What this hardware can do at most is not known here, so nothing is held to it."
    if why := summary.study.ceiling_unknown:
        text = f"{text[:-1]}: {why}."
    if found is not None:
        text = f"{found.name}, {found.source}: {_rates(found, None)}."
    if reached := summary.gpu_reached:
        text += f" Measured in this study: {_rates(reached, found)}."
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


def trades(summary: Summary) -> list[str]:
    """What a longer wait buys: the points that no other beats in latency and throughput."""
    said = []
    for workload in summary.study.study.workloads:
        found = pareto(summary, workload)
        if found is None:
            continue
        unit = "in flight" if workload.concurrency else "requests/s"
        parts = [
            f"{label} with {level:g} {unit} ({found.rates[label, level].mean:.0f} output tokens/s, "
            f"{found.latency[label, level]:.3g} s)"
            for label, level in found.front
        ]
        beaten = len(found.latency) - len(parts)
        of = f"Of {len(found.latency)} points of workload {workload.name}, "
        said.append(
            f"{of}{beaten or 'none'} {'is' if beaten < 2 else 'are'} beaten by another in "
            f"throughput and latency both; by the means these are not: {', '.join(parts)}."
        )
    return said


def costs(summary: Summary) -> list[str]:
    """What a million output tokens cost, sentences for each closed loop; or why there is no cost.

    At one level the variants are compared with each other. A variant's levels are compared, too,
    before one of them is called its cheapest.
    """
    if cost.recorded_price(summary.study) is None:
        return [NO_PRICE]
    said = []
    workloads = summary.study.study.workloads
    for workload in workloads:
        if not workload.concurrency:
            continue
        name, level = workload.name, max(workload.concurrency)
        comparison = summary.comparisons.get((name, level, COST))
        if comparison is None or not comparison.order:
            continue
        texts = [f"{label} {_usd(comparison.means[label])}" for label in comparison.order]
        said.append(
            f"USD for a million output tokens of workload {name}, {load_text(level, None)}: "
            f"{', '.join(texts)}."
        )
        said += [_cheapest_text(summary, name, found) for found in cheapest(summary, workload)]
    open_loops = any(not workload.concurrency for workload in workloads)
    return said + ([OPEN_LOOP_COST] if open_loops else [])


def _cheapest_text(summary: Summary, workload: str, found: Cheapest) -> str:
    """Of the levels of one variant; an estimate is named where it is apart from all others."""
    if len(found.levels) == found.measured:
        return f"No level of {workload} is shown to be the cheapest of {found.label}."
    if len(found.levels) > 1:
        levels = formats.listed([f"{level}" for level in sorted(found.levels)])
        return (
            f"The cheapest level of {workload} for {found.label} is one of {levels} in flight: the "
            "trials cannot tell which."
        )
    (level,) = found.levels
    usd = _usd(summary.comparisons[workload, level, COST].means[found.label])
    return f"{found.label} is cheapest with {level} in flight ({workload}): {usd}."


def _usd(found: Interval) -> str:
    return formats.interval(found, 2)

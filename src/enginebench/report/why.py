"""Which optimization gave what: the sentences and tables of a report. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from enginebench.base import stats
from enginebench.base.estimator import Interval, Ratio
from enginebench.base.load_level import load_text
from enginebench.record.schema_decomposition import Decomposition
from enginebench.report import formats
from enginebench.report.formats import GIB, NOT_MEASURED
from enginebench.report.memory_report import Table
from enginebench.summarize.attribution import Factorial, Gap, Ladder, Leader
from enginebench.summarize.decomposed import Attribution, attributions, main_figure
from enginebench.summarize.groups import COMPARED, COST, RATE
from enginebench.summarize.ranking import WAIT
from enginebench.summarize.study_summary import Summary, workload_of

#: Figure -> its name, its unit, factor from SI, digits after the point.
SHOWN: Mapping[str, tuple[str, str, float, int]] = {
    RATE: ("output tokens/s", "output tokens/s", 1, 0),
    WAIT: ("TTFT from due p50", "ms", 1e3, 0),
    "ttft_s_p50": ("TTFT p50", "ms", 1e3, 0),
    "tpot_s_p50": ("TPOT p50", "ms", 1e3, 1),
    "memory_peak_bytes": ("memory", "GiB", 1 / GIB, 2),
    "gpu_memory_peak_bytes": ("GPU memory", "GiB", 1 / GIB, 2),
    COST: ("USD/M output", "USD/M output", 1, 2),
}
#: How a figure is worse; times and rates are slower.
WORSE = {
    "memory_peak_bytes": "needs more memory than",
    "gpu_memory_peak_bytes": "needs more memory than",
    COST: "costs more than",
}
#: What the figures of the section mean.
LEGEND = (
    "A factor is a figure over that of the rung before; it and its word are from the comparison "
    "of all variants of the level, with an interval for all its pairs at once. The factors of a "
    "ladder multiply to the whole. Of switches, alone is one on over none, last is all on over all "
    "but it. The Shapley factor is the geometric mean of what a switch gives over all orders of "
    "switching on: these factors multiply to the whole, and shares of its logarithm add up to "
    "100 %; their intervals are each their own. Two switches interact where both together differ "
    "from the product of what each gives, in the mean over the others; these intervals hold for "
    "all pairs of switches at once. A part is named as the one that gives most only if it is apart "
    "from every other. Levels and figures are not corrected for each other."
)
SWITCH_HEADINGS = [
    "figure",
    "switch",
    "alone, × none",
    "last, × all but it",
    "Shapley factor",
    "share of the whole",
]


@dataclass(frozen=True, slots=True)
class Level:
    """A decomposition at one level of load."""

    heading: str
    tables: list[Table]
    notes: list[str]


@dataclass(frozen=True, slots=True)
class Why:
    """One decomposition: its answer at every level, and what that rests on."""

    title: str
    answers: list[str]
    levels: list[Level]
    not_run: Table  # empty: every run has figures


def whys(summary: Summary) -> list[Why]:
    """One entry a decomposition of the study."""
    found = attributions(summary)
    made = []
    for decomposed in summary.study.study.decompositions:
        own = [one for one in found if one.decomposition == decomposed.name]
        at_levels = groupby(own, key=lambda one: (one.workload, one.level))
        main = [one for one in own if one.figure == _main(summary, one)]
        made.append(
            Why(
                title=decomposed.title or decomposed.name,
                answers=[text for one in main for text in sentences(summary, one)]
                or ["None of its runs was planned, so it has no figure."],
                levels=[_level(summary, decomposed, list(group)) for _, group in at_levels],
                not_run=_not_run(summary, main),
            )
        )
    return made


def answers(summary: Summary) -> list[str]:
    """The answers of all decompositions, for a terminal."""
    return [text for found in whys(summary) for text in found.answers]


def where(summary: Summary, workload: str, level: float) -> str:
    """A level of load in words."""
    is_closed = bool(workload_of(summary, workload).concurrency)
    return f"{workload}, {load_text(int(level), None if is_closed else level)}"


def _main(summary: Summary, found: Attribution) -> str:
    return main_figure(workload_of(summary, found.workload))


def sentences(summary: Summary, found: Attribution) -> list[str]:
    """What gave most by one figure, or that the trials cannot tell; interactions that are sure."""
    place = f"{SHOWN[found.figure][0]}, {where(summary, found.workload, found.level)}"
    is_more_better = COMPARED[found.figure] == "higher"
    said = []
    if (ladder := found.ladder) is not None:
        parts = {step.changes: step.factor.together for step in ladder.steps}
        ends = (ladder.first, ladder.last)
        way = f"{place}; from {ladder.first} to {ladder.last}" if ladder.whole else place
        said.append(_sentence(ladder.whole, ladder.leader, parts, ends, way, is_more_better))
        said += _behind(summary, found, ladder, place)
    if (factorial := found.factorial) is not None:
        parts = {one.name: one.shapley for one in factorial.switches if one.shapley}
        ends, place = ("none of the switches", "all switches"), f"{place}; fair shares of switches"
        whole, leader = factorial.whole, factorial.leader
        said.append(_sentence(whole, leader, parts, ends, place, is_more_better))
        said += [
            f"{one.a} and {one.b} interact: together {formats.bare(one.factor)} times the product "
            f"of what each gives ({place})."
            for one in factorial.interactions
            if one.verdict == "apart"
        ]
    return said


def _behind(summary: Summary, found: Attribution, ladder: Ladder, place: str) -> Iterator[str]:
    """That the last rung is worse than the best, if that is shown; the first is the whole's."""
    if ladder.between is None:
        return
    first, last = ladder.between
    names = {first: ladder.first, **{step.run: step.name for step in ladder.steps}}
    runs = summary.comparisons[found.workload, found.level, found.figure]
    best = next(label for label in runs.order if label in names)
    ratio = runs.ratio(last, best)
    if best not in (first, last) and ratio is not None and ratio.verdict == "apart":
        word = WORSE.get(found.figure, "is slower than")
        factor = formats.bare(ratio.together)
        yield f"The last rung, {ladder.last}, {word} {names[best]}: {factor} times ({place})."


def _sentence(
    whole: Ratio | None,
    leader: Leader | None,
    parts: Mapping[str, Interval],
    ends: tuple[str, str],
    place: str,
    is_more_better: bool,
) -> str:
    first, last = ends
    if whole is None:
        return f"Cannot tell what gave how much: too few of its runs have a figure ({place})."
    text = formats.bare(whole.together)
    if whole.verdict == "tie":
        return f"No gain to explain here: {last} over {first} is a tie, {text} times ({place})."
    if whole.verdict == "cannot tell":
        return f"Cannot tell whether {last} gains anything over {first}: {text} times ({place})."
    word = "gain" if (whole.together.mean > 1) == is_more_better else "loss"
    of = f"of {whole.together.mean:.{formats.digits(whole.together.mean)}f} times ({place})."
    if leader is None:
        return f"Cannot tell what gave most of the {word} here: its parts are not all known, {of}"
    if len(leader.names) == 1:
        (name,) = leader.names
        how = "Most" if leader.is_most else "The largest part"
        return f"{how} of the {word} here comes from {name}: {formats.bare(parts[name])} {of}"
    factors = formats.listed([formats.bare(parts[name]) for name in leader.names])
    names = formats.listed(list(leader.names))
    return f"Cannot tell which of {names} gave most of the {word} here: {factors} {of}"


def _level(summary: Summary, decomposed: Decomposition, found: Sequence[Attribution]) -> Level:
    """The tables of one level: a column a figure for the steps, a row a figure for the switches."""
    tables: list[Table] = []
    notes: list[str] = []
    ladders = [(one.figure, one.ladder) for one in found if one.ladder]
    factorials = [(one.figure, one.factorial) for one in found if one.factorial]
    if ladders:
        tables.append(_steps(decomposed, ladders))
    if factorials:
        tables += _switches(factorials)
        notes += _fractions(factorials)
    for one in found[1:]:  # the first is the main figure, whose sentences come before all tables
        notes += sentences(summary, one)
    first = found[0]
    return Level(where(summary, first.workload, first.level), tables, notes)


def _steps(decomposed: Decomposition, ladders: Sequence[tuple[str, Ladder]]) -> Table:
    """A row a rung and one for the whole, a column a figure."""
    columns = [_step_column(decomposed, ladder) for _, ladder in ladders]
    shares = {step.run: _percent(step.share) for step in ladders[0][1].steps}
    rows = []
    for index, rung in enumerate(decomposed.ladder):
        texts = [column[index] for column in columns]
        rows.append([rung.name, rung.run, texts[0], shares.get(rung.run, ""), *texts[1:]])
    wholes = [_ratio_text(ladder.whole) for _, ladder in ladders]
    rows.append(["the whole", "", wholes[0], "100 %" if ladders[0][1].whole else "", *wholes[1:]])
    names = [SHOWN[figure][0] for figure, _ in ladders]
    headings = ["change", "run", f"{names[0]}, × before", "share of the whole"]
    return Table([*headings, *(f"{name}, × before" for name in names[1:])], rows)


def _step_column(decomposed: Decomposition, ladder: Ladder) -> list[str]:
    """What one figure says of every rung."""
    texts = {gap.run: "not measured" for gap in ladder.gaps}
    for step in ladder.steps:
        skipped = f", with {formats.listed(list(step.skipped))}" if step.skipped else ""
        texts[step.run] = f"{_ratio_text(step.factor)}{skipped}"
    return [texts.get(rung.run, "1") for rung in decomposed.ladder]


def _switches(factorials: Sequence[tuple[str, Factorial]]) -> Iterator[Table]:
    """What every switch gives by every figure, and the interactions whose interval leaves 1."""
    rows: list[list[str]] = []
    pairs: list[list[str]] = []
    for figure, found in factorials:
        name = SHOWN[figure][0]
        rows += [
            [
                name,
                one.name,
                _ratio_text(one.first_in),
                _ratio_text(one.last_in),
                f"{formats.bare(one.shapley)}×" if one.shapley else NOT_MEASURED,
                _percent(one.share),
            ]
            for one in found.switches
        ]
        rows.append([name, "all of them", _ratio_text(found.whole), "", "", ""])
        pairs += [
            [name, f"{one.a} and {one.b}", f"{formats.bare(one.factor)}× {one.verdict}"]
            for one in found.interactions
            if one.verdict == "apart"
        ]
    yield Table(SWITCH_HEADINGS, rows)
    if pairs:
        yield Table(["figure", "interaction", "together × the product of each"], pairs)


def _fractions(factorials: Sequence[tuple[str, Factorial]]) -> Iterator[str]:
    """What is not known of interactions, and what the shares rest on where runs are missing."""
    for figure, found in factorials:
        words = [one.verdict for one in found.interactions]
        if words and (left := [word for word in ("tie", "cannot tell") if word in words]):
            counts = formats.listed([f"{words.count(word)} {word}" for word in left])
            yield f"Other pairs, by {SHOWN[figure][0]}: {counts}; a tie is no interaction."
        if found.measured < found.combinations:
            yield (
                f"{found.measured} of {found.combinations} combinations have a figure "
                f"({SHOWN[figure][0]}): shares and interactions assume that no three switches act "
                f"together, and {NOT_MEASURED} does not follow from what was measured."
            )


def _not_run(summary: Summary, main: Sequence[Attribution]) -> Table:
    """Rungs and combinations without the main figure, with the reason and the levels."""
    places: dict[tuple[str, str], tuple[dict[str, None], dict[str, None]]] = {}
    for one in main:
        gaps: list[Gap] = [*(one.ladder.gaps if one.ladder else ())]
        gaps += one.factorial.gaps if one.factorial else ()
        at = where(summary, one.workload, one.level)
        for gap in gaps:
            names, levels = places.setdefault((gap.run, gap.reason), ({}, {}))
            names[gap.name] = levels[at] = None
    rows = [
        [
            " / ".join(names),
            run,
            "every level" if len(levels) == len(main) else "; ".join(levels),
            reason,
        ]
        for (run, reason), (names, levels) in places.items()
    ]
    return Table(["rung or combination", "run", "at", "why it has no figure"], rows)


def _ratio_text(found: Ratio | None) -> str:
    return NOT_MEASURED if found is None else f"{formats.bare(found.together)}× {found.verdict}"


def _percent(found: Interval | None) -> str:
    if found is None or found.low is None:  # of a whole that may be none, a share says nothing
        return NOT_MEASURED
    return f"{formats.interval(stats.scaled(found, 100), 0)} %"

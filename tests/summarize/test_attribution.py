"""Ladders and factorials whose truth is known: steps, shares, interactions, and what is said."""

import math
from itertools import combinations, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from project import ROOT

from enginebench.base.estimator import compare
from enginebench.plan import study_file
from enginebench.record.schema_decomposition import Decomposition, Rung
from enginebench.summarize import attribution, dividends

BLOCKS = (0.0, 0.4, -0.3)
#: Small deviations that are not those of any block.
NOISE = ((0.01, -0.01, 0.0), (-0.01, 0.0, 0.01), (0.0, 0.01, -0.01), (0.01, 0.0, -0.01))


def compared(logs, noise=0.0, missing=()):
    """Variants with these logs in three trials that differ."""
    return compare(
        {
            label: {
                trial: None
                if (label, trial) in missing
                else math.exp(log + block + noise * NOISE[row % 4][trial])
                for trial, block in enumerate(BLOCKS)
            }
            for row, (label, log) in enumerate(logs.items())
        }
    )


def rungs(*names):
    return [Rung(name=name, run=f"e/{name}") for name in names]


def climbed(logs, **how):
    """The ladder of runs in this order; None: it has no figure."""
    known = {f"e/{name}": log for name, log in logs.items() if log is not None}
    return attribution.ladder(rungs(*logs), compared(known, **how), lambda label: f"no {label}")


def product(steps):
    return math.prod(step.factor.together.mean for step in steps)


def test_the_factors_of_a_ladder_multiply_to_the_whole_with_cells_missing():
    found = climbed(
        {"a": 0.0, "b": 1.6, "c": 1.7, "d": 2.1}, noise=1.0, missing={("e/b", 0), ("e/c", 2)}
    )
    assert [step.name for step in found.steps] == ["b", "c", "d"]
    assert product(found.steps) == pytest.approx(found.whole.together.mean, rel=1e-12)
    assert (found.first, found.last, found.gaps) == ("a", "d", ())
    assert [step.factor.verdict for step in found.steps] == ["apart", "apart", "apart"]
    assert sum(step.share.mean for step in found.steps) == pytest.approx(1)
    assert found.leader == attribution.Leader(("b",), True)


def test_a_rung_without_a_figure_is_named_and_the_next_step_says_that_it_has_two_changes():
    found = climbed({"a": 0.0, "b": None, "c": 1.0, "d": 1.5})
    assert found.gaps == (attribution.Gap("b", "e/b", "no e/b"),)
    assert [(step.name, step.skipped) for step in found.steps] == [("c", ("b",)), ("d", ())]
    assert found.steps[0].factor.together.mean == pytest.approx(math.exp(1.0))
    assert product(found.steps) == pytest.approx(found.whole.together.mean)


def test_a_ladder_is_measured_from_its_lowest_to_its_highest_rung_with_a_figure():
    found = climbed({"a": None, "b": 0.0, "c": 1.0, "d": None})
    assert (found.first, found.last, found.between) == ("b", "c", ("e/b", "e/c"))
    assert [gap.name for gap in found.gaps] == ["a", "d"]
    assert [step.skipped for step in found.steps] == [()]


def test_a_ladder_with_one_rung_measured_or_none_says_nothing():
    for logs in ({"a": 1.0, "b": None}, {"a": None, "b": None}):
        found = climbed(logs)
        assert (found.steps, found.whole, found.leader) == ((), None, None)


def test_rungs_that_no_trial_links_are_a_gap():
    found = attribution.ladder(
        rungs("a", "b", "c"),
        compare({"e/a": {1: 1.0, 2: 1.0}, "e/b": {1: 2.0, 2: 2.0}, "e/c": {3: 4.0}}),
        str,
    )
    assert found.gaps == (attribution.Gap("c", "e/c", attribution.UNLINKED),)
    assert found.whole.together.mean == pytest.approx(2)


def test_the_trials_may_not_tell_which_step_gave_most():
    found = climbed({"a": 0.0, "b": 1.0, "c": 2.001, "d": 2.05}, noise=1.0)
    assert found.leader == attribution.Leader(("c", "b"), False)


def test_the_largest_of_many_steps_need_not_be_most():
    logs = dict(zip("abcdef", (0.0, 0.5, 0.8, 1.1, 1.4, 1.7), strict=True))
    assert climbed(logs, noise=0.1).leader == attribution.Leader(("b",), False)


def test_a_loss_is_led_by_the_step_that_lost_most():
    assert climbed({"a": 0.0, "b": 0.2, "c": -1.5, "d": -1.6}).leader.names == ("c",)


def test_a_whole_that_is_not_apart_from_1_has_no_leader():
    found = climbed({"a": 0.0, "b": 1.0, "c": 0.001}, noise=1.0)
    assert (found.whole.verdict, found.leader) == ("tie", None)


def test_one_trial_has_factors_and_no_leader():
    found = attribution.ladder(rungs("a", "b"), compare({"e/a": {1: 1.0}, "e/b": {1: 3.0}}), str)
    assert found.steps[0].factor.together.mean == pytest.approx(3)
    assert (found.steps[0].share.low, found.leader) == (None, None)


def decomposed(names, left_out=()):
    """All combinations of switches, each a run called by its switches, less those left out."""
    runs = {
        f"e/{''.join(on) or 'none'}": list(on)
        for size in range(len(names) + 1)
        for on in combinations(names, size)
        if on not in left_out
    }
    return Decomposition(name="d", switches=list(names), runs=runs)


def split(names, log_of, left_out=(), **how):
    """The factorial of these switches, whose runs have the log that log_of gives them."""
    planned = decomposed(names, left_out)
    logs = {label: log_of(on) for label, on in planned.runs.items()}
    return attribution.factorial(planned, compared(logs, **how), lambda label: f"no {label}")


def by_orders(names, log_of):
    """Shapley values as the definition has them: the mean over all orders of switching on."""
    orders = list(permutations(names))
    gains = dict.fromkeys(names, 0.0)
    for order in orders:
        for place, name in enumerate(order):
            gains[name] += log_of(order[: place + 1]) - log_of(order[:place])
    return {name: gain / len(orders) for name, gain in gains.items()}


def test_two_switches_by_hand():
    logs = {frozenset(): 0.0, frozenset("a"): 1.0, frozenset("b"): 2.0, frozenset("ab"): 5.0}
    found = split("ab", lambda on: logs[frozenset(on)])
    a, b = found.switches
    assert (a.first_in.alone.mean, b.first_in.alone.mean) == (
        pytest.approx(math.exp(1)),
        pytest.approx(math.exp(2)),
    )
    # 5 - 2 and 5 - 1; half of first and last: (1 + 3) / 2 and (2 + 4) / 2.
    assert (a.last_in.alone.mean, b.last_in.alone.mean) == (
        pytest.approx(math.exp(3)),
        pytest.approx(math.exp(4)),
    )
    assert (math.log(a.shapley.mean), math.log(b.shapley.mean)) == (
        pytest.approx(2),
        pytest.approx(3),
    )
    assert (a.share.mean, b.share.mean) == (pytest.approx(0.4), pytest.approx(0.6))
    (one,) = found.interactions
    assert (one.a, one.b, one.verdict) == ("a", "b", "apart")
    assert math.log(one.factor.mean) == pytest.approx(5 - 1 - 2)
    assert found.leader == attribution.Leader(("b",), True)


@given(st.integers(1, 4), st.lists(st.floats(-2, 2), min_size=16, max_size=16))
def test_shapley_factors_are_the_mean_over_orders_and_multiply_to_the_whole(count, given_logs):
    names = "abcd"[:count]

    def log_of(on):
        return given_logs[sum(1 << names.index(name) for name in on)]

    found = split(names, log_of)
    expected = by_orders(names, log_of)
    for one in found.switches:
        assert math.log(one.shapley.mean) == pytest.approx(expected[one.name], abs=1e-9)
    assert math.prod(one.shapley.mean for one in found.switches) == pytest.approx(
        found.whole.together.mean, rel=1e-9
    )


def test_six_switches_are_split_exactly():
    size = {name: 0.1 * (i + 1) for i, name in enumerate("abcdef")}

    def log_of(on):  # one pair and one triple act together
        pair = 0.6 if {"a", "b"} <= set(on) else 0.0
        return sum(size[name] for name in on) + pair + (0.3 if set("cde") <= set(on) else 0.0)

    found = split("abcdef", log_of)
    assert (found.measured, found.combinations) == (64, 64)
    expected = dict(size)
    for name, more in (("a", 0.3), ("b", 0.3), ("c", 0.1), ("d", 0.1), ("e", 0.1)):
        expected[name] += more
    for one in found.switches:
        assert math.log(one.shapley.mean) == pytest.approx(expected[one.name])
    pairs = {(one.a, one.b): math.log(one.factor.mean) for one in found.interactions}
    assert len(pairs) == 15
    assert pairs["a", "b"] == pytest.approx(0.6)
    # c and d act together only where e is on: in half of the settings of the others.
    assert pairs["c", "d"] == pytest.approx(0.15)
    assert pairs["a", "f"] == pytest.approx(0, abs=1e-9)


def pairwise_log(on):
    size = {"a": 1.0, "b": 0.5, "c": 0.2, "d": 0.1}
    return sum(size[name] for name in on) + (0.4 if {"a", "b"} <= set(on) else 0.0)


@pytest.mark.parametrize("left_out", [(("a", "c"),), (("a", "c"), ("b", "d"), ("a", "b", "d"))])
def test_a_fraction_gives_what_pairs_alone_explain_and_shares_add_up(left_out):
    found = split("abcd", pairwise_log, left_out)
    assert (found.measured, found.combinations) == (16 - len(left_out), 16)
    expected = {"a": 1.2, "b": 0.7, "c": 0.2, "d": 0.1}
    for one in found.switches:
        assert math.log(one.shapley.mean) == pytest.approx(expected[one.name])
    assert sum(one.share.mean for one in found.switches) == pytest.approx(1)
    assert {(one.a, one.b) for one in found.interactions if one.verdict == "apart"} == {("a", "b")}


def test_shares_of_a_fraction_add_up_where_three_switches_do_act_together():
    def log_of(on):
        return pairwise_log(on) + (0.3 if set("abc") <= set(on) else 0.0)

    found = split("abcd", log_of, (("a", "c"),), noise=1.0)
    assert math.prod(one.shapley.mean for one in found.switches) == pytest.approx(
        found.whole.together.mean
    )


def test_of_too_few_runs_what_they_say_is_said_and_the_rest_is_not():
    chain = [(), ("a",), ("a", "b"), ("a", "b", "c")]
    runs = {f"e/{len(on)}": list(on) for on in chain}
    planned = Decomposition(name="d", switches=list("abc"), runs=runs)
    found = attribution.factorial(planned, compared({f"e/{i}": float(i) for i in range(4)}), str)
    assert [bool(one.first_in) for one in found.switches] == [True, False, False]
    assert [bool(one.last_in) for one in found.switches] == [False, False, True]
    assert {one.shapley for one in found.switches} == {None}
    assert (found.interactions, found.leader, found.measured) == ((), None, 4)
    assert found.whole.together.mean == pytest.approx(math.exp(3))


def test_a_combination_that_failed_is_a_gap_and_makes_a_fraction_of_the_rest():
    planned = decomposed("abc")
    logs = {label: pairwise_log(on) for label, on in planned.runs.items() if label != "e/ac"}
    found = attribution.factorial(planned, compared(logs), lambda label: f"no {label}")
    assert found.gaps == (attribution.Gap("a + c", "e/ac", "no e/ac"),)
    assert found.measured == 7
    assert math.log(found.switches[0].shapley.mean) == pytest.approx(1.2)


def test_without_the_run_of_all_switches_there_is_no_whole_to_share():
    planned = decomposed("ab")
    logs = {label: pairwise_log(on) for label, on in planned.runs.items() if label != "e/ab"}
    found = attribution.factorial(planned, compared(logs), str)
    assert (found.whole, found.between, found.leader) == (None, None, None)
    assert found.switches[0].first_in.alone.mean == pytest.approx(math.e)
    assert (found.switches[0].last_in, found.switches[0].shapley) == (None, None)


def test_a_record_with_runs_of_unknown_switches_or_none_at_all_is_read():
    planned = Decomposition(name="d", switches=["a"], runs={"e/x": ["z"], "e/y": ["a", "a"]})
    found = attribution.factorial(planned, compared({"e/x": 0.0, "e/y": 1.0}), str)
    assert (found.whole, found.measured) == (None, 1)
    twice = [*rungs("a", "b"), Rung(name="again", run="e/a")]
    assert attribution.ladder(twice, compared({"e/a": 0.0, "e/b": 1.0}), str).whole is not None


def test_interactions_that_the_trials_cannot_tell_are_not_called_apart():
    found = split("abc", lambda on: float(len(on)), noise=3.0)
    assert [one.verdict for one in found.interactions] != ["apart"] * 3
    for one in found.interactions:
        assert one.factor.low < 1 < one.factor.high


@pytest.mark.parametrize(
    "path", sorted((ROOT / "studies").glob("decompose-*.yaml")), ids=lambda path: path.stem
)
def test_the_runs_of_a_study_determine_every_switch_and_every_pair(path):
    for made in study_file.load(path).decompositions:
        count = len(made.switches)
        runs = {
            sum(1 << made.switches.index(name) for name in on): label
            for label, on in made.runs.items()
        }
        assert all(dividends.shapley(index, count, runs) for index in range(count))
        assert all(
            dividends.interaction(i, j, count, runs) for i, j in combinations(range(count), 2)
        )

"""Groups and comparisons of a record whose every time is set."""

import dataclasses
import gzip
import itertools
import json

import made_record
import pytest

from enginebench.report import narrative
from enginebench.summarize.cheapest import cheapest
from enginebench.summarize.groups import AVERAGED, COMPARED, COST, RATE
from enginebench.summarize.study_summary import summarize, workload_of

FACTORS = {"slow/plain": (2, 2.2, 1.9), "quick/plain": (1, 1.05, 1.1), "quick/tuned": (1.02, 1, 1)}


@pytest.fixture
def summary(tmp_path):
    return summarize(made_record.write(tmp_path / "made", FACTORS))


def group(summary, label, level):
    (found,) = (g for g in summary.groups if (g.label, g.level) == (label, level))
    return found


def test_a_group_s_figures_and_ratio_are_those_of_the_comparison(summary):
    found = summary.comparisons["many", 4, RATE]
    for label in FACTORS:
        assert group(summary, label, 4).figures[RATE] == found.means[label]
        assert group(summary, label, 4).ratio == found.ratio(label, "slow/plain")
    means = [group(summary, label, 4).figures[RATE].mean for label in found.order]
    assert means == sorted(means, reverse=True)


def test_less_of_a_time_or_a_cost_is_better(summary):
    by_rate = summary.comparisons["many", 4, RATE].order
    for figure in ("ttft_s_p50", "e2e_s_p50", COST):
        assert summary.comparisons["many", 4, figure].order == by_rate


def test_a_figure_that_may_be_zero_has_a_plain_mean_and_no_interval(summary):
    found = group(summary, "quick/plain", 4).figures["in_step_share"]
    assert (found.low, found.high, found.trials) == (None, None, 3)
    assert set(COMPARED).isdisjoint(AVERAGED)


def test_a_time_that_was_zero_is_a_mean_without_an_estimate_and_not_a_gap(tmp_path):
    directory = made_record.write(tmp_path / "made", FACTORS)
    where = directory / "raw" / "trial2_quick_plain" / "many-c4"
    rows = made_record.read_rows(where)
    for row in rows:  # all tokens at once, so that TPOT is 0
        row["event_s"] = [row["event_s"][-1]] * 5
        row["headers_s"] = row["event_s"][0]
    made_record.save_rows(where, rows)
    summary = summarize(directory)
    assert summary.comparisons["many", 4, "tpot_s_p50"].excluded == {
        "quick/plain": "0 in trial 2: only positive figures have ratios"
    }
    found = group(summary, "quick/plain", 4).figures["tpot_s_p50"]
    assert (found.mean, found.low) == (pytest.approx((0.01 + 0 + 0.011) / 3), None)


def test_an_invalid_cell_is_a_missing_one(tmp_path):
    directory = made_record.write(tmp_path / "made", FACTORS)
    (directory / "raw" / "trial2_quick_plain" / "many-c4" / "cell.json").unlink()
    summary = summarize(directory)
    found = group(summary, "quick/plain", 4)
    assert (found.trials_valid, found.figures[RATE].trials) == (2, 2)
    assert found.ratio.together.trials == 2
    assert group(summary, "quick/plain", 1).trials_valid == 3


def test_a_variant_without_a_valid_cell_is_excluded_in_words(tmp_path):
    directory = made_record.write(tmp_path / "made", FACTORS)
    for trial in (1, 2, 3):
        (directory / "raw" / f"trial{trial}_quick_plain" / "many-c4" / "cell.json").unlink()
    summary = summarize(directory)
    comparison = summary.comparisons["many", 4, RATE]
    assert comparison.excluded == {"quick/plain": "no valid cell"}
    assert group(summary, "quick/plain", 4).ratio is None


def with_costs(summary, costs):
    """The same with other costs: label -> level -> by trial."""
    cells = [
        dataclasses.replace(cell, figures={**cell.figures, COST: costs[cell.level][cell.trial - 1]})
        for cell in summary.cells
    ]
    return dataclasses.replace(summary, cells=tuple(cells))


@pytest.mark.parametrize(
    ("costs", "levels"),
    [
        ({1: (21.5, 22.4, 21.9), 4: (22.5, 21.6, 22.2)}, {1, 4}),  # noise
        ({1: (8.0, 8.1, 7.9), 4: (2.0, 2.05, 1.98)}, {4}),
    ],
)
def test_a_level_is_the_cheapest_only_where_it_is_apart_from_the_others(summary, costs, levels):
    (workload,) = summary.study.study.workloads
    found = cheapest(with_costs(summary, costs), workload)
    assert [one.label for one in found] == list(FACTORS)
    assert {frozenset(one.levels) for one in found} == {frozenset(levels)}
    said = "\n".join(narrative.costs(with_costs(summary, costs)))
    assert ("No level of many is shown to be the cheapest of slow/plain." in said) == (
        len(levels) == 2
    )


def test_a_study_of_one_level_has_no_cheapest_level(tmp_path):
    one = {"name": "many", "prompt_tokens": 8, "output_tokens": 5, "concurrency": [4]}
    summary = summarize(made_record.write(tmp_path / "made", FACTORS, workloads=[one]))
    assert cheapest(summary, workload_of(summary, "many")) == []


def test_a_variant_with_one_start_is_ranked_by_the_spread_of_the_others(tmp_path):
    # As 326 output tokens/s against 190, 162 and 120, the last two started once.
    factors = {"fast/bf16": (1, 1.02, 0.98), "base/bf16": (1.7, 1.69, 1.72)}
    factors |= {"fast/fp32": (2, 1, 1), "base/fp32": (2.7, 1, 1)}
    directory = made_record.write(tmp_path / "made", factors)
    for trial, label in itertools.product((2, 3), ("fast_fp32", "base_fp32")):
        for level in (1, 4):
            (directory / f"raw/trial{trial}_{label}/many-c{level}/cell.json").unlink()
    summary = summarize(directory)
    single = group(summary, "fast/fp32", 4).figures[RATE]
    assert single.trials == 1 and single.low is not None
    assert narrative.headline(summary).startswith("fast/bf16 is first")


def test_answers_of_other_weights_or_another_kv_cache_need_not_be_the_same(tmp_path):
    labels = ("a/plain", "a/again", "a/int8", "a/kv")
    directory = made_record.write(tmp_path / "made", dict.fromkeys(labels, (1,)))
    model = json.loads((directory / "study.json").read_text())["model"]
    changes = {
        "int8": {"model": model | {"name": "embedded+w8a8"}},
        "kv": {"settings": {"KV_CACHE_DTYPE": "fp8"}},
    }
    for file in directory.glob("raw/*/launch.json"):
        facts = json.loads(file.read_text())
        file.write_text(json.dumps(facts | changes.get(facts["variant"], {})))
        row = made_record.read_rows(file.parent / "many-c1")[0]
        with gzip.open(file.parent / "agreement.jsonl.gz", "wt") as answers:
            same = {"prompt_sha256": "0", "text": facts["variant"], "token_ids": None}
            answers.write(json.dumps(row | same) + "\n")
    summary = summarize(directory)
    found = {c.label: (c.dtypes[0], c.is_same_dtype) for c in summary.agreement}
    assert found == {
        "a/again": ("float32", True),
        "a/int8": ("float32, embedded+w8a8 weights", False),
        "a/kv": ("float32, fp8 KV cache", False),
    }
    judged = {cell.label for cell in summary.cells for f in cell.findings if f.check == "answers"}
    assert judged == {"a/again"}

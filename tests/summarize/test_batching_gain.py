"""The measured gain of the spread, from records whose every time is set."""

import made_record
import pytest

from enginebench.report import batching_report
from enginebench.summarize import batching_gain
from enginebench.summarize.study_summary import summarize

WORK = {"prompt_tokens": 8, "concurrency": [4]}
EQUAL = {"name": "equal", "output_tokens": 5, **WORK}
SPREAD = {"name": "spread", "output_tokens": {"min": 2, "max": 8}, **WORK}


def made(tmp_path, workloads, factors):
    return summarize(made_record.write(tmp_path / "made", factors, workloads=workloads))


def test_the_computed_gain_follows_from_the_recorded_lengths(tmp_path):
    # 12 requests of 2 and 8 tokens; in the order of sending each four have two of both: three
    # batches of 8 steps for 60 tokens.
    summary = made(tmp_path, [EQUAL, SPREAD], {"a/x": (1, 1), "b/x": (2, 2)})
    (pair,) = batching_gain.pairs(summary)
    assert (pair.equal, pair.spread, pair.in_flight) == ("equal", "spread", 4)
    assert (pair.equal_steps.static, pair.equal_steps.continuous) == (15, 15)
    assert pair.spread_steps.static == 24
    assert pair.spread_steps.useful_share == pytest.approx(60 / 96)
    assert pair.gain == pair.spread_steps.gain


def test_what_else_differs_between_two_engines_cancels(tmp_path):
    # b takes twice as long on both workloads: the spread gains nobody anything.
    summary = made(tmp_path, [EQUAL, SPREAD], {"a/x": (1, 1.1, 0.9), "b/x": (2, 2.2, 1.8)})
    (gain,) = batching_gain.gains(summary)
    assert gain.on_equal.alone.mean == pytest.approx(2)
    assert gain.gain.alone.mean == pytest.approx(1)
    assert gain.gain.alone.trials == 3
    (row,) = batching_report.gains_table([gain]).rows
    assert row[0] == "a/x over b/x (equal, spread)"
    assert row[2].startswith("2.00×") and row[4].startswith("1.00×")


@pytest.mark.parametrize(
    "other",
    [
        {**EQUAL, "prompt_tokens": 16},
        {**EQUAL, "concurrency": [2]},
        {**EQUAL, "output_tokens": {"min": 1, "max": 9}},
    ],
)
def test_workloads_that_differ_in_more_than_the_spread_are_no_pair(tmp_path, other):
    summary = made(tmp_path, [other, SPREAD], {"a/x": (1, 1), "b/x": (2, 2)})
    assert batching_gain.pairs(summary) == []
    assert batching_report.values(summary)["batching_lengths"].rows == []


def test_the_equal_outputs_nearest_in_length_are_the_pair(tmp_path):
    far = {**EQUAL, "name": "far", "output_tokens": 50}
    summary = made(tmp_path, [far, EQUAL, SPREAD], {"a/x": (1, 1), "b/x": (2, 2)})
    assert [pair.equal for pair in batching_gain.pairs(summary)] == ["equal"]

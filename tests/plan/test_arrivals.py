import itertools
import os
import statistics

import pytest

from enginebench.base.errors import UserError
from enginebench.plan import arrivals
from enginebench.plan.arrivals import TraceRow
from enginebench.plan.workload import Workload


def workload(**changes):
    fields = {"name": "w", "prompt_tokens": 8, "output_tokens": 8, "rate": [10.0]}
    return Workload(**fields | changes)


def gaps(times):
    return [b - a for a, b in itertools.pairwise([0.0, *times])]


def test_constant_arrivals_are_equal_gaps():
    due = arrivals.due_s(workload(arrivals="constant"), 4.0, 5, "s")
    assert due == [0, 0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize(
    ("changes", "variation"),
    [
        ({}, 1.0),  # poisson: the standard deviation of a gap is its mean
        ({"arrivals": "gamma", "burstiness": 0.25}, 2.0),  # 1 / sqrt(shape)
        ({"arrivals": "gamma", "burstiness": 4.0}, 0.5),
    ],
)
def test_drawn_gaps_have_the_mean_and_the_variation_of_their_law(changes, variation):
    found = gaps(arrivals.due_s(workload(**changes), 10.0, 20_000, "s"))
    assert min(found) >= 0
    assert statistics.mean(found) == pytest.approx(0.1, rel=0.05)
    assert statistics.stdev(found) / statistics.mean(found) == pytest.approx(variation, rel=0.05)


def test_a_schedule_follows_from_its_seed_alone():
    one, again, other = (arrivals.due_s(workload(), 10.0, 9, seed) for seed in "aab")
    assert one == again != other


def test_a_trace_is_scaled_to_the_rate_and_repeated():
    trace = [TraceRow(5.0, 1, 1), TraceRow(6.0, 1, 1), TraceRow(9.0, 1, 1)]
    made = workload(arrivals="trace", trace="t.csv")
    # 3 requests in 6 s (two gaps of 4 s, and one mean gap), at 1/s twice as fast.
    assert arrivals.due_s(made, 1.0, 7, "s", trace) == pytest.approx([0, 0.5, 2, 3, 3.5, 5, 6])


def test_a_ramp_lets_half_as_many_through_in_its_time():
    due = arrivals.due_s(workload(arrivals="constant", ramp_s=2.0), 100.0, 300, "s")
    assert sum(time_s < 2.0 for time_s in due) == 100  # 100/s x 2 s / 2
    assert sum(time_s < 1.0 for time_s in due) == 25  # a quarter of these in the first half
    assert due[200] - due[100] == pytest.approx(1.0)  # and the full rate afterwards
    assert due == sorted(due)


def test_a_trace_is_read_with_its_columns_in_any_order(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("output_tokens,time_s,prompt_tokens,who\n5,0.5,100,a\n7,2,200,b\n")
    assert arrivals.read_trace(file) == [TraceRow(0.5, 100, 5), TraceRow(2.0, 200, 7)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("time_s,prompt_tokens\n", "found no output_tokens"),
        ("time_s,prompt_tokens,output_tokens\n1,2,x\n", "t.csv:2: expected a time"),
        ("time_s,prompt_tokens,output_tokens\n1,2\n", "t.csv:2: expected a time"),
        ("time_s,prompt_tokens,output_tokens\n1,0,2\n", "lengths are from 1 to"),
        ("time_s,prompt_tokens,output_tokens\n2,1,1\n1,1,1\n", "found 1 after 2"),
        ("time_s,prompt_tokens,output_tokens\n0,1,1\nnan,1,1\n", "t.csv:3: .*the time nan"),
        ("time_s,prompt_tokens,output_tokens\n0,1,1\ninf,1,1\n", "t.csv:3: .*the time inf"),
        ("time_s,prompt_tokens,output_tokens\n-1e300,1,1\n", "t.csv:2: .*the time -1e300"),
        ("time_s,prompt_tokens,output_tokens\n0,1,9999999999\n", "t.csv:2: .*lengths are from 1"),
        (f"time_s,prompt_tokens,output_tokens\n0,{'1' * 5000},1\n", "t.csv:2: "),
        (f"time_s,prompt_tokens,output_tokens,x\n0,1,1,{'a' * 200_000}\n", "t.csv:2: .*field"),
        ("time_s,prompt_tokens,output_tokens\n0,1,1\n1,1,\0\n", "t.csv:3: .*NUL"),
        ("time_s,time_s,prompt_tokens,output_tokens\n0,1,1,1\n", "found 2 times time_s"),
        ("time_s;prompt_tokens;output_tokens\n0,5;1;1\n", "t.csv:2: .*'0,5'"),
        ("", "found no time_s"),
        ("time_s,prompt_tokens,output_tokens\n2,1,1\n", "found 1 requests"),
        ("time_s,prompt_tokens,output_tokens\n2,1,1\n2,1,1\n", "at different times"),
    ],
)
def test_a_bad_trace_is_one_line_that_says_what_is_wrong(tmp_path, text, says):
    file = tmp_path / "t.csv"
    file.write_text(text)
    with pytest.raises(UserError, match=says):
        arrivals.read_trace(file)
    with pytest.raises(UserError, match="cannot read this trace"):
        arrivals.read_trace(tmp_path / "none.csv")


@pytest.mark.parametrize(
    "text",
    [
        "\ufefftime_s,prompt_tokens,output_tokens\n0,10,5\n1,12,6\n",
        "\ufefftime_s;prompt_tokens;output_tokens\r\n0;10;5\r\n1;12;6\r\n",
        "time_s, prompt_tokens , output_tokens\n0,10,5\n\n1,12,6\n",
    ],
)
def test_a_trace_as_a_spreadsheet_saves_it_is_read(tmp_path, text):
    (tmp_path / "t.csv").write_bytes(text.encode())
    assert arrivals.read_trace(tmp_path / "t.csv") == [TraceRow(0, 10, 5), TraceRow(1, 12, 6)]


def test_a_pipe_in_place_of_a_trace_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "t.csv")
    with pytest.raises(UserError, match="found a pipe"):
        arrivals.read_trace(tmp_path / "t.csv")

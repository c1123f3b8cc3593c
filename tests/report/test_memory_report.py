import dataclasses
from collections import defaultdict
from types import SimpleNamespace

import pytest
from builders import GIB

from enginebench.base.stats import Interval
from enginebench.check.findings import Finding
from enginebench.metrics.memory import Sample
from enginebench.record.schema_study import OutputRange, Workload
from enginebench.report import memory_report
from enginebench.summarize.cells import CellRow
from enginebench.summarize.groups import Group
from enginebench.summarize.study_summary import Summary

CELL_FIGURES = (
    "total_bytes",
    "weights_bytes",
    "kv_reserved_bytes",
    "other_bytes",
    "kv_capacity_tokens",
    "kv_used_tokens_peak",
    "kv_tokens_in_flight_peak",
    "kv_bytes_per_token",
    "kv_bytes_per_token_measured",
    "kv_waste",
    "kv_follow_error",
)


def workload(name, prompt, output):
    return Workload(name=name, prompt_tokens=prompt, output_tokens=output)


def group(label, of, concurrency=1, **figures):
    found = defaultdict(lambda: None)
    found |= {name: Interval(value, None, None, 1) for name, value in figures.items()}
    engine, variant = label.split("/")
    return Group(label, engine, variant, of, concurrency, None, 1, 1, 1, found, None)


def cell(label, of, concurrency=1, trial=1, samples=10, **figures):
    found = dict.fromkeys(CELL_FIGURES) | figures
    engine, variant = label.split("/")
    samples = (Sample(0.0, None, 0, 0, None, None, None),) * samples
    return CellRow(
        "l", trial, engine, variant, label, of, concurrency, None, (), (), found, samples
    )


def summary(workloads, groups=(), cells=(), reference="base/naive"):
    study = SimpleNamespace(study=SimpleNamespace(workloads=workloads))
    return Summary(study, {}, True, 0, tuple(cells), tuple(groups), reference, ())


def rows(table):
    return [dict(zip(table.headings, row, strict=True)) for row in table.rows]


def test_an_engine_is_predicted_to_queue_beyond_the_requests_that_fit_in_whole_blocks():
    # 16,384 tokens in blocks of 128; 400 + 110 tokens take 4 blocks = 512: 32 requests fit.
    figures = {"kv_capacity_tokens": 16384, "preemptions": 0}
    made = summary(
        [workload("long", 400, OutputRange(min=10, max=110))],
        [
            group("fast/a", "long", 32, waiting_for_room_peak=0, **figures),
            group("fast/a", "long", 33, waiting_for_room_peak=1, **figures),
            group("fast/a", "long", 48, waiting_for_room_peak=0, **figures),
            group("base/naive", "long", 48),  # its cache grows: nothing to foretell
        ],
        [cell("fast/a", "long", 32, kv_block_tokens=128.0)],
    )
    found = rows(memory_report.capacities(made))
    assert [row["requests that fit"] for row in found] == ["32"] * 3
    assert [row["predicted"] for row in found] == ["fits", "queues", "queues"]
    assert [row["as predicted"] for row in found] == ["yes", "yes", "no"]


@pytest.mark.parametrize(
    ("waited", "preempted", "seen"),
    [(0, 2, "yes"), (None, None, "–"), (0, None, "no"), (None, 2, "yes"), (None, 0, "–")],
)
def test_a_preemption_is_a_sign_of_a_full_cache_too(waited, preempted, seen):
    figures = {"waiting_for_room_peak": waited, "preemptions": preempted}
    figures = {name: value for name, value in figures.items() if value is not None}
    full = group("fast/a", "long", 9, kv_capacity_tokens=100, **figures)
    (row,) = rows(memory_report.capacities(summary([workload("long", 40, 10)], [full])))
    assert row["as predicted"] == seen


def lengths(label, values, figure="e2e_s_p50"):
    return [group(label, f"len-{n}", **{figure: value}) for n, value in values.items()]


def test_growth_is_fitted_over_the_lengths_of_single_requests():
    workloads = [workload(f"len-{n}", 50, n) for n in (50, 100, 200)]
    linear = lengths("base/naive", {50: 1.0, 100: 2.0, 200: 4.0})
    square = lengths("base/off", {50: 1.0, 100: 4.0, 200: 16.0})
    other = [group("base/off", "other", e2e_s_p50=99.0)]  # another prompt: on no curve of these
    made = summary([*workloads, workload("other", 70, 70)], [*linear, *square, *other])
    found = {row["engine/variant"]: row for row in rows(memory_report.growths(made))}
    assert found["base/naive"]["exponent"].startswith("1.00")
    assert found["base/off"]["exponent"].startswith("2.00")
    assert found["base/off"]["tokens"] == "50 to 200 of the output"
    (said,) = memory_report.sentences(made)
    assert said == (
        "base/off takes longer than base/naive from about 50 output tokens on; with 200 it takes "
        "4.0 times as long."
    )


def test_the_cache_grows_with_the_whole_request():
    workloads = [workload(f"len-{n}", 50, n) for n in (50, 150, 350)]
    values = {50: 100e3, 150: 200e3, 350: 400e3}  # with 100, 200 and 400 tokens
    made = summary(workloads, lengths("base/naive", values, "kv_reserved_bytes"))
    (row,) = rows(memory_report.growths(made))
    assert row["exponent"].startswith("1.00")
    assert row["tokens"] == "100 to 400 of the request"


def test_two_lengths_or_several_requests_at_once_give_no_growth():
    workloads = [workload(f"len-{n}", 50, n) for n in (50, 150, 350)]
    two = lengths("base/naive", {50: 1.0, 150: 2.0})
    many = [group("base/off", f"len-{n}", 4, e2e_s_p50=1.0) for n in (50, 150, 350)]
    assert memory_report.growths(summary(workloads, [*two, *many])).rows == []


def test_the_fullest_cell_of_the_first_trial_is_accounted_for():
    figures = {
        "total_bytes": 3 * GIB,
        "weights_bytes": 0.5 * GIB,
        "kv_reserved_bytes": 1.0 * GIB,
        "other_bytes": 1.5 * GIB,
        "kv_capacity_tokens": 1000.0,
        "kv_bytes_per_token": 16384.0,
        "kv_bytes_per_token_measured": 16384.0,
        "kv_waste": 0.125,
    }
    cells = [
        cell("fast/a", "w", 1, kv_used_tokens_peak=10.0, kv_tokens_in_flight_peak=9, **figures),
        cell("fast/a", "w", 8, kv_used_tokens_peak=80.0, kv_tokens_in_flight_peak=70, **figures),
        cell("fast/a", "w", 9, 2, kv_used_tokens_peak=99.0, kv_tokens_in_flight_peak=98, **figures),
    ]
    made = summary([workload("w", 5, 5)], cells=cells)
    (row,) = memory_report.accounts(made).rows
    assert row == [
        "fast/a", "w, 8 in flight", "3.00", "0.50", "1.00", "1.50", "1,000", "80 (8%)", "70",
        "16,384 / 16,384", "12%", "–",
    ]  # fmt: skip
    (said,) = memory_report.sentences(made)
    assert said.startswith("fast/a shows 3.0 GiB; its KV cache is reserved whole (1.0 GiB)")


def test_a_length_that_only_one_of_them_has_is_not_compared():
    workloads = [workload(f"len-{n}", 50, n) for n in (50, 100, 200, 400)]
    linear = lengths("base/naive", {50: 1.0, 100: 2.0, 200: 4.0})  # its last cell is invalid
    square = lengths("base/off", {50: 1.0, 100: 4.0, 200: 16.0, 400: 64.0})
    (said,) = memory_report.sentences(summary(workloads, [*linear, *square]))
    assert "with 200 it takes 4.0 times as long" in said


def test_an_invalid_cell_accounts_for_nothing():
    bad = cell("fast/a", "w", 8, kv_tokens_in_flight_peak=70)
    bad = dataclasses.replace(bad, findings=(Finding("complete", "invalid", "died"),))
    assert memory_report.accounts(summary([workload("w", 5, 5)], cells=[bad])).rows == []


def test_too_few_samples_say_nothing_of_peaks():
    # The peaks themselves are not even figures then: see tests/metrics/test_memory.py.
    figures = {"kv_capacity_tokens": 1000.0, "kv_tokens_in_flight_peak": 70}
    few = cell("fast/a", "w", 8, samples=9, **figures)
    levels = {"kv_capacity_tokens": 1000, "requests_running_peak": 3, "waiting_for_room_peak": 0}
    made = summary([workload("w", 5, 5)], [group("fast/a", "w", 8, **levels)], [few])
    (account,) = rows(memory_report.accounts(made))
    assert account["used at most"] == account["used but not needed"] == "–"
    assert account["held by requests at most"] == "70"  # by the client's log, which misses nothing
    (level,) = rows(memory_report.capacities(made))
    assert level["running, peak"] == level["as predicted"] == "–"
    assert memory_report.sentences(made) == []

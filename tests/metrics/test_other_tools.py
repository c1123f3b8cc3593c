"""A log of known timing, and what each tool's formulas make of it, worked out by hand."""

import pytest
from builders import request_row as row

from enginebench.metrics import other_tools
from enginebench.metrics.request_table import gather

#: 6 tokens of which the first and the last three show nothing.
SILENT_ENDS = row(
    planned_s=9.5, sent_s=12.0, end_s=20.0, prompt_tokens=50, output_tokens=6,
    event_s=[13.0, 14.0, 14.5, 19.0], event_tokens=[1, 1, 1, 3], event_chars=[0, 2, 2, 0],
)  # fmt: skip
FAILED = row(
    planned_s=11.0, sent_s=12.5, end_s=14.0, output_tokens=None, text_tokens=None, error="cut",
    event_s=[13.5], event_tokens=[1], event_chars=[4],
)  # fmt: skip
LOG = gather([row(), SILENT_ENDS, FAILED])


def test_vllm_counts_chunks_even_without_text_and_its_run_ends_with_the_last_answer():
    printed = other_tools.vllm_bench_serve(LOG)
    assert printed == pytest.approx(
        {
            "Request throughput (req/s)": 2 / 11,  # from 9 to 20
            "Output token throughput (tok/s)": 10 / 11,
            "Peak output token throughput (tok/s)": 2,  # chunks at 14.0 and 14.5
            "Peak concurrent requests": 2,
            "Total token throughput (tok/s)": 160 / 11,
            "Mean TTFT (ms)": 1000,  # 1 and 1
            "Median TTFT (ms)": 1000,
            "P99 TTFT (ms)": 1000,
            "Mean TPOT (ms)": (5000 / 3 + 6000 / 5) / 2,
            "Median TPOT (ms)": (5000 / 3 + 6000 / 5) / 2,
            "P99 TPOT (ms)": 1200 + 0.99 * (5000 / 3 - 1200),
            "Mean ITL (ms)": 2200,  # 1, 4; 1, 0.5, 4.5: a gap a chunk
            "Median ITL (ms)": 1000,
            "P99 ITL (ms)": 4480,  # 3.96 steps up: 4 + 0.96 * 0.5
            "Mean E2EL (ms)": 6500,
            "Median E2EL (ms)": 6500,
            "P99 E2EL (ms)": 6990,
        }
    )


def test_aiperf_sees_only_text_and_calls_the_mean_of_a_request_itl():
    printed = other_tools.aiperf(LOG)
    assert printed == pytest.approx(
        {
            "Request Throughput (requests/sec)": 2 / 6,  # from 10 to 16
            "Output Token Throughput (tokens/sec)": 10 / 6,
            "Output Token Throughput Per User (tokens/sec/user) avg": (0.6 + 10) / 2,
            "Time to First Token (ms) avg": 1500,  # 1 and 2
            "Time to First Token (ms) p99": 1990,
            "Time to First Token (ms) p90": 1900,
            "Time to First Token (ms) p50": 1500,
            "Request Latency (ms) avg": 4250,  # 6 and 2.5
            "Request Latency (ms) p99": 2500 + 0.99 * 3500,
            "Request Latency (ms) p90": 2500 + 0.9 * 3500,
            "Request Latency (ms) p50": 4250,
            "Inter Token Latency (ms) avg": (5000 / 3 + 100) / 2,  # 5 / 3 and 0.5 / 5
            "Inter Token Latency (ms) p99": 100 + 0.99 * (5000 / 3 - 100),
            "Inter Token Latency (ms) p90": 100 + 0.9 * (5000 / 3 - 100),
            "Inter Token Latency (ms) p50": (5000 / 3 + 100) / 2,
        }
    )


def test_guidellm_weights_by_tokens_has_the_prefill_in_tpot_and_never_interpolates():
    printed = other_tools.guidellm(LOG)
    assert printed == pytest.approx(
        {
            "Requests Per Sec Mean": 3 / 11,  # failed or not
            "Output Tokens Per Sec Mean": 10 / 11,
            "Request Latency Sec Mean": 7.25,  # 6.5 and 8, to the end of the answer
            "Request Latency Sec Mdn": 6.5,
            "Request Latency Sec p95": 8,
            "TTFT ms Mean": 1500,
            "TTFT ms Mdn": 1000,
            "TTFT ms p95": 2000,
            "ITL ms Mean": 687.5,  # (5 + 0.5) / (3 + 5)
            "ITL ms Mdn": 100,  # 5 of 8 tokens
            "ITL ms p95": 5000 / 3,
            "TPOT ms Mean": 850,  # (6 + 2.5) / (4 + 6)
            "TPOT ms Mdn": 2500 / 6,
            "TPOT ms p95": 1500,
        }
    )


def test_without_usage_the_tools_count_the_tokens_of_the_text():
    log = gather([row(output_tokens=None, text_tokens=9)])
    assert other_tools.vllm_bench_serve(log)["Mean TPOT (ms)"] == pytest.approx(5000 / 8)
    assert other_tools.guidellm(log)["TPOT ms Mean"] == pytest.approx(6000 / 9)


def test_of_nothing_nothing_is_printed():
    for log in (gather([]), gather([FAILED])):
        for tool, printed in other_tools.printed_by_all(log).items():
            known = {name for name, value in printed.items() if value}
            assert known <= {"Requests Per Sec Mean"}, tool


def test_times_of_a_clock_that_was_set_are_counted_where_they_fall_or_nowhere():
    early = row(event_s=[3.0, 12.0, 11.0], end_s=11.0)
    printed = other_tools.printed_by_all(gather([early, row()]))
    assert printed["vllm bench serve"]["Peak output token throughput (tok/s)"] == 2
    other_tools.printed_by_all(gather([row(event_s=[3.0, 4.0, 5.0], end_s=5.0)]))

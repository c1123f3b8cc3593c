import math
import tracemalloc

from builders import request

from enginebench.check import request_checks
from enginebench.metrics import kv_in_flight, latency, other_tools, request_table


def row(index, tokens=100):
    """A request of its own times, as it is read from a file: every number is an object."""
    event_s = [index + 0.01 * step for step in range(tokens)]
    return request(
        planned_s=index - 0.5,
        sent_s=index - 0.25,
        headers_s=event_s[0],
        event_s=event_s,
        event_tokens=[1] * tokens,
        event_chars=[4] * tokens,
        end_s=event_s[-1] + 0.001,
        text=f"{index:04}" * tokens,
        prompt_sha256=f"{index:064x}",
        prompt_tokens_asked=10,
        output_tokens_asked=tokens,
        prompt_tokens=10,
        output_tokens=tokens,
        cached_tokens=0,
        finish_reason="length",
        error=None,
    )


def test_what_is_missing_is_not_a_number_and_not_zero():
    found = request_table.gather([request()])
    assert math.isnan(found.sent_s[0]) and math.isnan(found.last_s[0])
    assert found.output_tokens[0] == request_table.UNKNOWN
    assert len(request_table.gather([])) == 0


def test_first_and_last_of_requests_with_and_without_events():
    found = request_table.gather([row(1, 3), request(), row(5, 1)])
    first, last = found.first_s.tolist(), found.last_s.tolist()
    assert (first[0], last[0], first[2], last[2]) == (1.0, 1.02, 5.0, 5.0)
    assert math.isnan(first[1]) and math.isnan(last[1])
    assert found.is_counted.tolist() == [True, False, True]


def test_a_cell_takes_memory_by_its_tokens_and_not_by_its_rows(monkeypatch):
    monkeypatch.setattr(
        request_table, "EVENTS_AT_ONCE", 10_000
    )  # as few to this cell as a million to
    monkeypatch.setattr(kv_in_flight, "LARGE", 10_000)  # one of a hundred million
    requests, tokens = 3000, 100
    tally = request_checks.Tally()

    def rows():
        for index in range(requests):
            tally.add(made := row(index, tokens))
            yield made

    tracemalloc.start()
    try:
        found = request_table.gather(rows())
        latency.latencies(found)
        other_tools.printed_by_all(found)
        kv_in_flight.tokens_in_flight_peak(found)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # 12 stay of each, 8 of its gap and as many for a moment; as rows it would be 50 and its text.
    assert len(found.event_s) == requests * tokens
    assert peak / (requests * tokens) < 40

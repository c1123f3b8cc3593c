"""How far off the load generator can be: findings of a cell, and the report's tables. Pure."""

from collections.abc import Iterator

from enginebench.check.findings import Finding, Verdict
from enginebench.metrics.figures import Figures
from enginebench.record.schema import ClientStats

# Shares of what was measured: a client this far off may change, or has changed, a conclusion.
SUSPECT_TIME, INVALID_TIME = 0.05, 0.25  # of the median TTFT or TPOT
SUSPECT_LOAD, INVALID_LOAD = 0.02, 0.10  # of the time that streams should have been busy
LATE_FLOOR_S = 0.005  # a mean lateness below this moves no request of 100 ms by more than 5 %
READ_LATE_S = 0.01  # tokens of one stream that are read later than they come may share a stamp
LEAST_PIECES = 662  # of a p99, as for all figures
FULL_CPU = 0.9  # of each process's core


def time_error_s(client: ClientStats) -> float | None:
    """How far off arrival times may be at p99: the clocks' error, or else the loop's lag."""
    return client.clock_error_s if client.stamps == "kernel" else client.lag_s_p99


def findings(client: ClientStats | None, figures: Figures) -> Iterator[Finding]:
    """Whether the client's own error could change what a cell says.

    Args:
        client: None in older records.
        figures: the cell's.
    """
    if not client:
        return
    yield from _time_findings(client, figures)
    busy, late_s = client.busy_ratio, client.send_late_s_mean
    if (
        busy is not None
        and 1 - busy > SUSPECT_LOAD
        and late_s is not None
        and late_s > LATE_FLOOR_S
    ):
        text = (
            f"the client sent requests {late_s * 1e3:.1f} ms late on average, "
            f"{(1 - busy) * 100:.1f} % of the time in which they were in flight"
        )
        yield _finding(1 - busy > INVALID_LOAD, text)
    cpu = client.cpu_ratio
    if cpu is not None and cpu > FULL_CPU:
        yield _finding(False, f"the client used {cpu * 100:.0f} % of its core")


def _time_findings(client: ClientStats, figures: Figures) -> Iterator[Finding]:
    error_s = time_error_s(client)
    tpot_s = figures.get("tpot_s_p50")
    for name, value_s in (("TTFT", figures.get("ttft_s_p50")), ("TPOT", tpot_s)):
        if error_s and value_s and error_s > SUSPECT_TIME * value_s:
            text = (
                f"the client's times may be {error_s * 1e3:.2f} ms off, "
                f"{error_s / value_s * 100:.0f} % of the median {name}"
            )
            yield _finding(error_s > INVALID_TIME * value_s, text)
    late_s = client.receive_late_s_p99 if client.pieces >= LEAST_PIECES else None
    if late_s is not None and tpot_s and late_s > max(tpot_s, READ_LATE_S):
        text = (
            f"the client read tokens up to {late_s * 1e3:.0f} ms (p99) after they came: "
            "tokens that came meanwhile share a stamp"
        )
        yield _finding(False, text)


def _finding(is_invalid: bool, text: str) -> Finding:
    verdict: Verdict = "invalid" if is_invalid else "suspect"
    advice = "give the client a core of its own, or a smaller load"
    return Finding("client", verdict, text, None, advice)

"""The report's tables of the load generator's own error. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from enginebench.check.client_error import time_error_s


def milliseconds(value: float | None) -> str:
    """Three digits that count, as errors are between microseconds and seconds."""
    return "–" if value is None else f"{value * 1e3:.3g}"


def percent(value: float | None) -> str:
    return "–" if value is None else f"{value * 100:.1f}"


CALIBRATION_HEADINGS = (
    "streams",
    "tokens/s",
    "TTFT error p50 ms",
    "TTFT error p99 ms",
    "ITL error p99 ms",
    "token delay p99 ms",
    "server late p99 ms",
    "streams busy %",
    "CPU µs/token",
)


CELL_HEADINGS = (
    "cell",
    "stamps",
    "time error ms",
    "loop lag p99 ms",
    "longest",
    "sent late p99 ms",
    "longest",
    "read late p99 ms",
    "streams busy %",
    "CPU %",
)


def calibration_table(study: Mapping[str, Any]) -> list[list[str]]:
    """One row a level that was calibrated before the study."""
    return [
        [
            f"{found['streams']}",
            f"{found['tokens_per_s']:,.0f}",
            milliseconds(found["ttft_error_s_p50"]),
            milliseconds(found["ttft_error_s_p99"]),
            milliseconds(found["itl_error_s_p99"]),
            milliseconds(found["token_delay_s_p99"]),
            milliseconds(found["server_late_s_p99"]),
            percent(found["busy_ratio"]),
            f"{found['cpu_per_token_s'] * 1e6:.0f}",
        ]
        for found in study.get("calibration") or []
    ]


def cell_table(clients: Sequence[tuple[str, Mapping[str, Any]]]) -> list[list[str]]:
    """One row a variant and level: the worst of its trials in each column."""
    rows = []
    for name in dict.fromkeys(name for name, _ in clients):
        mine = [client for label, client in clients if label == name]

        def worst(key: str, mine: Sequence[Mapping[str, Any]] = mine) -> float | None:
            return max((c[key] for c in mine if c[key] is not None), default=None)

        busy = [c["busy_ratio"] for c in mine if c["busy_ratio"] is not None]
        errors = [error for c in mine if (error := time_error_s(c)) is not None]
        rows.append(
            [
                name,
                "/".join(sorted({c["stamps"] or "–" for c in mine})),
                milliseconds(max(errors, default=None)),
                milliseconds(worst("lag_s_p99")),
                milliseconds(worst("lag_s_max")),
                milliseconds(worst("send_late_s_p99")),
                milliseconds(worst("send_late_s_max")),
                milliseconds(worst("receive_late_s_p99")),
                percent(min(busy, default=None)),
                percent(worst("cpu_ratio")),
            ]
        )
    return rows

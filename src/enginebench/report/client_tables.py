"""The report's tables of the load generator's own error. Pure."""

from collections.abc import Callable, Sequence

from enginebench.check.client_error import time_error_s
from enginebench.record.schema import ClientStats
from enginebench.record.schema_study import Calibration


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


def calibration_table(calibration: Sequence[Calibration]) -> list[list[str]]:
    """One row a level that was calibrated before the study."""
    return [
        [
            f"{found.streams}",
            f"{found.tokens_per_s:,.0f}",
            milliseconds(found.ttft_error_s_p50),
            milliseconds(found.ttft_error_s_p99),
            milliseconds(found.itl_error_s_p99),
            milliseconds(found.token_delay_s_p99),
            milliseconds(found.server_late_s_p99),
            percent(found.busy_ratio),
            f"{found.cpu_per_token_s * 1e6:.0f}",
        ]
        for found in calibration
    ]


def cell_table(clients: Sequence[tuple[str, ClientStats]]) -> list[list[str]]:
    """One row a variant and level: the worst of its trials in each column."""
    rows = []
    for name in dict.fromkeys(name for name, _ in clients):
        cell_clients = [client for label, client in clients if label == name]
        busy = [c.busy_ratio for c in cell_clients if c.busy_ratio is not None]
        rows.append(
            [
                name,
                "/".join(sorted({c.stamps or "–" for c in cell_clients})),
                milliseconds(_worst(cell_clients, time_error_s)),
                milliseconds(_worst(cell_clients, lambda c: c.lag_s_p99)),
                milliseconds(_worst(cell_clients, lambda c: c.lag_s_max)),
                milliseconds(_worst(cell_clients, lambda c: c.send_late_s_p99)),
                milliseconds(_worst(cell_clients, lambda c: c.send_late_s_max)),
                milliseconds(_worst(cell_clients, lambda c: c.receive_late_s_p99)),
                percent(min(busy, default=None)),
                percent(_worst(cell_clients, lambda c: c.cpu_ratio)),
            ]
        )
    return rows


def _worst(
    clients: Sequence[ClientStats], figure: Callable[[ClientStats], float | None]
) -> float | None:
    return max((value for c in clients if (value := figure(c)) is not None), default=None)

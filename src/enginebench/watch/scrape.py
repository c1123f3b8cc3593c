"""Reading an engine's metrics page, kept as the text that it was."""

import time
from typing import Any

from enginebench.engines import http_page

TIMEOUT_S = 5.0


def scrape(url: str) -> dict[str, Any]:
    """One reading of a metrics page; a failure is a reading with ``error`` set.

    Returns:
        ``t_s`` (its start, CLOCK_MONOTONIC), ``took_s``, ``status``, ``text``, ``error``; None
        where there is none.
    """
    start_s = time.perf_counter()
    page = http_page.fetch(url, TIMEOUT_S)
    return {
        "t_s": start_s,
        "took_s": time.perf_counter() - start_s,
        "status": page.status,
        "text": page.text,
        "error": page.error,
    }

"""Reading an engine's metrics page, kept as the text that it was."""

import time
from dataclasses import dataclass

from enginebench.engines import http_page

TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Scrape:
    """A line of ``scrapes.jsonl.gz``: one reading of a metrics page."""

    t_s: float  # when the reading began, CLOCK_MONOTONIC
    took_s: float
    status: int | None  # None: no answer
    text: str | None  # the page, unparsed
    error: str | None  # why there was no answer


def scrape(url: str) -> Scrape:
    """One reading of a metrics page; a failure is a reading with ``error`` set."""
    start_s = time.perf_counter()
    page = http_page.fetch(url, TIMEOUT_S)
    took_s = time.perf_counter() - start_s
    return Scrape(start_s, took_s, page.status, page.text, page.error)

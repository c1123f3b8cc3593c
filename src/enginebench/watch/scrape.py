"""Reading an engine's metrics page, kept as the text that it was."""

import time
from typing import Any

import requests
import urllib3

TIMEOUT_S = 5.0  # for the answer to begin, and again for the whole page
MOST_PAGE_BYTES = 16 << 20  # engines send some 100 KiB


def local_session() -> requests.Session:
    """A session that ignores the environment's proxies: engines run on this machine."""
    session = requests.Session()
    session.trust_env = False
    return session


def scrape(session: requests.Session, url: str) -> dict[str, Any]:
    """One reading of a metrics page; a failure is a reading with ``error`` set.

    Returns:
        ``t_s`` (its start, CLOCK_MONOTONIC), ``took_s``, ``status``, ``text``, ``error``; None
        where there is none.
    """
    start_s = time.perf_counter()
    status: int | None = None
    text: str | None = None
    error: str | None = None
    try:
        with session.get(url, timeout=TIMEOUT_S, stream=True) as answer:
            status, text = answer.status_code, _page(answer)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as problem:
        status = None
        error = f"{type(problem).__name__}: {problem}"
    took_s = time.perf_counter() - start_s
    return {"t_s": start_s, "took_s": took_s, "status": status, "text": text, "error": error}


def _page(answer: requests.Response) -> str:
    """The text of a page, bounded in time and size: ``answer.text`` is bounded in neither.

    Raises:
        requests.RequestException: the page exceeds a bound.
        urllib3.exceptions.HTTPError: it cannot be read.
    """
    until_s = time.perf_counter() + TIMEOUT_S
    page = bytearray()
    while part := answer.raw.read1(1 << 16, decode_content=True):
        page += part
        if len(page) > MOST_PAGE_BYTES:
            raise requests.RequestException(f"the page is larger than {MOST_PAGE_BYTES >> 20} MiB")
        if time.perf_counter() > until_s:
            raise requests.Timeout(f"the page did not end within {TIMEOUT_S:g} s")
    try:
        return page.decode(answer.encoding or "utf-8", errors="replace")
    except LookupError:  # an encoding that Python does not know
        return page.decode(errors="replace")

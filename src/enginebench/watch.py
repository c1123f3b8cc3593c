"""Watching an engine while it works: raw ``/metrics`` text, and the memory of its processes.

Everything is stamped on the clock of the requests. Nothing is parsed here: what was read is kept
as it was, so that a parser can be mended afterwards.
"""

import threading
import time
from dataclasses import dataclass, field
from typing import Any

import psutil
import requests

TIMEOUT_S = 5.0


@dataclass(slots=True)
class Watched:
    scrapes: list[dict[str, Any]] = field(default_factory=list)  # t_s, took_s, status, text, error
    processes: list[dict[str, Any]] = field(default_factory=list)  # t_s, pss_bytes, cpu_s, count


class Watcher:
    """Samples at a fixed interval in a thread of its own, and on demand at a cell's two ends."""

    def __init__(self, metrics_url: str, pid: int, interval_s: float) -> None:
        self._url = metrics_url
        self._pid = pid
        self._interval_s = interval_s
        self._session = local_session()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.watched = Watched()

    def __enter__(self) -> "Watcher":
        self.sample()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.sample()
        self._session.close()

    def _run(self) -> None:
        due = time.perf_counter()
        while True:
            due += self._interval_s
            if self._stop.wait(max(0.0, due - time.perf_counter())):
                return
            self.sample()

    def sample(self) -> None:
        self.watched.scrapes.append(scrape(self._session, self._url))
        self.watched.processes.append(process_sample(self._pid))


def local_session() -> requests.Session:
    """A session that goes straight to this machine, whatever proxy the environment names."""
    session = requests.Session()
    session.trust_env = False
    return session


def scrape(session: requests.Session, url: str) -> dict[str, Any]:
    """One reading of a metrics page; a failure is a reading with ``error`` set."""
    start_s = time.perf_counter()
    status: int | None = None
    text: str | None = None
    error: str | None = None
    try:
        answer = session.get(url, timeout=TIMEOUT_S)
        status, text = answer.status_code, answer.text
    except requests.RequestException as problem:
        error = f"{type(problem).__name__}: {problem}"
    took_s = time.perf_counter() - start_s
    return {"t_s": start_s, "took_s": took_s, "status": status, "text": text, "error": error}


def process_sample(pid: int) -> dict[str, Any]:
    """Memory and CPU time of a process and all its descendants.

    Memory is PSS: a page shared by k processes counts 1/k in each, so that the sum over an
    engine's processes counts it once. None where no process is left.
    """
    pss = 0
    cpu = 0.0
    count = 0
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.Error:
        family = []
    for process in family:
        try:
            pss += process.memory_full_info().pss
            times = process.cpu_times()
        except psutil.Error:  # it ended between being listed and being read
            continue
        cpu += times.user + times.system
        count += 1
    return {
        "t_s": time.perf_counter(),
        "pss_bytes": pss if count else None,
        "cpu_s": cpu if count else None,
        "processes": count,
    }

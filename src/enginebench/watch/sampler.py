"""Watching an engine while it works: raw ``/metrics`` text, its processes' memory, the GPUs, and
what the rest of the machine does meanwhile.

Everything is stamped on the clock of the requests. What was read is kept as it was, so that a
parser can be mended afterwards; whoever looks on (``seen``) changes nothing of it.
"""

import contextlib
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil

from enginebench.base.machine_row import MachineRow
from enginebench.engines import http_page
from enginebench.hardware import nvml
from enginebench.watch import machine_load

TIMEOUT_S = 5.0
WEIGHING_LEAST_S = 1.0  # for PSS the kernel walks every page: more often would cost the engine


@dataclass(slots=True)
class Watched:
    scrapes: list[dict[str, Any]] = field(default_factory=list)  # t_s, took_s, status, text, error
    processes: list[dict[str, Any]] = field(default_factory=list)  # see process_sample
    gpus: list[dict[str, Any]] = field(default_factory=list)  # see nvml.sample
    machine: list[MachineRow] = field(default_factory=list)


class Watcher:
    """Reads ``/metrics`` and PSS at one interval, GPUs and RSS at another, all at both ends.

    Each has a thread of its own: a page that is slow to come delays no sample. PSS is read at the
    slower interval, as the kernel walks every page for it: 15 ms of CPU time for 2 GiB.
    """

    def __init__(
        self,
        metrics_url: str,
        pid: int | None,
        scrape_interval_s: float,
        sample_interval_s: float,
        gpus: Sequence[nvml.Gpu],
        seen: Callable[[Mapping[str, Any]], None] = lambda scrape: None,
    ) -> None:
        """Args: seen: told of each reading of ``/metrics``, in the thread that reads them."""
        self._url = metrics_url
        self._seen = seen
        self._pid = pid
        self._family: list[psutil.Process] = []
        self._gpus = gpus
        self._scraping = Pulse(self._scrape, scrape_interval_s)
        self._weighing = Pulse(self._weigh, max(scrape_interval_s, WEIGHING_LEAST_S))
        self._sampling = Pulse(self._sample, sample_interval_s)
        machine = machine_load.MachineSampler(None if pid is None else (pid,))
        self._overseeing = Pulse(
            lambda: self.watched.machine.append(machine.sample()), machine_load.INTERVAL_S
        )
        self.watched = Watched()

    def __enter__(self) -> "Watcher":
        self._scraping.start()
        self._weighing.start()
        self._sampling.start()
        self._overseeing.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._overseeing.stop()
        self._sampling.stop()
        self._weighing.stop()
        self._scraping.stop()

    def cost(self) -> dict[str, Any]:
        """What watching took of the machine, and how punctual it was (see ``Pulse.cost``)."""
        pulses = {
            "scraping": self._scraping,
            "weighing": self._weighing,
            "sampling": self._sampling,
            "overseeing": self._overseeing,
        }
        return {name: pulse.cost() for name, pulse in pulses.items()}

    def _scrape(self) -> None:
        found = scrape(self._url)
        self.watched.scrapes.append(found)
        try:
            self._seen(found)
        except Exception:  # what is shown must not stop what is recorded
            traceback.print_exc()
            self._seen = lambda scrape: None

    def _weigh(self) -> None:
        self._family = [] if self._pid is None else family(self._pid)
        self.watched.processes.append(process_sample(self._family, with_pss=True))

    def _sample(self) -> None:
        self.watched.gpus += nvml.sample(self._gpus)
        self.watched.processes.append(process_sample(self._family, with_pss=False))


class Pulse:
    """Does something at its start and end, and in between at a fixed interval in its own thread.

    A beat that comes while the one before is still being done is left out, not made up for.
    """

    def __init__(self, do: Callable[[], None], interval_s: float) -> None:
        self._do = do
        self._interval_s = interval_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._beats = self._missed = 0
        self._late_s = self._latest_s = self._took_s = self._cpu_s = 0.0

    def start(self) -> None:
        self._beat()
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
        self._beat()

    def _beat(self) -> None:
        """One sample; one that the system refuses (no file is left to open) is missing."""
        with contextlib.suppress(OSError):
            self._do()

    def cost(self) -> dict[str, Any]:
        """Of the beats in between; known once it is stopped.

        ``took_s`` is the time spent doing them, ``cpu_s`` the CPU time of the thread, ``late_s``
        how long after its moment a beat began.
        """
        return {
            "interval_s": self._interval_s,
            "beats": self._beats,
            "missed": self._missed,
            "late_s_mean": self._late_s / self._beats if self._beats else None,
            "late_s_max": self._latest_s if self._beats else None,
            "took_s": self._took_s,
            "cpu_s": self._cpu_s,
        }

    def _run(self) -> None:
        due_s = time.perf_counter() + self._interval_s
        while not self._stopped.wait(max(0.0, due_s - time.perf_counter())):
            start_s = time.perf_counter()
            self._beat()
            end_s = time.perf_counter()
            self._beats += 1
            self._late_s += start_s - due_s
            self._latest_s = max(self._latest_s, start_s - due_s)
            self._took_s += end_s - start_s
            passed = int((end_s - due_s) / self._interval_s)
            self._missed += passed
            due_s += (passed + 1) * self._interval_s
        self._cpu_s = time.thread_time()


def scrape(url: str) -> dict[str, Any]:
    """One reading of a metrics page; a failure is a reading with ``error`` set."""
    start_s = time.perf_counter()
    page = http_page.fetch(url, TIMEOUT_S)
    took_s = time.perf_counter() - start_s
    return {
        "t_s": start_s,
        "took_s": took_s,
        "status": page.status,
        "text": page.text,
        "error": page.error,
    }


def family(pid: int) -> list[psutil.Process]:
    """A process and all its descendants; empty where it is gone."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def process_sample(processes: Sequence[psutil.Process], *, with_pss: bool) -> dict[str, Any]:
    """Memory and CPU time of an engine's processes; None where none of them is left.

    In PSS a page shared by k processes counts 1/k in each, so that the sum over an engine's
    processes counts it once; in RSS it counts in each of them.
    """
    pss = rss = 0
    cpu = 0.0
    alive, hidden = [], []
    for process in processes:
        try:
            pss += process.memory_full_info().pss if with_pss else 0
            rss += process.memory_info().rss
            times = process.cpu_times()
        except psutil.AccessDenied:  # in a container, of another user
            hidden.append(process.pid)
            continue
        except psutil.Error:  # it ended between being listed and being read
            continue
        cpu += times.user + times.system
        alive.append(process.pid)
    is_whole = bool(alive) and not hidden
    return {
        "t_s": time.perf_counter(),
        "pss_bytes": pss if is_whole and with_pss else None,
        "rss_bytes": rss if is_whole else None,
        "cpu_s": cpu if is_whole else None,
        "pids": alive + hidden,
    }

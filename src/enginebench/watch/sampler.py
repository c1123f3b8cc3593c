"""Watching an engine and its machine over a cell: metrics page, memory, GPUs, other load.

Everything is stamped on the clock of the requests. Raw readings are kept as they were, so that a
parser can be fixed afterwards.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import psutil

from enginebench.base.machine_row import MachineRow
from enginebench.base.text import one_line
from enginebench.hardware import nvml
from enginebench.watch import machine_load
from enginebench.watch.processes import ProcessSample, family, process_sample
from enginebench.watch.pulse import Pulse, PulseCost
from enginebench.watch.scrape import Scrape, scrape

PSS_INTERVAL_S = 1.0  # at least: for PSS the kernel walks every page, which costs the engine time
MOST_PAGES_BYTES = 256 << 20  # of a cell's pages, as they are held in memory until its end


@dataclass(slots=True)
class Watched:
    """All readings of a cell, in the order of time."""

    scrapes: list[Scrape] = field(default_factory=list)
    processes: list[ProcessSample] = field(default_factory=list)
    gpus: list[nvml.GpuSample] = field(default_factory=list)
    machine: list[MachineRow] = field(default_factory=list)


class Watcher:
    """Reads ``/metrics`` and PSS at one interval, GPUs and RSS at another, all at both ends.

    Each has its own thread, so that a slow page delays no sample. PSS has the slower interval, as
    the kernel walks every page for it: 15 ms of CPU time for 2 GiB.
    """

    def __init__(
        self,
        metrics_url: str,
        pid: int | None,
        scrape_interval_s: float,
        sample_interval_s: float,
        gpus: Sequence[nvml.Gpu],
        on_scrape: Callable[[Scrape], None] = lambda scrape: None,
    ) -> None:
        """
        Args:
            pid: the engine's first process; None where this machine cannot see it.
            on_scrape: gets each reading of ``/metrics``, in the thread that reads them, for a
                display. If it raises, it is not called again.
        """
        self._url = metrics_url
        self._on_scrape = on_scrape
        self._pid = pid
        # The PSS thread writes it and the RSS thread reads it. Safe without a lock: the list is
        # replaced, never changed, so a reader has the old one or the new one.
        self._family: list[psutil.Process] = []
        self._pages_left = MOST_PAGES_BYTES
        self._gpus = gpus
        machine = machine_load.MachineSampler(None if pid is None else (pid,))
        self.watched = Watched()
        self._pulses = {  # by the name that cell.json gives each
            "scraping": Pulse(self._scrape, scrape_interval_s),
            "weighing": Pulse(self._sample_pss, max(scrape_interval_s, PSS_INTERVAL_S)),
            "sampling": Pulse(self._sample, sample_interval_s),
            "overseeing": Pulse(
                lambda: self.watched.machine.append(machine.sample()), machine_load.INTERVAL_S
            ),
        }

    def __enter__(self) -> "Watcher":
        for pulse in self._pulses.values():
            pulse.start()
        return self

    def __exit__(self, *_: object) -> None:
        for pulse in reversed(self._pulses.values()):
            pulse.stop()

    def cost(self) -> dict[str, PulseCost]:
        """By sampler: what watching took of the machine, and how punctual it was."""
        return {name: pulse.cost() for name, pulse in self._pulses.items()}

    def _scrape(self) -> None:
        reading = scrape(self._url)
        self._pages_left -= sys.getsizeof(reading.text)
        if self._pages_left < 0:
            error = f"TooLarge: more than {MOST_PAGES_BYTES >> 20} MiB of pages in this cell"
            reading = replace(reading, text=None, error=error)
        self.watched.scrapes.append(reading)
        try:
            self._on_scrape(reading)
        except Exception as error:  # a fault of the display must not stop the recording
            reason = one_line(f"{type(error).__name__}: {error}")[:200]
            print(f"the live view of the engine has ended ({reason})", file=sys.stderr)
            self._on_scrape = lambda scrape: None

    def _sample_pss(self) -> None:
        self._family = [] if self._pid is None else family(self._pid)
        self.watched.processes.append(process_sample(self._family, with_pss=True))

    def _sample(self) -> None:
        self.watched.gpus += nvml.sample(self._gpus)
        self.watched.processes.append(process_sample(self._family, with_pss=False))

"""What a study shows while it runs: a live view on a terminal, plain lines elsewhere, and events.

Events are for programs (``--json``): one object a line; ``docs/events.md`` lists their fields.
"""

import json
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import IO, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from enginebench.base.text import clock, one_line
from enginebench.load.spec import LoadProgress as LoadLive

REFRESH_PER_S = 4
LOOKS = 5  # the rate "now" is that since the fifth last look at the engine

#: What is shown of an engine's metrics, where it has them, and what is looked at.
SHOWN = ("requests_running", "requests_waiting", "kv_used_ratio")
GAUGES = (*SHOWN, "output_tokens_total")

Emit = Callable[..., None]  # takes an event's name, and its fields as keywords


def ignore_events(event: str, **fields: Any) -> None:
    """For a study whose events nobody reads."""


def json_lines(file: IO[str]) -> Emit:
    """Write each event as a line of JSON at once; a reader that goes away stops nothing."""

    def emit(event: str, **fields: Any) -> None:
        try:
            file.write(json.dumps({"event": event, **fields}, allow_nan=False) + "\n")
            file.flush()
        except OSError:  # the reader has gone, or the disk is full: no more is written, at exit too
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, file.fileno())
            os.close(nowhere)

    return emit


@dataclass(slots=True)
class _CellView:
    label: str
    requests: int
    live: LoadLive
    engine: Mapping[str, float | None] = field(default_factory=dict)  # GAUGES, when last looked at
    looks: deque[tuple[float, int, float | None]] = field(
        default_factory=lambda: deque(maxlen=LOOKS)
    )  # s, pieces, tokens by the engine's count

    def look(self, gauges: Mapping[str, float | None]) -> None:
        self.engine = gauges
        total = gauges.get("output_tokens_total")
        self.looks.append((time.perf_counter(), self.live.pieces, total))

    def tokens_per_s(self) -> float:
        """By the engine's own count over the last looks; 0 before the second one.

        Where it has none, pieces received a second: about the tokens, which are counted only
        afterwards.
        """
        first_s, first_pieces, first = self.looks[0] if self.looks else (0.0, 0, None)
        last_s, last_pieces, last = self.looks[-1] if self.looks else (0.0, 0, None)
        tokens = last_pieces - first_pieces if first is None or last is None else last - first
        return tokens / (last_s - first_s) if last_s > first_s else 0.0

    def engine_text(self) -> str:
        running, waiting, used = (self.engine.get(name) for name in SHOWN)
        parts = [
            f"{running:.0f} running" if running is not None else "",
            f"{waiting:.0f} waiting" if waiting is not None else "",
            f"KV cache {used:.0%} used" if used is not None else "",
        ]
        return ", ".join(part for part in parts if part)


class Display:
    """One study's progress. Use as a context manager; every method may be called without it."""

    def __init__(
        self,
        console: Console,
        total_estimate_s: float = 0.0,
        cells: int = 0,
        emit: Emit = ignore_events,
    ) -> None:
        self.console = console
        self._emit = emit
        self._total_s = total_estimate_s
        self._cells = cells
        self._cells_done = 0
        self._estimated_done_s = 0.0
        self._started_s = self._last_done_s = time.perf_counter()
        self._stage = "starting"
        self._cell: _CellView | None = None
        self._warning = ""
        self._live = Live(self, console=console, refresh_per_second=REFRESH_PER_S, transient=True)

    def __enter__(self) -> "Display":
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def stage(self, text: str) -> None:
        """A new step has begun."""
        self._stage = text = one_line(text)
        self._cell = None
        self._event("stage", text=text)
        if not self.console.is_terminal:
            self._line(text)

    def cell(self, label: str, requests: int, live: LoadLive) -> None:
        """A cell's measured requests have begun."""
        self._stage = f"measuring {label}"
        self._cell = _CellView(label, requests, live)
        self._event("cell_started", cell=label, requests=requests)

    def engine(self, gauges: Mapping[str, float | None]) -> None:
        """Show the engine's latest metrics (``GAUGES``); comes about once a second."""
        if (view := self._cell) is None:
            return
        view.look(gauges)
        self._event(
            "progress",
            cell=view.label,
            requests_done=view.live.requests_done,
            requests=view.requests,
            in_flight=view.live.in_flight,
            tokens_per_s=round(view.tokens_per_s(), 1),
            **{name: gauges.get(name) for name in SHOWN},
        )

    def cell_done(self, label: str, summary: str) -> None:
        """A cell's first attempt is recorded."""
        self._cells_done += 1
        self._end_cell("cell_done", label, summary)

    def cell_repeated(self, label: str, summary: str) -> None:
        """A further attempt is recorded."""
        self._end_cell("cell_repeated", label, summary)

    def _end_cell(self, event: str, label: str, summary: str) -> None:
        self._cell = None
        self._event(event, cell=label, summary=summary)
        self._line(f"{label}: {summary}")

    def start_done(self, estimate_s: float) -> None:
        self._advance(estimate_s)

    def skip(self, cells: int, estimate_s: float) -> None:
        """These cells will not be run, or were run before; the pace does not count them."""
        self._cells_done += cells
        self._total_s -= estimate_s
        now_s = time.perf_counter()
        self._started_s += now_s - self._last_done_s
        self._last_done_s = now_s

    def warn(self, text: str, details: Sequence[str] = ()) -> None:
        self._warning = text = one_line(text)
        self._event("warning", text=text, details=list(details))
        self.console.print(f"[yellow]warning:[/] {escape(text)}", highlight=False, soft_wrap=True)
        for line in details:
            self.console.print(
                f"    {one_line(line)}", markup=False, highlight=False, soft_wrap=True
            )

    def _advance(self, estimate_s: float) -> None:
        self._estimated_done_s += estimate_s
        self._last_done_s = time.perf_counter()

    def _event(self, event: str, **fields: Any) -> None:
        self._emit(
            event,
            elapsed_s=round(time.perf_counter() - self._started_s, 3),
            left_s=round(self.left_s(), 1),
            cells_done=self._cells_done,
            cells=self._cells,
            **fields,
        )

    def _line(self, text: str) -> None:
        elapsed = f"{time.perf_counter() - self._started_s:6.0f} s"
        self.console.print(
            f"{elapsed}  [{self._cells_done}/{self._cells}] {one_line(text)}"
            f"  (about {clock(self.left_s())} left)",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )

    def left_s(self) -> float:
        """Estimated seconds left: the plan's estimate, scaled by how it has held so far."""
        since_s = time.perf_counter() - self._last_done_s
        return max((self._total_s - self._estimated_done_s) * self.pace() - since_s, 0.0)

    def pace(self) -> float:
        """Seconds taken so far for each that was estimated."""
        done_s = self._estimated_done_s
        return (self._last_done_s - self._started_s) / done_s if done_s > 0 else 1.0

    def __rich__(self) -> RenderableType:
        share = min(self._estimated_done_s / self._total_s, 1.0) if self._total_s else 0.0
        head = Table.grid(padding=(0, 2))
        head.add_row(
            ProgressBar(total=1.0, completed=share, width=30),
            f"cell {min(self._cells_done + 1, self._cells)} of {self._cells}",
            f"about {clock(self.left_s())} left",
            Text(self._stage, style="bold"),
        )
        rows: list[RenderableType] = [head]
        if (view := self._cell) is not None:
            body = Table.grid(padding=(0, 2))
            done = view.live.requests_done
            body.add_row(
                ProgressBar(total=view.requests, completed=done, width=30),
                f"{done}/{view.requests} requests",
                f"{view.live.in_flight} in flight",
                f"≈ {view.tokens_per_s():.0f} tokens/s",
            )
            rows.append(body)
            if engine := view.engine_text():
                rows.append(Text(f"engine: {engine}"))
        if self._warning:
            rows.append(Text(f"last warning: {self._warning}", style="yellow"))
        return Group(*rows)

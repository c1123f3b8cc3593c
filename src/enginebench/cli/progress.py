"""Progress through a large record."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

REFRESH_PER_S = 4
LARGE_BYTES = 50 << 20  # read in more than a moment
LINE_EVERY_S = 5.0


@contextmanager
def reading(console: Console, total_bytes: int) -> Iterator[Callable[[int], object]]:
    """Progress through a large record: a bar on a terminal, a line now and then elsewhere.

    Yields:
        a function to call with the bytes of each piece read. A small record shows nothing.
    """
    if total_bytes < LARGE_BYTES:
        yield _show_nothing
        return
    done_bytes, shown_s = 0, time.perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True,
        disable=not console.is_terminal,
    ) as bar:  # fmt: skip
        task = bar.add_task("reading the record", total=total_bytes)
        every_s = 1 / REFRESH_PER_S if console.is_terminal else LINE_EVERY_S

        def on_bytes(count: int) -> None:
            nonlocal done_bytes, shown_s
            done_bytes += count
            now_s = time.perf_counter()
            if now_s - shown_s >= every_s:
                shown_s = now_s
                bar.update(task, completed=done_bytes)
                if not console.is_terminal:
                    share = f"{done_bytes / total_bytes:.0%} of {total_bytes / 2**20:,.0f} MiB"
                    console.print(f"reading the record: {share}", highlight=False)

        yield on_bytes


def _show_nothing(count: int) -> None:
    """A small record is read before a bar could be looked at."""

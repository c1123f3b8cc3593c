"""Where verbs write what people read. Rich is imported only by those that draw."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from enginebench.base.text import printable

if TYPE_CHECKING:
    from rich.console import Console

Log = Callable[[str], None]
PLAIN_WIDTH = 120  # columns of a table where standard output is no terminal


def log(text: str) -> None:
    print(printable(text), flush=True)


def log_to_stderr(text: str) -> None:
    print(printable(text), file=sys.stderr, flush=True)


def skipped(reason: str) -> None:
    """A record beside others that cannot be read."""
    log_to_stderr(f"skipped: {reason}")


def new_console(stderr: bool = False) -> "Console":
    from rich.console import Console

    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    return Console(stderr=stderr, highlight=False, width=width)

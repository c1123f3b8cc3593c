"""Where verbs write what people read. Rich is imported only by those that draw."""

import os
import sys
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, cast

from enginebench.base.text import printable

if TYPE_CHECKING:
    from rich.console import Console

Log = Callable[[str], None]
PLAIN_WIDTH = 120  # columns of a table where standard output is no terminal


class _Patient:
    """A standard stream that never ends the program: once it cannot be written, it goes nowhere."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:  # the reader has gone, or the disk is full
            self._silence()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._silence()

    def _silence(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


def never_fail() -> None:
    """Let a study outlive whoever reads what it prints, and print on terminals of any encoding."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller; its number must not go to a file of a record
            stream = open(os.devnull, "w")  # noqa: PTH123, SIM115
            setattr(sys, name, stream)
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
            setattr(sys, name, cast(IO[str], _Patient(stream)))


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

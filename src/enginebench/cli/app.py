"""The command line: the same verbs as the Makefile, one module for each group of them.

A verb imports what it needs when it is called, so that ``--help`` loads nothing heavy.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

import typer

from enginebench import __version__
from enginebench.base.errors import UserError
from enginebench.base.text import one_line
from enginebench.cli import exit_codes, hardware, kit, machine, reports, study, terminal, verify

AGAIN_S = 0.05  # until an interrupt that Python dropped is sent again

app = typer.Typer(
    help="A comparison study of LLM inference engines that can be trusted and rerun.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # importing Rich takes longer than all the rest of --help
)
app.command()(study.study)
app.command()(study.bench)
app.command()(study.plan)
app.command()(reports.report)
app.command()(reports.wandb)
app.command()(verify.verify)
app.command()(verify.publish)
app.command()(hardware.check)
app.command()(hardware.kv)
app.command()(kit.kit)
app.command()(machine.setup)
app.command()(machine.engines)
app.command()(machine.doctor)
app.command()(machine.down)


@app.command()
def version() -> None:
    """Print the version."""
    terminal.log(__version__)


def main() -> None:
    terminal.never_fail()
    run_cli(app)


def run_cli(command: Callable[[], object]) -> None:
    """Call a command; a user's mistake becomes one line and exit code 2."""
    # A shell starts background jobs with SIGINT ignored; here it must always mean "stop orderly".
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _on_sigterm)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup has it
        signal.signal(signal.SIGHUP, _on_sighup)
    sys.unraisablehook = _on_unraisable
    try:
        command()
    except UserError as error:
        terminal.log_to_stderr(f"enginebench: {one_line(error.message)}")
        for line in error.details:
            terminal.log_to_stderr(f"    {one_line(line)}")
        sys.exit(exit_codes.USER_ERROR)
    except MemoryError:
        terminal.log_to_stderr(
            "enginebench: out of memory; what was recorded is kept: free some memory, or raise the "
            "limit (ulimit -v), and run it again"
        )
        sys.exit(exit_codes.USER_ERROR)
    except KeyboardInterrupt:
        sys.exit(exit_codes.INTERRUPTED)
    finally:  # all is done: a second Ctrl-C while Python ends must not change the exit code
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGINT)  # stops in the same order as Ctrl-C, event loops included


def _on_sighup(number: int, frame: FrameType | None) -> None:
    """The terminal is gone: whatever is still written to it must not fail, nor end the stop."""
    silent = os.open(os.devnull, os.O_WRONLY)
    for fd in (1, 2):
        if os.isatty(fd):
            os.dup2(silent, fd)
    os.close(silent)
    signal.raise_signal(signal.SIGINT)


def _on_unraisable(lost: "sys.UnraisableHookArgs") -> None:
    """An interrupt that lands in a callback (of a weak reference, of a fork) is dropped by Python,
    and the study would go on: send it again."""
    if issubclass(lost.exc_type, KeyboardInterrupt):
        again = threading.Timer(AGAIN_S, os.kill, (os.getpid(), signal.SIGINT))
        again.daemon = True
        again.start()
    else:
        sys.__unraisablehook__(lost)

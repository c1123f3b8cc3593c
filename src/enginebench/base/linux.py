"""What is asked of Linux directly. Standard library only."""

import ctypes
import resource
import signal

from enginebench.base.errors import UserError

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36
_LIBC = ctypes.CDLL(None)  # loaded here: little is safe between fork and exec


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this process a signal when the one that started it ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal_number)


def adopt_orphans(adopts: bool = True) -> None:
    """Become the parent of every descendant whose own parent ends, so that none is out of sight."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, int(adopts), 0, 0, 0)


def signal_name(number: int) -> str:
    """``SIGKILL``, and ``SIGRTMIN+3`` for the real-time signals, most of which have no name."""
    if signal.SIGRTMIN < number < signal.SIGRTMAX:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def allow_open_files(needed: int, what: str) -> None:
    """Raise this process's soft limit of open files where it is lower than needed.

    Args:
        what: needs them, for the message.

    Raises:
        UserError: the hard limit is lower, too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise UserError(
            f"open files: expected a limit of at least {needed} for {what}, found a hard limit of "
            f"{hard}; raise it (ulimit -Hn {needed}, or LimitNOFILE of the service) or lower the "
            "study's concurrency"
        )
    # Only what is needed: engines inherit the limit, and some programs close every number up to it.
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))

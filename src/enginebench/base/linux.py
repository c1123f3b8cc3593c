"""What is asked of Linux directly. Standard library only."""

import ctypes

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None)  # loaded here: little is safe between fork and exec


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this process a signal when the one that started it ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal_number)

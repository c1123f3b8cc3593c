"""Who has started an engine: the mark of a harness, and whether that harness is surely gone.

A mark names the running kernel, the namespaces of process numbers and of time, the process, and its
start in clock ticks. It holds no name of a host and no time of day: neither a renamed machine nor a
clock that was set makes a living harness look dead. A harness in other namespaces (a container)
cannot be looked up by its number; there, and to be safe everywhere, its lock file counts: locked
for as long as the harness lives, and released by the kernel however it ends.
"""

import atexit
import contextlib
import fcntl
import functools
import hashlib
import os
import re
import tempfile
import time
from pathlib import Path

from enginebench.base import proc

#: The place (kernel and namespaces), the process, its start in ticks.
_FORM = re.compile(r"([0-9a-f]{16})-(\d{1,10})-(\d{1,20})")
_PREFIX = "enginebench-"
_ATTEMPTS = 100
_locks: dict[str, int] = {}  # this process's marks -> open files that hold their locks


@functools.cache
def _place(root: Path = proc.PROC) -> str:
    """This kernel since it was booted, and the namespaces that numbers and ticks are valid in."""
    parts = [(root / "sys/kernel/random/boot_id").read_text().strip()]
    for name in ("pid", "time"):  # kernels before 5.6 have no namespaces of time
        with contextlib.suppress(OSError):
            parts.append(str((root / "self" / "ns" / name).readlink()))
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]


def mark() -> str:
    """The mark of this process; its lock file is held from now on, to the end of the process."""
    process = proc.read("self")
    assert process is not None
    own_mark = f"{_place()}-{process.pid}-{process.start_ticks}"
    if own_mark not in _locks:
        _locks.clear()  # of the process that this one was forked from
        _locks[own_mark] = _locked(_lock_file(own_mark))
    return own_mark


def is_gone(owner: str, root: Path = proc.PROC) -> bool:
    """Whether the harness of a mark has certainly ended.

    False where that cannot be known: on another machine, in another container, or with the mark of
    another version.
    """
    form = _FORM.fullmatch(owner)
    if form is None:
        return False
    lock = _is_locked(_lock_file(owner))
    if lock:
        return False
    if form[1] != _place(root):
        return lock is False  # released: it has ended, wherever it ran
    process = proc.read(form[2], root)
    return process is None or process.start_ticks != int(form[3])


def remove_stale_locks() -> None:
    """Remove the lock files of killed harnesses."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*.lock"):
        owner = path.name.removeprefix(_PREFIX).removesuffix(".lock")
        if _FORM.fullmatch(owner) and _is_locked(path) is False and is_gone(owner):
            with contextlib.suppress(OSError):
                path.unlink()


@atexit.register
def _release() -> None:
    """Remove the lock file of this process at its end."""
    for owner, fd in _locks.items():
        if fd >= 0 and owner.split("-")[1] == str(os.getpid()):  # not in a forked child
            _lock_file(owner).unlink(missing_ok=True)
            os.close(fd)


def _lock_file(owner: str) -> Path:
    return Path(tempfile.gettempdir()) / f"{_PREFIX}{owner}.lock"


def _locked(path: Path) -> int:
    """An open file that holds the lock; -1 where there can be none (a full or read-only disk)."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    for _ in range(_ATTEMPTS):
        try:
            fd = os.open(path, flags, 0o600)
        except OSError:
            return -1
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.stat().st_ino == os.fstat(fd).st_ino:
                return fd
        except OSError:  # asked for or removed by another harness, right before it was locked
            time.sleep(0.01)
        os.close(fd)
    return -1


def _is_locked(path: Path) -> bool | None:
    """Whether a lock file is held, or cannot be asked; None: there is none."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError:  # another user's
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return os.fstat(fd).st_uid != os.geteuid()  # made by somebody else: it says nothing
    except OSError:
        return True
    finally:
        os.close(fd)

"""Text files that people hand in: read whole, or refused with what is odd about them."""

import os
import stat
from pathlib import Path

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
LFS_HEAD = b"version https://git-lfs.github.com/spec/"  # github.com/git-lfs/git-lfs, docs/spec.md


class UnreadableFile(Exception):
    """Why a file cannot be used, in words that follow "found"; ``line`` counts from 1."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line

    def where(self, path: Path) -> str:
        """The file, with the line."""
        return f"{path}:{self.line}" if self.line else str(path)


def read_bytes(path: Path, most_bytes: int) -> bytes:
    """The contents of a regular file; a pipe or a device is never waited for.

    Raises:
        UnreadableFile: not there, no regular file, or larger than ``most_bytes``.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                kind = next((name for test, name in _KINDS if test(mode)), "no regular file")
                raise UnreadableFile(kind)
            data = file.read(most_bytes + 1)
    except IsADirectoryError:  # os.fdopen refuses one itself
        raise UnreadableFile("a directory") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise UnreadableFile(getattr(error, "strerror", None) or str(error)) from None
    if len(data) > most_bytes:
        raise UnreadableFile(f"more than {_size(most_bytes)}")
    return data


def read_text(path: Path, most_bytes: int) -> str:
    """The text of a UTF-8 file, without a byte order mark, its lines ended by ``\\n``.

    Raises:
        UnreadableFile: as in ``read_bytes``, or no UTF-8 text.
    """
    data = read_bytes(path, most_bytes)
    if data.startswith(LFS_HEAD):
        raise UnreadableFile("a Git LFS pointer instead of the file; run: git lfs pull")
    if data.startswith(_UTF16):
        raise UnreadableFile("not UTF-8 text but UTF-16")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UnreadableFile(f"not UTF-8 text (byte 0x{data[error.start]:02x})", line) from None
    if "\0" in text:
        raise UnreadableFile(
            "a NUL byte, which no text has", text.count("\n", 0, text.index("\0")) + 1
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _size(count: int) -> str:
    if count >= 1 << 30:
        return f"{count / (1 << 30):g} GiB"
    return f"{count / (1 << 20):g} MiB" if count >= 1 << 20 else f"{count} bytes"

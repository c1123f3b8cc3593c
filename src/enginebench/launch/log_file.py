"""An engine's log: without secrets from its first byte on, and of bounded size.

What an engine prints is redacted line by line before it is written, so that nothing is ever on disk
in clear, however the harness ends. Of an endless log the beginning and the end are kept.
"""

import contextlib
import fcntl
import os
import select
import struct
import termios
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from enginebench.base import redaction
from enginebench.base.redaction import Redactor

HEAD_BYTES = 48 << 20
TAIL_BYTES = 16 << 20
READ_BYTES = 1 << 16
LONGEST_LINE_BYTES = 1 << 20  # a longer one is written in pieces
TAIL_READ_BYTES = 1 << 16  # of a file, for its last lines
SETTLE_S = 1.0


class LogFile:
    """The file, mode 0600, and what is still to be written to it. Its methods may be called from
    several threads."""

    def __init__(
        self,
        path: Path,
        environment: Mapping[str, str] | None = None,
        head_bytes: int = HEAD_BYTES,
        tail_bytes: int = TAIL_BYTES,
    ) -> None:
        """Args: environment: of the engine, whose secrets are blanked besides our own ones."""
        self.path = path
        secrets = redaction.values() + (redaction.values(environment) if environment else [])
        self._redactor = Redactor(secrets)
        # At most so many bytes at the end of a piece may be the beginning of a secret.
        sizes = [len(os.fsencode(secret)) for secret in secrets]
        self._held_bytes = max([4096, *sizes])
        self._head_left, self._tail_bytes = head_bytes, tail_bytes
        self._partial, self._tail, self._cut = b"", bytearray(), 0
        self._lock = threading.Lock()
        path.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o600)

    def write(self, data: bytes) -> None:
        """Take what was printed; whole lines are on disk when this returns."""
        with self._lock:
            if self._fd < 0:
                return
            whole, newline, self._partial = (self._partial + data).rpartition(b"\n")
            if newline:
                self._put(self._redactor.bytes(whole + newline))
            if len(self._partial) > LONGEST_LINE_BYTES:
                text = self._redactor.bytes(self._partial)
                self._put(text[: -self._held_bytes])
                self._partial = text[-self._held_bytes :]

    def _put(self, text: bytes) -> None:
        written = self._to_disk(text[: self._head_left])
        self._head_left -= written
        rest = text[written:]
        if not rest:
            return
        self._head_left = 0
        self._tail += rest
        if len(self._tail) > 2 * self._tail_bytes:
            excess = len(self._tail) - self._tail_bytes
            self._cut += excess
            del self._tail[:excess]

    def _to_disk(self, text: bytes) -> int:
        """The bytes written: all of them unless the disk is full."""
        start = 0
        with contextlib.suppress(OSError):
            while start < len(text):
                start += os.write(self._fd, memoryview(text)[start:])
        return start

    def close(self) -> None:
        """Write what is left: an unfinished line, and the end of a log that was cut."""
        with self._lock:
            if self._fd < 0:
                return
            self._put(self._redactor.bytes(self._partial))
            self._partial = b""
            excess = max(0, len(self._tail) - self._tail_bytes)
            self._cut += excess
            tail = bytes(self._tail[excess:])
            if self._cut:
                note = f"\n[enginebench: {self._cut:,} bytes of the log were left out here]\n"
                self._to_disk(note.encode())
            self._to_disk(tail)
            self._tail.clear()
            os.close(self._fd)
            self._fd = -1

    def text(self) -> str:
        """All that was kept so far."""
        with self._lock:
            kept = self.path.read_bytes() if self.path.exists() else b""
            return (kept + bytes(self._tail)).decode(errors="replace")

    def last_lines(self, count: int) -> list[str]:
        """The last lines so far, an unfinished one too."""
        with self._lock:
            pending = bytes(self._tail[-TAIL_READ_BYTES:]) + self._redactor.bytes(self._partial)
            content = b""
            with contextlib.suppress(OSError), self.path.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_READ_BYTES))
                content = file.read(TAIL_READ_BYTES)
        return (content + pending).decode(errors="replace").splitlines()[-count:]


class Pump:
    """Copies a pipe into a log, in a thread, until all that could write to the pipe have ended."""

    def __init__(self, log: LogFile) -> None:
        self.log = log
        self._read_end, self.write_end = os.pipe()
        self._is_busy = True
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Call it once the engine has been started: our own end for writing is closed then."""
        os.close(self.write_end)
        self._thread.start()

    def settle(self) -> None:
        """Wait until what was printed so far is in the log, for a second at most."""
        until_s = time.perf_counter() + SETTLE_S
        with contextlib.suppress(OSError):  # its end was closed meanwhile
            while time.perf_counter() < until_s and self._thread.is_alive():
                if not self._waiting_bytes() and not self._is_busy:
                    return
                time.sleep(0.01)

    def finish(self, timeout_s: float = SETTLE_S) -> None:
        """Close the log; whoever still holds the pipe open writes into nothing."""
        self._thread.join(timeout_s)
        self.log.close()

    def _waiting_bytes(self) -> int:
        buffer = fcntl.ioctl(self._read_end, termios.FIONREAD, b"\0" * 4)
        return int(struct.unpack("i", buffer)[0])

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._read_end, select.POLLIN)
        try:
            while True:
                self._is_busy = False
                poll.poll()
                self._is_busy = True  # before anything is taken out of the pipe: see ``settle``
                data = os.read(self._read_end, READ_BYTES)
                if not data:
                    return
                self.log.write(data)
        except OSError:
            return
        finally:
            os.close(self._read_end)

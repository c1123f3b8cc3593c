"""One connection to an engine: opened without blocking, TLS or not, and its send buffer."""

import contextlib
import os
import select
import socket
import ssl
import time
from array import array
from typing import Literal

from enginebench.load import clock
from enginebench.load.exchange import Exchange
from enginebench.load.http1 import ResponseReader

READ_BYTES = 1 << 16
READ, WRITE = select.EPOLLIN, select.EPOLLIN | select.EPOLLOUT


class Stream:
    """One connection that carries one exchange at a time.

    The loop (``load.py``) reads ``recvmsg`` and the lists of the running exchange directly: while
    tokens arrive there is no time for more.
    """

    __slots__ = (
        "_incoming",
        "_outgoing",
        "_tls",
        "_unsent",
        "exchange",
        "fd",
        "free_s",
        "is_regular",
        "kept",
        "read_s",
        "reader",
        "recvmsg",
        "sizes",
        "socket",
        "stamps",
        "state",
        "used_s",
    )

    def __init__(self) -> None:
        self.state: Literal["closed", "connecting", "handshake", "open"] = "closed"
        self.socket: socket.socket | None = None
        self.fd = -1
        self.exchange: Exchange | None = None
        self.free_s = 0.0  # when it became free
        self.used_s = 0.0  # when something last came or went
        self._tls: ssl.SSLObject | None = None
        self._unsent = b""
        self.clear()

    def clear(self) -> None:
        """Make ready for the next response."""
        self.reader = ResponseReader()
        self.is_regular = False  # the next byte is the first of a chunk
        self.kept = bytearray()
        self.stamps = bytearray()
        self.read_s = array("d")
        self.sizes = array("I")

    def connect(
        self,
        family: socket.AddressFamily,
        place: tuple[object, ...],
        context: ssl.SSLContext | None,
        host: str,
    ) -> None:
        """Begin to open. Raises OSError where that fails at once."""
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        clock.ask_for_stamps(made)
        self.socket, self.fd, self.recvmsg = made, made.fileno(), made.recvmsg
        self.state = "connecting"
        self._tls = None
        if context is not None:
            self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        with contextlib.suppress(BlockingIOError):
            made.connect(place)

    def go_on(self) -> bool:
        """Take opening one step further; True once the connection can be used.

        Raises:
            OSError: it cannot be opened (ssl.SSLError is one).
        """
        assert self.socket is not None
        error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
        if self._tls is not None:
            if self.state == "handshake":
                self._take_handshake()
            self.state = "handshake"
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._unsent += self._outgoing.read()
                self.flush()
                return False
            self._unsent += self._outgoing.read()
            self.flush()
        self.state = "open"
        self.used_s = time.perf_counter()
        return True

    def _take_handshake(self) -> None:
        assert self.socket is not None
        with contextlib.suppress(BlockingIOError):
            data = self.socket.recv(READ_BYTES)
            if not data:
                raise ConnectionError("closed during the TLS handshake")
            self._incoming.write(data)

    def send(self, data: bytes) -> None:
        """Hand bytes to the kernel, as many as it takes now; ``flush`` sends the rest."""
        if self._tls is not None:
            self._tls.write(data)
            data = self._outgoing.read()
        self._unsent = data
        self.flush()

    def flush(self) -> bool:
        """Send what is left; True if nothing is."""
        assert self.socket is not None
        if self._unsent:
            with contextlib.suppress(BlockingIOError):
                if self.exchange is not None and self.state == "open":
                    self.exchange.sent_s = time.perf_counter()
                sent = self.socket.send(self._unsent)
                self._unsent = self._unsent[sent:]
        return not self._unsent

    @property
    def events(self) -> int:
        """What to wait for."""
        return WRITE if self._unsent or self.state == "connecting" else READ

    @property
    def is_opening(self) -> bool:
        return self.state in ("connecting", "handshake")

    @property
    def is_sending(self) -> bool:
        """Whether a part of the request is still to be sent."""
        return bool(self._unsent)

    @property
    def is_encrypted(self) -> bool:
        return self._tls is not None

    def decrypt(self, data: bytes) -> bytes | None:
        """Plain bytes out of what arrived; None where the other side has closed.

        Raises:
            OSError: what arrived is not TLS (ssl.SSLError is one).
        """
        assert self._tls is not None
        self._incoming.write(data)
        plain = b""
        try:
            while part := self._tls.read(READ_BYTES):
                plain += part
        except ssl.SSLWantReadError:
            return plain
        except ssl.SSLZeroReturnError:
            pass
        return plain or None

    def close(self) -> None:
        """Drop the connection at once: the engine sees a reset, and can stop generating."""
        if self.socket is not None:
            with contextlib.suppress(OSError):  # no lingering in TIME_WAIT by the thousands
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.socket.close()
        self.socket = None
        self.state = "closed"
        self._unsent = b""

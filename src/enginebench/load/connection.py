"""Connections to an engine: opened without blocking, with or without TLS."""

import contextlib
import os
import select
import socket
import ssl
import time
from array import array
from typing import Literal

from enginebench.engines.address import Address
from enginebench.load import clock
from enginebench.load.exchange import Exchange
from enginebench.load.http1 import ResponseReader

READ_BYTES = 1 << 16
READ, WRITE = select.EPOLLIN, select.EPOLLIN | select.EPOLLOUT


class Stream:
    """One connection that carries one exchange at a time.

    The event loop reads ``recvmsg`` and the lists of the running exchange directly: while tokens
    arrive there is no time for more.
    """

    __slots__ = (
        "_incoming",
        "_outgoing",
        "_tls",
        "_unsent",
        "exchange",
        "fd",
        "free_s",
        "is_encrypted",
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
        self.is_encrypted = False
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

    def keep_beginning(self, least_bytes: int) -> None:
        """Drop all pieces of the response but the first ones, at least so many bytes of them."""
        pieces = size = 0
        while pieces < len(self.sizes) and size < least_bytes:
            size += self.sizes[pieces]
            pieces += 1
        del self.kept[size:], self.stamps[pieces * clock.STAMP.size :]
        del self.sizes[pieces:], self.read_s[pieces:]

    def connect(
        self,
        family: socket.AddressFamily,
        socket_address: tuple[object, ...],
        context: ssl.SSLContext | None,
        host: str,
    ) -> None:
        """Begin to open.

        Args:
            family, socket_address: as ``Address.resolve`` gives them.
            context: None: no TLS.
            host: the name that the certificate must have.

        Raises:
            OSError: it failed at once.
        """
        new = socket.socket(family, socket.SOCK_STREAM)
        new.setblocking(False)
        new.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        clock.enable_stamps(new)
        self.socket, self.fd, self.recvmsg = new, new.fileno(), new.recvmsg
        self.state = "connecting"
        self._tls = None
        self.is_encrypted = context is not None
        if context is not None:
            self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        with contextlib.suppress(BlockingIOError):
            new.connect(socket_address)

    def continue_opening(self) -> bool:
        """Do the next step of opening; True once the connection can be used.

        Raises:
            OSError: it cannot be opened (ssl.SSLError is one).
        """
        assert self.socket is not None
        error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
        if self._tls is not None:
            if self.state == "handshake":
                self._read_handshake()
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

    def _read_handshake(self) -> None:
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

    def decrypt(self, data: bytes) -> bytes | None:
        """The plain bytes in what arrived; None if the other side has closed.

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
        """Reset the connection: the engine sees it at once, and can stop generating."""
        if self.socket is not None:
            with contextlib.suppress(OSError):  # no lingering in TIME_WAIT by the thousands
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.socket.close()
        self.socket = None
        self.state = "closed"
        self._unsent = b""


class Connections:
    """The connections of one load, in the epoll set of its event loop."""

    def __init__(self, address: Address, count: int, epoll: select.epoll) -> None:
        """
        Raises:
            OSError: the host has no address, or the certificates cannot be read.
        """
        self.streams = [Stream() for _ in range(count)]
        self.by_fd: dict[int, Stream] = {}  # all but the closed ones
        self.opened = 0  # in all, reopened ones too
        self._host, self._epoll = address.host, epoll
        self._family, self._socket_address = address.resolve()
        self._context = address.context()

    def open(self, stream: Stream) -> None:
        """Begin to open a closed stream.

        Raises:
            OSError: it failed at once.
        """
        self.opened += 1
        stream.connect(self._family, self._socket_address, self._context, self._host)
        self.by_fd[stream.fd] = stream
        self._epoll.register(stream.fd, stream.events)

    def watch(self, stream: Stream) -> None:
        """Wait for what the stream needs now."""
        self._epoll.modify(stream.fd, stream.events)

    def drop(self, stream: Stream) -> None:
        if stream.state != "closed":
            self.by_fd.pop(stream.fd, None)
        stream.close()  # which also removes it from the epoll set

    def close(self) -> None:
        for stream in self.streams:
            stream.close()

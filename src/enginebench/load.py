"""The load generator: many streamed requests at once, every piece stamped when it arrives.

While tokens arrive, nothing happens but a clock reading, an append, and as much HTTP framing as is
needed to know that a response has ended. JSON is taken apart afterwards (``exchange.py``).

All times are seconds of ``time.perf_counter`` (CLOCK_MONOTONIC on Linux).
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from enginebench.http1 import ProtocolError, ResponseReader

CONNECT_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int


@dataclass(slots=True)
class Exchange:
    """One request and everything that came back, untouched."""

    index: int
    planned_s: float | None = None  # closed loop: when its stream became free
    sent_s: float | None = None  # when the request was handed to the kernel; None: never sent
    pieces: list[tuple[float, bytes]] = field(default_factory=list)  # (arrival, bytes)
    end_s: float | None = None
    fault: str | None = None  # why the exchange is not a complete HTTP response


@dataclass(slots=True)
class Live:
    """Counts that a display may read while the load runs."""

    requests_done: int = 0
    pieces: int = 0
    in_flight: int = 0


def post(address: Address, path: str, body: Mapping[str, Any], request_id: str) -> bytes:
    """The bytes of a POST with a JSON body."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {address.host}:{address.port}\r\n"
        f"Content-Type: application/json\r\nAccept: text/event-stream\r\n"
        f"X-Request-Id: {request_id}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def run_closed_loop(
    address: Address,
    requests: Sequence[bytes],
    concurrency: int,
    timeout_s: float,
    live: Live | None = None,
    lost: Callable[[], str | None] = lambda: None,
) -> list[Exchange]:
    """Send all requests, keeping ``concurrency`` in flight; the next goes to the first free stream.

    Connections are opened before the first request and kept. Returns one exchange a request, in
    the order of ``requests``.

    Args:
        timeout_s: longest time for one request; then its connection is closed.
        lost: asked after a failed exchange; a reason means that the engine is gone for good, and
            the requests not yet sent are given up with that reason.
    """
    return asyncio.run(
        _closed_loop(address, requests, concurrency, timeout_s, live or Live(), lost)
    )


async def _closed_loop(
    address: Address,
    requests: Sequence[bytes],
    concurrency: int,
    timeout_s: float,
    live: Live,
    lost: Callable[[], str | None],
) -> list[Exchange]:
    exchanges = [Exchange(index) for index in range(len(requests))]
    waiting = iter(exchanges)
    streams = [_Stream(address, live) for _ in range(min(concurrency, len(requests)))]
    for stream in streams:
        with contextlib.suppress(OSError):  # the request itself will record the refusal
            await stream.open()

    async def work(stream: _Stream) -> None:
        for exchange in waiting:  # shared: each stream takes the next one left
            exchange.planned_s = time.perf_counter()
            await stream.exchange(exchange, requests[exchange.index], timeout_s)
            if exchange.fault is not None and (reason := lost()) is not None:
                for left in waiting:
                    left.fault = f"not sent: {reason}"
            live.requests_done += 1

    try:
        await asyncio.gather(*(work(stream) for stream in streams))
    finally:
        for stream in streams:
            stream.close()
    return exchanges


class _Stream(asyncio.Protocol):
    """One connection that carries one exchange at a time."""

    def __init__(self, address: Address, live: Live) -> None:
        self._address = address
        self._live = live
        self._transport: asyncio.Transport | None = None
        self._current: Exchange | None = None
        self._reader = ResponseReader()
        self._done: asyncio.Future[None] | None = None

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        connecting = loop.create_connection(
            lambda: self, self._address.host, self._address.port
        )  # asyncio sets TCP_NODELAY
        await asyncio.wait_for(connecting, CONNECT_TIMEOUT_S)

    async def exchange(self, exchange: Exchange, request: bytes, timeout_s: float) -> None:
        """Send one request and wait until its response has ended, failed or timed out."""
        try:
            if self._transport is None or self._transport.is_closing():
                await self.open()
        except OSError as error:  # TimeoutError is one
            exchange.end_s = time.perf_counter()
            exchange.fault = f"cannot connect: {error.strerror or type(error).__name__}"
            return
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        self._reader = ResponseReader()
        self._current = exchange
        self._done = loop.create_future()
        timer = loop.call_later(timeout_s, self._finish, f"timed out after {timeout_s:g} s")
        self._live.in_flight += 1
        try:
            self._transport.write(request)
            exchange.sent_s = time.perf_counter()
            await self._done
        finally:
            timer.cancel()
            self._live.in_flight -= 1
            self._current = None
        if exchange.fault is not None or not self._reader.keep_alive:
            self.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        exchange = self._current
        if exchange is None:  # bytes that nobody asked for: this connection cannot be trusted
            self.close()
            return
        exchange.pieces.append((now, data))
        self._live.pieces += 1
        try:
            self._reader.feed(data)
        except ProtocolError as error:
            self._finish(str(error))
            return
        if self._reader.done:
            self._finish(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        complete = self._reader.close()
        self._finish(None if complete else "the engine closed the connection before the end")

    def _finish(self, fault: str | None) -> None:
        if self._current is None or self._done is None or self._done.done():
            return
        self._current.end_s = time.perf_counter()
        self._current.fault = fault
        self._done.set_result(None)

"""A small scripted server on loopback that streams tokens as a completions server does."""

import asyncio
import json
import threading

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    b"Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n"
)
LAST_CHUNK = b"0\r\n\r\n"


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def sse(value):
    text = value if isinstance(value, str) else json.dumps(value)
    return chunk(b"data: " + text.encode() + b"\n\n")


def event(text, made=None, finish=None, prompt=5, **usage):
    """One completions event; ``made`` is the number of tokens so far, None for no usage."""
    value = {"choices": [{"text": text, "finish_reason": finish}]}
    if made is not None:
        value["usage"] = {"prompt_tokens": prompt, "completion_tokens": made, **usage}
    return sse(value)


def answer(name, tokens):
    """The bytes of a whole good answer; its text says which request it belongs to."""
    finishes = [None] * (tokens - 1) + ["length"]
    events = [event(f"{name}.{k} ", k, finish) for k, finish in enumerate(finishes, 1)]
    return [HEAD, *events, sse("[DONE]") + LAST_CHUNK]


class FakeServer:
    """Runs in a thread while it is a context.

    ``behaviour``: normal, bytewise (one byte a write), cut (closes in the middle of the answer),
    error (HTTP 500), silent (never answers), close (closes after each whole answer), garbage.
    ``gather``: the first answers wait until so many requests are there at once.
    """

    def __init__(self, behaviour="normal", tokens=3, gather=1):
        self.behaviour, self.tokens, self.gather = behaviour, tokens, gather
        self.port = 0
        self.connections = self.in_flight = self.most_in_flight = 0
        self.request_ids = []  # in the order of arrival

    def __enter__(self):
        started = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(started),))
        self._thread.start()
        assert started.wait(10)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    async def _serve(self, started):
        self._loop, self._stop, self._gathered = (
            asyncio.get_running_loop(),
            asyncio.Event(),
            asyncio.Event(),
        )
        self._handlers = set()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await self._stop.wait()
        server.close()
        await asyncio.wait_for(asyncio.gather(*self._handlers), 10)

    async def _connected(self, reader, writer):
        self.connections += 1
        self._handlers.add(asyncio.current_task())
        try:
            while await self._answer_one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone
        finally:
            writer.transport.abort()

    async def _answer_one(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        await reader.readexactly(int(fields["Content-Length"]))
        name = fields["X-Request-Id"]
        self.request_ids.append(name)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        if self.in_flight >= self.gather:
            self._gathered.set()
        await self._gathered.wait()
        await asyncio.sleep(0.002)  # time for a request too many to show itself
        pieces, keep = self._script(name)
        if self.behaviour == "silent":
            await reader.read()  # until the client gives up
        # Whoever sees the end of this answer may send the next request at once.
        for number, piece in enumerate(pieces, 1):
            if number == len(pieces):
                self.in_flight -= 1
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if not keep:
            writer.close()
            await writer.wait_closed()
        return keep

    def _script(self, name):
        pieces = answer(name, self.tokens)
        match self.behaviour:
            case "normal":
                return pieces, True
            case "bytewise":
                return [bytes([byte]) for byte in b"".join(pieces)], True
            case "cut":
                return pieces[:2], False
            case "close":
                pieces[0] = pieces[0].replace(b"keep-alive", b"close")
                return pieces, False
            case "error":
                return [b"HTTP/1.1 500 Oops\r\nContent-Length: 9\r\n\r\nno memory"], True
            case "silent":
                return [], False
            case "garbage":
                return [b"SSH-2.0-OpenSSH_9.6\r\n"], False
        raise AssertionError(self.behaviour)

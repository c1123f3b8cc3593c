"""A double of an engine that does one wrong thing a cell, or one for a whole start. Over 300 lines,
as it must be one file: it is copied into the directories of engines.

``--faults a,b``: the cell whose prompts have ``FIRST_PROMPT`` tokens has fault a, the one with a
token more has fault b. Warm-ups are good. ``--mode``: a fault of the start. No figure from it ever
reaches a report.
"""

import argparse
import gzip
import json
import os
import signal
import socket
import struct
import sys
import threading
import time
import zlib

FIRST_PROMPT = 24
WARMUP_TOKENS = 2
TOKENS = 6
#: Each is one token of the embedded model.
WORDS = (" the", " and", " of", " to", " is", " in", " it", " for")
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
BOMB_MIB = 64

counts = {"prompt": 0, "output": 0, "asked": 0, "pages": 0}
lock = threading.Lock()
now = {"fault": "", "stopped": False}  # the fault of the cell that is running


def words(prompt, count):
    """A gibberish of one word a token that depends on the prompt's ids."""
    total = sum(prompt) * 7
    return [WORDS[(total + i * i + prompt[i % len(prompt)]) % len(WORDS)] for i in range(count)]


def good_events(prompt, wanted):
    """The data of every event of a good answer, and its end."""
    made = []
    for index, word in enumerate(words(prompt, wanted), 1):
        choice = {"text": word, "finish_reason": "length" if index == wanted else None}
        usage = {"prompt_tokens": len(prompt), "completion_tokens": index}
        made.append(json.dumps({"choices": [choice], "usage": usage}))
    return [*made, "[DONE]"]


# Faults in what events say: from their data to other data.


def put(place, raw, every=False):
    """A fault that puts raw JSON at a place of the last event, or of every one."""

    def change(data):
        *events, done = data
        chosen = range(len(events)) if every else [len(events) - 1]
        for index in chosen:
            event = json.loads(events[index])
            inner = event
            for key in place[:-1]:
                inner = inner[key]
            inner[place[-1]] = "@here@"
            events[index] = json.dumps(event).replace('"@here@"', raw)
        return [*events, done]

    return change


def instead(raw, at=2):
    """A fault that sends something else in place of an event."""
    return lambda data: [*data[:at], raw, *data[at + 1 :]]


def between(raw, at=2):
    """A fault that sends something more before an event."""
    return lambda data: [*data[:at], raw, *data[at:]]


def totals(values):
    """A fault that states other totals, event by event."""

    def change(data):
        events = [json.loads(text) for text in data[:-1]]
        for event, total in zip(events, values, strict=True):
            event["usage"]["completion_tokens"] = total
        return [*map(json.dumps, events), data[-1]]

    return change


def halves(data):
    """Two halves of one character, each in an event of its own."""
    first, second = json.loads(data[1]), json.loads(data[2])
    first["choices"][0]["text"], second["choices"][0]["text"] = "@1", "@2"
    texts = json.dumps(first).replace("@1", "\\ud83d"), json.dumps(second).replace("@2", "\\ude00")
    return [data[0], *texts, *data[3:]]


OUT, IN = ("usage", "completion_tokens"), ("usage", "prompt_tokens")
CHOICE = ("choices", 0)
ERROR = '{"error": {"message": %s}}'
EVENTS = {
    "none": lambda data: data,
    "usage-text": put(OUT, '"6"'),
    "usage-fraction": put(OUT, "6.5"),
    "usage-negative": put(OUT, "-1"),
    "usage-31-bits": put(OUT, "2147483648"),
    "usage-63-bits": put(OUT, "9223372036854775808"),
    "usage-400-digits": put(OUT, "1" + "0" * 400),
    "usage-true": put(OUT, "true"),
    "usage-list": put(OUT, "[6]"),
    "usage-object": put(OUT, "{}"),
    "usage-null": put(OUT, "null", every=True),
    "usage-nan": put(OUT, "NaN"),
    "usage-infinity": put(OUT, "-Infinity"),
    "usage-1e30": put(OUT, "1e30"),
    "usage-whole-float": put(OUT, "6.0"),
    "usage-number": put(("usage",), "5"),
    "usage-falls": totals([1, 2, 4, 3, 5, 6]),
    "usage-jumps": totals([1, 2, 10**9, 4, 5, 6]),
    "prompt-text": put(IN, '"24"'),
    "prompt-negative": put(IN, "-24"),
    "prompt-64-bits": put(IN, "18446744073709551616"),
    "cached-text": put(("usage", "prompt_tokens_details"), '{"cached_tokens": "all"}'),
    "cached-1e30": put(("usage", "prompt_tokens_details"), '{"cached_tokens": 1e30}'),
    "details-text": put(("usage", "prompt_tokens_details"), '"none"'),
    "text-number": put((*CHOICE, "text"), "5"),
    "text-list": put((*CHOICE, "text"), '["a"]'),
    "text-null": put((*CHOICE, "text"), "null", every=True),
    "text-halves": halves,
    "text-100-kb": put((*CHOICE, "text"), json.dumps("x" * 100_000)),
    "text-10-mb": put((*CHOICE, "text"), json.dumps("x " * 5_000_000)),
    "finish-number": put((*CHOICE, "finish_reason"), "5"),
    "finish-object": put((*CHOICE, "finish_reason"), '{"a": 1}'),
    "finish-stop": put((*CHOICE, "finish_reason"), '"stop"'),
    "finish-missing": put((*CHOICE, "finish_reason"), "null"),
    "choices-null": put(("choices",), "null", every=True),
    "choices-number": put(("choices",), "5"),
    "choices-text": put(("choices",), '"a"'),
    "choices-two": put(("choices",), '[{"text": "a"}, {"text": "b"}]'),
    "choices-of-null": put(("choices",), "[null]"),
    "event-list": instead("[1]"),
    "event-number": instead("5"),
    "event-half": instead('{"choices": ['),
    "event-deep": instead("[" * 100_000),
    "event-deep-object": instead('{"a":' * 20_000),
    "event-nul": instead("\x00"),
    "event-words": instead("Internal Server Error"),
    "error-object": between('{"object": "error", "message": "out of memory"}'),
    "error-message": between(ERROR % '"out of blocks"'),
    "error-text": between('{"error": "executor gone"}'),
    "error-detail": between('{"detail": "worker lost"}'),
    "error-list": between('{"error": [1, {"a": 2}]}'),
    "error-escapes": between(ERROR % '"\\u001b[31mred\\u0007 | <script>x</script>\\n## h"'),
    "error-100-kb": between(ERROR % json.dumps("long " * 20_000)),
    "error-half-character": between(ERROR % '"cut \\ud83d"'),
    "after-done": lambda data: [*data, data[0]],
    "done-twice": lambda data: [*data, data[-1]],
    "done-missing": lambda data: data[:-1],
    "done-only": lambda data: data[-1:],
    "keep-alive": between(""),
    "key-twice": lambda data: [data[0].replace("{", '{"usage": 5, ', 1), *data[1:]],
}


# Faults in how bytes come: each gets the connection and the events, and sends an answer. True: the
# connection can be used again.


def chunk(text):
    return b"%x\r\n%s\r\n" % (len(text), text)


def sse(data, prefix=b"data: ", end=b"\n\n"):
    return prefix + data.encode("utf-8", "surrogatepass") + end


def send_good(connection, data):
    connection.sendall(CHUNKED)
    for text in data:
        connection.sendall(chunk(sse(text)))
        time.sleep(0.001)
    connection.sendall(LAST_CHUNK)
    return True


def raw(content, closes=True):
    """A fault that sends these bytes."""

    def send(connection, data):
        connection.sendall(content)
        return not closes

    return send


def framed(change, closes=False):
    """A fault that sends what becomes of the bytes of a good answer."""

    def send(connection, data):
        body = b"".join(sse(text) for text in data)
        connection.sendall(change(body, b"".join(chunk(sse(text)) for text in data)))
        return not closes

    return send


def endless(piece, head=CHUNKED):
    """A fault that never ends."""

    def send(connection, data):
        connection.sendall(head)
        while True:
            connection.sendall(piece)

    return send


def reset(connection, data):
    connection.sendall(CHUNKED + chunk(sse(data[0])))
    time.sleep(0.05)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def bytewise(connection, data):
    whole = CHUNKED + b"".join(chunk(sse(text)) for text in data) + LAST_CHUNK
    for byte in whole:
        connection.sendall(bytes([byte]))
    return True


def stall(first, drop=b""):
    """A fault that goes on for ever without an end: silent, or with a few bytes now and then."""

    def send(connection, data):
        connection.sendall(first)
        while True:
            time.sleep(0.2)
            connection.sendall(drop)

    return send


def silent(connection, data):
    connection.recv(1)  # until the client gives up
    return False


def status(line, body=b"no memory", fields=b""):
    head = b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n" % (line, fields, len(body))
    return raw(head + body, closes=False)


LENGTH = OK + b"Content-Length: %d\r\n\r\n%s"
EVENT = b'data: {"choices": [{"text": " the"}]}\n\n'
SENT = {
    "http-500": status(b"500 Internal Server Error"),
    "http-429": status(b"429 Too Many Requests"),
    "http-503-html": status(b"503 Busy", b"<html><script>alert(1)</script>"),
    "http-204": raw(b"HTTP/1.1 204 No Content\r\n\r\n", closes=False),
    "http-redirect": status(b"302 Found", b"", b"Location: http://127.0.0.1:9/\r\n"),
    "http-garbage": raw(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "http-2": raw(b"HTTP/2 200 OK\r\n\r\n"),
    "http-status-word": raw(b"HTTP/1.1 fine OK\r\n\r\n"),
    "http-nothing": raw(b""),
    "http-cut": lambda connection, data: raw(CHUNKED + chunk(sse(data[0])))(connection, data),
    "http-reset": reset,
    "http-chunk-word": raw(CHUNKED + b"zz\r\n"),
    "http-chunk-negative": raw(CHUNKED + b"-5\r\n"),
    "http-chunk-short": framed(lambda body, _: CHUNKED + b"5\r\n" + body + b"\r\n", closes=True),
    "http-chunk-huge": raw(CHUNKED + b"fffffffffffffff\r\n" + EVENT),
    "http-chunk-name": raw(CHUNKED + b"5;" + b"x" * 9000),
    "http-length-word": raw(OK + b"Content-Length: five\r\n\r\n"),
    "http-length-negative": raw(OK + b"Content-Length: -5\r\n\r\n"),
    "http-length-long": framed(lambda body, _: LENGTH % (len(body) + 9, body), closes=True),
    "http-length-short": framed(lambda body, _: LENGTH % (len(body) - 9, body), closes=True),
    "http-after-the-end": framed(lambda _, chunks: CHUNKED + chunks + LAST_CHUNK + b"more"),
    "http-twice": framed(lambda _, chunks: (CHUNKED + chunks + LAST_CHUNK) * 2),
    "http-head-2-mb": raw(OK + b"X: " + b"x" * (2 << 20)),
    "http-head-fields": raw(OK + b"".join(b"X-%d: y\r\n" % n for n in range(100_000))),
    "http-gzip": framed(
        lambda body, _: (
            LENGTH.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
            % (len(gzip.compress(body)), gzip.compress(body))
        )
    ),
    "http-interim-endless": endless(b"HTTP/1.1 100 Continue\r\n\r\n" * 100, b""),
    "http-stream-endless": endless(chunk(EVENT) * 100),
    "http-comments-endless": endless(chunk(b": ping\n\n") * 100),
    "http-chunk-endless": endless(b"x" * 65536, CHUNKED + b"fffffffffffffff\r\n"),
    "http-stall": stall(CHUNKED + chunk(EVENT)),
    "http-drip": stall(CHUNKED + b"ffff\r\n", b":"),
    "http-silent": silent,
    "http-event-binary": raw(CHUNKED + chunk(b"data: \xff\xfe\x00\n\n") + LAST_CHUNK, closes=False),
    "read-interim": framed(
        lambda _, chunks: b"HTTP/1.1 103 Hints\r\n\r\n" * 1000 + CHUNKED + chunks + LAST_CHUNK
    ),
    "read-1.0": framed(lambda body, _: b"HTTP/1.0 200 OK\r\n\r\n" + body, closes=True),
    "read-until-close": framed(lambda body, _: OK + b"\r\n" + body, closes=True),
    "read-length": framed(lambda body, _: LENGTH % (len(body), body)),
    "read-odd-head": framed(
        lambda body, _: (
            OK + b"X: \xff\x01\r\n: y\r\nz\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
    ),
    "read-bytewise": bytewise,
    "read-byte-order-mark": framed(
        lambda body, _: LENGTH % (len(body) + 3, b"\xef\xbb\xbf" + body)
    ),
    "read-crlf": framed(
        lambda body, _: LENGTH % (len(body) + body.count(b"\n"), body.replace(b"\n", b"\r\n"))
    ),
    "read-comments": framed(
        lambda _, chunks: CHUNKED + chunk(b": hello\n\n") + chunks + LAST_CHUNK
    ),
    "read-no-space": framed(
        lambda body, _: (
            LENGTH % (len(body.replace(b"data: ", b"data:")), body.replace(b"data: ", b"data:"))
        )
    ),
    "read-one-chunk": framed(lambda body, _: CHUNKED + chunk(body) + LAST_CHUNK),
    "read-cut-chunks": framed(
        lambda body, _: (
            CHUNKED + b"".join(chunk(body[k : k + 7]) for k in range(0, len(body), 7)) + LAST_CHUNK
        )
    ),
}


# Faults of the metrics page: each gets the connection and the good page, and sends another.


def page(content, line=b"200 OK", fields=b""):
    head = b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n" % (line, fields, len(content))
    return lambda connection, good: connection.sendall(head + content)


def before(text):
    """A fault that puts lines before the good ones."""
    return lambda connection, good: page((text + good).encode("utf-8"))(connection, good)


def counter(value):
    """A fault that gives both counters another value."""
    text = f"double_prompt_tokens_total {value}\ndouble_output_tokens_total {value}\n"
    return page(text.encode())


def falling(connection, good):
    with lock:
        counts["pages"] += 1
        left = 10**9 - counts["pages"]
    counter(left)(connection, good)


def flood(connection, good):
    connection.sendall(OK + b"\r\n")
    while True:
        connection.sendall(b"x 1\n" * 16384)


def drip(connection, good):
    connection.sendall(OK + b"Content-Length: 99\r\n\r\n")
    while True:
        connection.sendall(b"x")
        time.sleep(0.3)


def bomb(connection, good):
    packer = zlib.compressobj(wbits=31)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(BOMB_MIB)) + packer.flush()
    page(packed, fields=b"Content-Encoding: gzip\r\n")(connection, good)


SERIES = "".join(f'double_output_tokens_total{{rank="{n}"}} 1\n' for n in range(3000))
PAGES = {
    "page-404": page(b"no such page", b"404 Not Found"),
    "page-500": page(b"oops", b"500 Internal Server Error"),
    "page-redirect": page(b"", b"302 Found", b"Location: http://127.0.0.1:9/\r\n"),
    "page-empty": page(b""),
    "page-html": page(b"<html><body>hello</body></html>"),
    "page-not-http": lambda connection, good: connection.sendall(b"SSH-2.0-x\r\n"),
    "page-closed": lambda connection, good: None,
    "page-cut": lambda connection, good: connection.sendall(
        OK + b"Content-Length: 999\r\n\r\ndouble_pro"
    ),
    "page-nan": counter("NaN"),
    "page-infinity": counter("+Inf"),
    "page-negative": counter("-5"),
    "page-400-digits": counter("1" + "0" * 400),
    "page-1e300": counter("1e300"),
    "page-falls": falling,
    "page-still": counter("7"),
    "page-brackets": page(b"[" * 100_000),
    "page-json": page(b'[{"a": {"b": 1e999}}]'),
    "page-json-deep": page(b'[{"a":' * 20_000),
    "page-odd-label": before('x{a="1", ="y"} 1\n'),
    "page-long-line": before('x{a="' + "\\" * 1_000_000 + '"} 1\n'),
    "page-many-labels": before("x{" + "".join(f'a{n}="",' for n in range(50_000)) + "} 1\n"),
    "page-many-lines": before("#\n" * 500_000),
    "page-many-series": before(SERIES),
    "page-endless": flood,
    "page-bomb": bomb,
    "page-encoding": page(b"abc", fields=b"Content-Encoding: br\r\n"),
    "page-drip": drip,
    "page-hang": lambda connection, good: time.sleep(60),
    "read-page-binary": before('x{a="\ufffd"} NaN\n'),
    "read-page-exemplar": before('x_total{a="b"} 1 # {id="5"} 1\n'),
}


# Faults of a whole start.


def daemon(clears):
    """Leave a process of a session of its own, with two forks; perhaps without our environment."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            env = {"PATH": "/bin:/usr/bin"} if clears else os.environ
            os.execvpe("sleep", ["sleep", "300"], env)
        os._exit(0)


def children(count):
    """Leave children that do not listen to a polite end."""
    for _ in range(count):
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(300)
            os._exit(0)


def stop_for(seconds):
    """Be stopped, as by kill -STOP, and go on later."""
    me = os.getpid()
    if os.fork() == 0:
        time.sleep(seconds)
        os.kill(me, signal.SIGCONT)
        os._exit(0)
    os.kill(me, signal.SIGSTOP)


def stopped(connection, data):
    """A good answer in whose middle the process is stopped, the first time."""
    connection.sendall(CHUNKED)
    for index, text in enumerate(data):
        if index == 2 and not now["stopped"]:
            now["stopped"] = True
            stop_for(7)
        connection.sendall(chunk(sse(text)))
    connection.sendall(LAST_CHUNK)
    return True


def flood_log(line, count):
    out = sys.stdout.buffer
    for _ in range(count):
        out.write(line)
    out.flush()


def die_of(number):
    print("fatal: \x1b[31mred\x1b[0m \x07 done", flush=True)
    os.kill(os.getpid(), number)
    time.sleep(5)


def elsewhere():
    time.sleep(300)


STARTING = {
    "exits-3": lambda: (print("fatal: no such file", flush=True), os._exit(3)),
    "exits-0": lambda: os._exit(0),
    "dies-of-segv": lambda: die_of(signal.SIGSEGV),
    "dies-of-rtmin+5": lambda: die_of(signal.SIGRTMIN + 5),
    "dies-of-rtmax": lambda: die_of(signal.SIGRTMAX),
    "never-listens": elsewhere,
    "daemon": lambda: daemon(clears=False),
    "daemon-without-environment": lambda: daemon(clears=True),
    "children-that-ignore-sigterm": lambda: children(10),
    "ignores-sigterm": lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    "log-100-mb": lambda: flood_log(b"all is well, all is well, all is well\n" * 1000, 2600),
    "log-one-line": lambda: flood_log(b"x" * 65536, 800),
    "log-binary": lambda: flood_log(bytes(range(256)) * 16, 100),
    "log-escapes": lambda: flood_log(b"\x1b]0;title\x07\x1b[2J\r| <b> `\n", 100),
    "log-closed": lambda: (os.close(1), os.close(2)),
    "log-secret": lambda: print(f"token {os.environ.get('HF_TOKEN')} used", flush=True),
}
IN_CELL = {
    "exits-9-in-cell": lambda: (os.write(1, b"fatal: out of something\n"), os._exit(9)),
    "dies-of-segv-in-cell": lambda: die_of(signal.SIGSEGV),
    "dies-of-rtmin+5-in-cell": lambda: die_of(signal.SIGRTMIN + 5),
}
HEALTH = {
    "health-503": page(b"{}", b"503 Busy"),
    "health-redirect": page(b"", b"301 Moved", b"Location: http://127.0.0.1:9/health\r\n"),
    "health-not-http": lambda connection, _: connection.sendall(b"SSH-2.0-x\r\n"),
    "health-endless": flood,
    "health-drip": drip,
}
VERSION = {
    "version-nan": page(b'{"version": NaN}'),
    "version-half-character": page(b'{"version": "\\ud800"}'),
    "version-deep": page(b"[" * 40 + b"]" * 40),
    "version-deep-100000": page(b"[" * 100_000),
    "version-large": page(b'"' + b"x" * 100_000 + b'"'),
    "version-number": page(b"1" + b"0" * 400),
    "version-redirect": page(b"", b"302 Found", b"Location: http://127.0.0.1:9/\r\n"),
    "version-html": page(b"<html>"),
    "version-binary": page(b"\xff\xfe\x00"),
}
FIRST = {
    "first-400": status(b"400 Bad Request", b'{"error": {"message": "too long for me"}}'),
    "first-401": status(b"401 Unauthorized", b"no key"),
    "first-500": status(b"500 Internal Server Error", b"no kernel for this device"),
    "first-garbage": raw(b"SSH-2.0-x\r\n"),
}


def answer_page(connection, path):
    good = (
        f"double_prompt_tokens_total {counts['prompt']}\n"
        f"double_output_tokens_total {counts['output']}\n"
    )
    normal = {"/metrics": page(good.encode()), "/version": page(b'{"version": "0"}')}
    chosen = normal.get(path, page(b"{}"))
    if path == "/metrics":
        chosen = PAGES.get(now["fault"], chosen)
    elif path == "/version":
        chosen = VERSION.get(args.mode, chosen)
    elif path == "/health":
        chosen = HEALTH.get(args.mode, chosen)
    chosen(connection, good)


def answer_request(connection, body):
    prompt, wanted = body["prompt"], body["max_tokens"]
    place = len(prompt) - FIRST_PROMPT
    with lock:
        counts["asked"] += 1
        now["fault"] = faults[place] if 0 <= place < len(faults) else ""
        if args.mode == "first-429" and counts["asked"] < 4:
            return status(b"429 Too Many Requests")(connection, [])
    if args.mode in FIRST:
        return FIRST[args.mode](connection, [])
    is_measured = wanted != WARMUP_TOKENS
    fault = now["fault"] if is_measured else ""
    if is_measured and args.mode in IN_CELL:
        IN_CELL[args.mode]()
    data = EVENTS.get(fault, EVENTS["none"])(good_events(prompt, wanted))
    is_stopped = is_measured and args.mode == "stopped-in-cell"
    with lock:  # before the end is sent: a page that is read right after it must have it
        counts["prompt"] += len(prompt)
        counts["output"] += wanted
    return (stopped if is_stopped else SENT.get(fault, send_good))(connection, data)


def serve(connection):
    try:
        with connection, connection.makefile("rb") as reader:
            while line := reader.readline():
                method, path = line.decode().split(" ")[:2]
                length = 0
                while (field := reader.readline().lower()) not in (b"\r\n", b""):
                    if field.startswith(b"content-length:"):
                        length = int(field.split(b":")[1])
                body = reader.read(length)
                if method == "GET":
                    answer_page(connection, path)
                    return
                if not answer_request(connection, json.loads(body)):
                    return
    except OSError:
        return  # the client has gone


def main():
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    STARTING.get(args.mode, lambda: None)()
    listener = socket.create_server(("127.0.0.1", args.port), backlog=128)
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model")
    parser.add_argument("--dtype")
    parser.add_argument("--mode", default="")
    parser.add_argument("--faults", default="")
    args = parser.parse_args()
    faults = args.faults.split(",") if args.faults else []
    main()

"""A double of an engine for tests: a completions server with scripted behaviour, no model.

Run as a program by the tests of the runner. No figure from it ever reaches a report.
"""

import argparse
import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", type=int)
parser.add_argument("--behaviour", default="normal")
parser.add_argument("--model")
parser.add_argument("--dtype")
parser.add_argument("--feature", default="none")
args = parser.parse_args()

if args.behaviour == "dies-loading":
    print("loading ...\nfatal: the weights are not what they should be", flush=True)
    sys.exit(3)
if args.behaviour == "eats-memory":
    print("loading ...", flush=True)
    held = [bytearray(os.urandom(1 << 20)) for _ in range(1 << 12)]

#: Each is one token of the embedded model.
WORDS = (" the", " and", " of", " to", " is", " in", " it", " for")

if args.behaviour != "stubborn":  # as the first process of a container it would not even be asked
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))

feature = "none" if args.behaviour == "ignores-flag" else args.feature
counts = {"prompt": 0, "output": 0, "requests": 0}


def words(prompt, count):
    """A gibberish of one word a token that depends on the prompt's ids."""
    total = sum(prompt) * 7
    return [WORDS[(total + i * i + prompt[i % len(prompt)]) % len(WORDS)] for i in range(count)]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path == "/metrics":
            text = (
                f"double_prompt_tokens_total {counts['prompt']}\n"
                f"double_output_tokens_total {counts['output']}\n"
                f'double_info{{feature="{feature}"}} 1\n'
            )
            self.answer(200, text)
        elif self.path == "/version":
            self.answer(200, json.dumps({"version": "0", "model": Path(args.model).name}))
        else:
            self.answer(503 if args.behaviour == "never-ready" else 200, "{}")

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt, wanted = body["prompt"], body["max_tokens"]
        if "prompt_logprobs" in body:
            self.score(prompt)
            return
        counts["requests"] += 1
        if args.behaviour == "cannot-generate":
            self.answer(500, '{"error": {"message": "no kernel for this device"}}')
            return
        if args.behaviour == "refuses":
            self.answer(400, '{"error": {"message": "too long for me"}}')
            return
        # Readiness and warm-ups are always good: a fault is in what is measured.
        fault = args.behaviour if wanted > 4 else "normal"
        if fault == "dies-in-cell":
            os.write(1, b"fatal: out of something\n")  # whole, beside other threads
            os._exit(9)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        wants_ids = bool(body.get("return_token_ids"))
        made, seen = self.generate(prompt, wanted, fault, wants_ids)
        if fault != "answers-from-cache":
            counts["prompt"] += seen
            counts["output"] += made
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def score(self, prompt):
        """Every token but the first has the log-probability -2."""
        if args.behaviour == "refuses-scores":
            self.answer(400, "no logprobs")
            return
        logprob = "high" if args.behaviour == "wrong-scores" else -2.0
        entries = [None, *({str(token): {"logprob": logprob}} for token in prompt[1:])]
        text = json.dumps({"choices": [{"text": "", "prompt_logprobs": entries}]})
        self.answer(200, text + " " * (1 << 20 if args.behaviour == "huge-scores" else 0))

    def generate(self, prompt, wanted, fault, wants_ids):
        """Stream an answer; what the engine believes it made, and the prompt it believes it had."""
        made = wanted + {"early-end": -1, "one-too-many": 1}.get(fault, 0)
        seen = len(prompt) + {"doubled-bos": 1, "cut-prompt": -5}.get(fault, 0)
        texts = words([0] if fault == "answers-from-cache" else prompt, made)
        if fault == "other-model":
            texts[3] = WORDS[0] if texts[3] != WORDS[0] else WORDS[1]
        if fault == "padding":
            texts[-4:] = [""] * 4
        usage = {"prompt_tokens": seen}
        if fault == "prefix-cache":
            usage["prompt_tokens_details"] = {"cached_tokens": 16}
        totals = range(1, made + 1)
        if fault == "lying-usage":
            texts, totals = words(prompt, 2 * made), [n // 2 + 1 for n in range(2 * made)]
        elif fault in ("several-a-chunk", "several-silent"):
            texts = ["".join(texts[n : n + 2]) for n in range(0, made, 2)]
            totals = [min(n + 2, made) for n in range(0, made, 2)]
        is_silent = fault == "several-silent"
        for index, (text, total) in enumerate(zip(texts, totals, strict=True)):
            reason = "stop" if fault == "early-end" else "length"
            choice = {"text": text, "finish_reason": reason if index + 1 == len(texts) else None}
            if wants_ids:
                top = {"token_id:1": -0.5, "token_id:2": -1.75}
                choice |= {"token_ids": [WORDS.index(text)], "logprobs": {"top_logprobs": [top]}}
            event = {"choices": [choice]}
            if not is_silent:
                event["usage"] = usage | {"completion_tokens": total}
            self.event(json.dumps(event))
            time.sleep(0.001)
        if is_silent:
            event = {"choices": [], "usage": usage | {"completion_tokens": made}}
            self.event(json.dumps(event))
        return made, seen

    def event(self, data):
        text = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(text), text))


print(os.environ.get("HF_TOKEN", "no token"), flush=True)
print(f"feature={feature}\nweights took 0.25 s", flush=True)
ThreadingHTTPServer.handle_error = lambda *_: None  # clients may hang up; no need for a log of it
ThreadingHTTPServer((args.host, args.port), Handler).serve_forever()

"""A double of an engine for tests: a completions server with scripted behaviour, no model.

Run as a program by the tests of the runner. No figure from it ever reaches a report.
"""

import argparse
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int)
parser.add_argument("--behaviour", default="normal")
parser.add_argument("--model")
args = parser.parse_args()

if args.behaviour == "dies-loading":
    print("loading ...\nfatal: the weights are not what they should be", flush=True)
    sys.exit(3)

counts = {"prompt": 0, "output": 0, "requests": 0}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path == "/metrics":
            text = (
                f"double_prompt_tokens_total {counts['prompt']}\n"
                f"double_output_tokens_total {counts['output']}\n"
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
        prompt, wanted = len(body["prompt"]), body["max_tokens"]
        counts["requests"] += 1
        if args.behaviour == "dies-in-cell" and wanted > 4:
            print("fatal: out of something", flush=True)
            os._exit(9)
        made = wanted - 1 if args.behaviour == "early-end" and wanted > 4 else wanted
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for index in range(made):
            reason = ("length" if made == wanted else "stop") if index + 1 == made else None
            usage = {"prompt_tokens": prompt, "completion_tokens": index + 1}
            choice = {"text": "word ", "finish_reason": reason}
            self.event(json.dumps({"choices": [choice], "usage": usage}))
            time.sleep(0.001)
        counts["prompt"] += prompt
        counts["output"] += made
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def event(self, data):
        text = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(text), text))


print(os.environ.get("HF_TOKEN", "no token"), flush=True)
ThreadingHTTPServer(("127.0.0.1", args.port), Handler).serve_forever()

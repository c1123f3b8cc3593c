"""A double that speaks TGI's or TensorRT-LLM's protocol, for containers: started by their own
launch files, with their own flags, on a real model's tokenizer. No figure from it reaches a report.

FAULT in the environment: dies-in-cell, error-in-stream, unhealthy.
"""

import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tokenizers import Tokenizer

#: Each is one token of the embedded model.
WORDS = (" the", " and", " of", " to", " is", " in", " it", " for")
LOADING_S = 1.5
FAULT = os.environ.get("FAULT", "")
KIND, *words = sys.argv[1:]
flags = dict(word.removeprefix("--").split("=", 1) for word in words if word.startswith("--"))
model = Path(flags["model-id"] if KIND == "tgi" else words[0])
tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
generation = json.loads((model / "generation_config.json").read_text())
started_s = time.monotonic()
lock = threading.Lock()
counts = {"prompt": 0, "output": 0}
iterations = []  # TensorRT-LLM hands each out once

TRTLLM_FIELDS = {
    *("model", "prompt", "max_tokens", "ignore_eos", "temperature", "top_k", "seed", "stream"),
    "stream_options",
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, text, kind="application/json"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_GET(self):
        if self.path == "/health":
            # TGI says 503 until its shards are up; TensorRT-LLM listens only when it is loaded.
            is_up = time.monotonic() - started_s > LOADING_S and FAULT != "unhealthy"
            self.answer(200 if is_up else 503, "{}")
        elif self.path == "/metrics" and KIND == "tgi":
            self.answer(
                200,
                f"tgi_request_input_length_sum {counts['prompt']}\n"
                f"tgi_request_generated_tokens_sum {counts['output']}\n"
                "tgi_batch_current_size 1\ntgi_queue_size 0\n",
                "text/plain",
            )
        elif self.path == "/metrics":
            with lock:
                text = json.dumps(iterations)
                iterations.clear()
            self.answer(200, text)
        elif self.path in ("/info", "/version"):
            self.answer(200, json.dumps({"version": "double", "model_id": str(model)}))
        else:
            self.answer(404, "{}")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if KIND == "tgi":
            prompt = tokenizer.encode(body["inputs"], add_special_tokens=True).ids
            wanted = body["parameters"]["max_new_tokens"]
        else:
            if unknown := set(body) - TRTLLM_FIELDS:
                self.answer(400, json.dumps({"message": f"extra fields not permitted: {unknown}"}))
                return
            prompt, wanted = body["prompt"], body["max_tokens"]
        is_measured = wanted > 4  # readiness and warm-ups are always good
        if FAULT == "dies-in-cell" and is_measured:
            os.write(1, b"fatal: out of something\n")  # whole, beside other threads
            os._exit(9)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        fails = FAULT == "error-in-stream" and is_measured
        (self.tgi if KIND == "tgi" else self.trtllm)(prompt, wanted, fails)
        self.wfile.write(b"0\r\n\r\n")

    def chunk(self, text):
        data = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        time.sleep(0.001)

    def tgi(self, prompt, wanted, fails):
        for index, word in enumerate(made(prompt, wanted), 1):
            if fails and index == 3:
                error = {"error": "CUDA out of memory", "error_type": "generation"}
                self.chunk(f"data:{json.dumps(error)}\n\n")
                return
            token = {"id": index, "text": word, "logprob": -0.25, "special": False}
            event = {"index": index, "token": token, "generated_text": None, "details": None}
            if index == wanted:
                event["details"] = {"finish_reason": "length", "generated_tokens": wanted}
                event["details"]["input_length"] = len(prompt)
            self.chunk(f"data:{json.dumps(event)}\n\n")
            if index == 2:
                self.chunk(":\n\n")  # kept alive
        with lock:
            counts["prompt"] += len(prompt)
            counts["output"] += wanted

    def trtllm(self, prompt, wanted, fails):
        texts = list(made(prompt, wanted))
        done = 0
        for pair in pairs(texts):
            if fails and done:
                self.chunk('data: {"error": {"message": "executor gone", "code": 500}}\n\n')
                return
            done += len(pair)
            usage = {"prompt_tokens": len(prompt), "completion_tokens": done}
            reason = "length" if done == wanted else None
            choice = {"index": 0, "text": "".join(pair), "finish_reason": reason}
            self.chunk(f"data: {json.dumps({'choices': [choice], 'usage': usage})}\n\n")
        self.chunk("data: [DONE]\n\n")
        kv = {"usedNumBlocks": 3, "tokensPerBlock": 32, "maxNumBlocks": 100}
        batching = {"numScheduledRequests": 1}
        with lock:
            iterations.append(
                {"inflightBatchingStats": batching, "numQueuedRequests": 0, "kvCacheStats": kv}
            )


def pairs(texts):
    return [texts[n : n + 2] for n in range(0, len(texts), 2)]


def made(prompt, count):
    """A gibberish of one word a token that depends on the prompt's ids."""
    total = sum(prompt) * 7
    for i in range(count):
        yield WORDS[(total + i * i + prompt[i % len(prompt)]) % len(WORDS)]


signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
if KIND == "tgi":
    assert generation["eos_token_id"] == [], "TGI must be given a model without an end"
    print("KV-cache blocks: 4000, size: 1", flush=True)
else:
    options = Path(flags["extra_llm_api_options"]).read_text()
    assert "enable_block_reuse: false" in options
    time.sleep(LOADING_S)
host = flags.get("hostname") or flags["host"]
ThreadingHTTPServer.handle_error = lambda *_: None  # clients may hang up; no need for a log of it
ThreadingHTTPServer((host, int(flags["port"])), Handler).serve_forever()

"""Hugging Face transformers behind a small HTTP server: the baseline that all are divided by.

Two modes, both the plain ``generate`` of the library:

* ``naive``: requests one after another, as most people's first script does it;
* ``static``: left-padded batches; a batch ends when its longest member ends, and whoever comes
  meanwhile waits.

The model runs in a thread of its own; after each decoding step it hands all new tokens to the
HTTP loop in one call, so that serving costs the model one wake-up a step. Every token is streamed
as it is made, as an OpenAI completions event with usage.

``--kv-cache off`` keeps no keys and values: every step computes the whole sequence again.

``--in-process FILE`` runs the same prompts through ``generate`` with no server around it and
prints the time: what the server is compared with (``benchmarks/baseline_overhead.py``).

This file runs in the engine's own environment (or container). It imports nothing of enginebench.
"""

import argparse
import asyncio
import json
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import prometheus_client
import torch
import transformers
from aiohttp import web
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from tokenizers.decoders import DecodeStream
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache
from transformers.generation import (
    BaseStreamer,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

QUIET_S = 0.005  # a static batch starts when nobody new has come for this long ...
GATHER_S = 0.05  # ... or when its first member has waited this long
NO_EOS = -1  # `generate` never stops by itself: the server decides, request by request
DETOKENIZER_CONTEXT = 8  # prompt tokens that precede the first new one when it becomes text

Token = tuple[int, dict[str, float] | None]  # its id, and the two best logprobs if wanted


@dataclass(eq=False)
class Job:
    """One request on its way through the model."""

    prompt_ids: list[int]
    max_tokens: int
    ignore_eos: bool
    wants_ids: bool = False  # stream token ids and the two best logprobs too
    tokens: asyncio.Queue[Token | Exception] = field(default_factory=asyncio.Queue)
    made: int = 0
    finish_reason: str | None = None  # "length" or "stop" once its last token is made
    cancelled: bool = False  # its client has gone

    @property
    def is_done(self) -> bool:
        return self.cancelled or self.finish_reason is not None


class Model:
    """The model, its queue, and the thread that generates."""

    def __init__(
        self,
        path: str,
        dtype: str,
        max_batch: int,
        context: int,
        device: str,
        keeps_cache: bool = True,
    ) -> None:
        self.device = torch.device(device)
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype))
        self.model.to(self.device).eval()
        self.context = min(context, self.model.config.max_position_embeddings)
        self.eos_ids = _as_ids(self.model.generation_config.eos_token_id)
        pad = self.tokenizer.pad_token_id
        self.pad_id = pad if pad is not None else (self.eos_ids or [0])[0]
        self.max_batch = max_batch
        self.keeps_cache = keeps_cache
        self.waiting: deque[Job] = deque()
        self.running: list[Job] = []
        self.cache: DynamicCache | None = None
        self.prompt_tokens_total = 0
        self.output_tokens_total = 0
        self._arrived = threading.Condition()

    def submit(self, job: Job) -> None:
        with self._arrived:
            self.waiting.append(job)
            self._arrived.notify()

    def kv_held(self) -> tuple[int, float]:
        """Bytes of the running batch's keys and values, and the tokens in them, padding too.

        Layers grow one after another within a step: the tokens are the mean over the layers.
        """
        cache = self.cache  # read once: the model's thread may drop it meanwhile
        layers = cache.layers if cache is not None else []
        pairs = [(layer.keys, layer.values) for layer in layers]
        held = [(k, v) for k, v in pairs if k is not None and v is not None]
        tokens = sum(k.shape[0] * k.shape[-2] for k, _ in held) / max(len(layers), 1)
        return sum(k.nbytes + v.nbytes for k, v in held), tokens

    def serve_forever(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take batches and generate them, for ever; runs in the model's thread."""
        while True:
            self.running = self._next_batch()
            try:
                self.generate(self.running, Streamer(self, self.running, loop))
            except Exception as error:  # one broken batch must not end the server
                for job in self.running:
                    loop.call_soon_threadsafe(job.tokens.put_nowait, error)
            self.running = []
            self.cache = None

    def _next_batch(self) -> list[Job]:
        with self._arrived:
            while not self.waiting:
                self._arrived.wait()
            deadline = time.perf_counter() + GATHER_S
            while len(self.waiting) < self.max_batch:
                left = min(QUIET_S, deadline - time.perf_counter())
                if left <= 0 or not self._arrived.wait(left):
                    break
            count = min(self.max_batch, len(self.waiting))
            batch = [self.waiting.popleft() for _ in range(count)]
        return [job for job in batch if not job.cancelled]

    def generate(self, jobs: list[Job], streamer: "Streamer | None" = None) -> None:
        """One left-padded batch, greedily, until its longest member is done."""
        if not jobs:
            return
        longest = max(len(job.prompt_ids) for job in jobs)
        padding = [longest - len(job.prompt_ids) for job in jobs]
        rows = [
            [self.pad_id] * pad + job.prompt_ids for pad, job in zip(padding, jobs, strict=True)
        ]
        mask = [[0] * pad + [1] * (longest - pad) for pad in padding]
        self.cache = DynamicCache(config=self.model.config) if self.keeps_cache else None
        self.prompt_tokens_total += sum(len(job.prompt_ids) for job in jobs)
        self.model.generate(
            torch.tensor(rows, device=self.device),
            attention_mask=torch.tensor(mask, device=self.device),
            past_key_values=self.cache,
            use_cache=self.keeps_cache,
            max_new_tokens=max(job.max_tokens for job in jobs),
            do_sample=False,
            eos_token_id=NO_EOS,
            pad_token_id=self.pad_id,
            streamer=streamer,
            stopping_criteria=StoppingCriteriaList([AllDone(jobs)]) if streamer else None,
            logits_processor=LogitsProcessorList([streamer.top_two]) if streamer else None,
        )


class Streamer(BaseStreamer):
    """Hands each step's tokens to the HTTP loop, and says which requests are done."""

    def __init__(self, model: Model, jobs: list[Job], loop: asyncio.AbstractEventLoop) -> None:
        self._model = model
        self._jobs = jobs
        self._loop = loop
        self._prompt_seen = False
        self.top_two = TopTwo(any(job.wants_ids for job in jobs), len(jobs))

    def put(self, value: torch.Tensor) -> None:
        if not self._prompt_seen:  # `generate` shows the streamer the prompt first
            self._prompt_seen = True
            return
        step: list[tuple[Job, Token]] = []
        for job, token, top in zip(self._jobs, value.tolist(), self.top_two.last, strict=True):
            if job.is_done:
                continue
            step.append((job, (token, top)))
            job.made += 1
            if token in self._model.eos_ids and not job.ignore_eos:
                job.finish_reason = "stop"
            elif job.made == job.max_tokens:
                job.finish_reason = "length"
        self._model.output_tokens_total += len(step)
        self._loop.call_soon_threadsafe(_deliver, step)

    def end(self) -> None:
        pass


class TopTwo(LogitsProcessor):
    """Notes the two best tokens of each row with their logprobs; changes nothing."""

    def __init__(self, is_wanted: bool, rows: int) -> None:
        self._is_wanted = is_wanted
        self.last: list[dict[str, float] | None] = [None] * rows

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self._is_wanted:
            logprobs, ids = scores.log_softmax(-1).topk(2)
            rows = zip(ids.tolist(), logprobs.tolist(), strict=True)
            self.last = [
                {f"token_id:{token}": logprob for token, logprob in zip(*row, strict=True)}
                for row in rows
            ]
        return scores


class AllDone(StoppingCriteria):
    """Ends a batch as soon as nobody waits for more of it."""

    def __init__(self, jobs: list[Job]) -> None:
        self._jobs = jobs

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        done = all(job.is_done for job in self._jobs)
        return torch.full((input_ids.shape[0],), done, device=input_ids.device)


def _deliver(step: list[tuple[Job, Token]]) -> None:
    for job, token in step:
        job.tokens.put_nowait(token)


def _as_ids(value: int | list[int] | None) -> list[int]:
    return value if isinstance(value, list) else [] if value is None else [value]


class BadRequest(ValueError):
    """The request cannot be served as asked; answered with 400."""


def read_job(body: Any, model: Model) -> Job:
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    prompt = body.get("prompt")
    if isinstance(prompt, str) and prompt:
        ids = model.tokenizer.encode(prompt)
    elif isinstance(prompt, list) and prompt and all(isinstance(token, int) for token in prompt):
        ids = prompt
    else:
        raise BadRequest("prompt must be a non-empty string or a non-empty list of token ids")
    if not all(0 <= token < model.model.config.vocab_size for token in ids):
        raise BadRequest("prompt has token ids outside the vocabulary")
    max_tokens = body.get("max_tokens", 16)
    if not isinstance(max_tokens, int) or max_tokens < 1:
        raise BadRequest(f"max_tokens must be a positive integer, found {max_tokens!r}")
    if body.get("temperature", 0) not in (0, 0.0):
        raise BadRequest("only greedy decoding is served: temperature must be 0")
    if len(ids) + max_tokens > model.context:
        raise BadRequest(
            f"{len(ids)} prompt + {max_tokens} new tokens exceed the context of {model.context}"
        )
    wants_ids = bool(body.get("return_token_ids", False))
    return Job(ids, max_tokens, bool(body.get("ignore_eos", False)), wants_ids)


def _event(text: str, finish_reason: str | None, usage: dict[str, int] | None) -> dict[str, Any]:
    choice = {"index": 0, "text": text, "finish_reason": finish_reason, "logprobs": None}
    return {"object": "text_completion", "choices": [choice], "usage": usage}


def _usage(job: Job, made: int) -> dict[str, int]:
    prompt = len(job.prompt_ids)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": made,
        "total_tokens": prompt + made,
    }


def _error(message: str, status: int) -> web.Response:
    return web.json_response({"error": {"message": message, "code": status}}, status=status)


class Server:
    """The HTTP side."""

    def __init__(self, model: Model, mode: str) -> None:
        self._model = model
        self._mode = mode
        self._registry = prometheus_client.CollectorRegistry()
        self._registry.register(self)

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/v1/completions", self.completions)
        app.router.add_get("/health", self.health)
        app.router.add_get("/metrics", self.metrics)
        app.router.add_get("/version", self.version)
        return app

    def collect(self) -> list[Any]:
        """Prometheus asks for the figures when it is scraped; nothing is counted twice."""
        model = self._model
        gauge, counter = GaugeMetricFamily, CounterMetricFamily
        kv_bytes, kv_tokens = model.kv_held()
        return [
            gauge("baseline_requests_running", "Requests in the batch", len(model.running)),
            gauge("baseline_requests_waiting", "Requests in the queue", len(model.waiting)),
            gauge("baseline_kv_cache_bytes", "Bytes of keys and values held", kv_bytes),
            gauge("baseline_kv_cache_tokens", "Tokens in them, padding too", kv_tokens),
            counter("baseline_prompt_tokens", "Prompt tokens taken", model.prompt_tokens_total),
            counter("baseline_output_tokens", "Tokens made", model.output_tokens_total),
        ]

    async def health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def metrics(self, request: web.Request) -> web.Response:
        text = prometheus_client.generate_latest(self._registry)
        return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4"})

    async def version(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "version": transformers.__version__,
                "torch": torch.__version__,
                "threads": torch.get_num_threads(),
                "device": str(self._model.device),
                "dtype": str(self._model.model.dtype).removeprefix("torch."),
                "mode": self._mode,
                "max_batch": self._model.max_batch,
                "kv_cache": "on" if self._model.keeps_cache else "off",
            }
        )

    async def completions(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await request.json()
            job = read_job(body, self._model)
        except BadRequest as error:
            return _error(str(error), 400)
        except ValueError as error:
            return _error(f"the body is not JSON: {error}", 400)
        self._model.submit(job)
        try:
            if body.get("stream"):
                return await self._stream(request, job)
            return await self._whole(job)
        finally:
            job.cancelled = True  # done or disconnected: nobody reads further

    async def _whole(self, job: Job) -> web.Response:
        ids = []
        while job.finish_reason is None or len(ids) < job.made:
            token = await job.tokens.get()
            if isinstance(token, Exception):
                return _error(f"generation failed: {token}", 500)
            ids.append(token[0])
        text = self._model.tokenizer.decode(ids, skip_special_tokens=True)
        return web.json_response(_event(text, job.finish_reason, _usage(job, len(ids))))

    async def _stream(self, request: web.Request, job: Job) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        context = job.prompt_ids[-DETOKENIZER_CONTEXT:]
        detokenizer = DecodeStream(ids=context, skip_special_tokens=True)
        backend = self._model.tokenizer.backend_tokenizer
        made = 0
        while True:
            token = await job.tokens.get()
            if isinstance(token, Exception):
                error = {"error": {"message": f"generation failed: {token}", "code": 500}}
                await response.write(f"data: {json.dumps(error)}\n\n".encode())
                break
            made += 1
            text = detokenizer.step(backend, token[0]) or ""
            is_last = job.finish_reason is not None and made == job.made
            event = _event(text, job.finish_reason if is_last else None, _usage(job, made))
            if job.wants_ids:
                logprobs = {"top_logprobs": [token[1]]}
                event["choices"][0] |= {"token_ids": [token[0]], "logprobs": logprobs}
            await response.write(f"data: {json.dumps(event)}\n\n".encode())
            if is_last:
                break
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response


def run_in_process(model: Model, file: Path) -> None:
    """Generate a file of requests (JSON lines) batch by batch with no server; print the time."""
    requests = [json.loads(line) for line in file.read_text().splitlines()]
    jobs = [Job(request["prompt"], request["max_tokens"], True) for request in requests]
    batches = [jobs[i : i + model.max_batch] for i in range(0, len(jobs), model.max_batch)]
    model.generate(batches[0])  # warm-up
    start = time.perf_counter()
    for batch in batches:
        model.generate(batch)
    seconds = time.perf_counter() - start
    print(json.dumps({"output_tokens": sum(job.max_tokens for job in jobs), "seconds": seconds}))


def main() -> None:
    parser = argparse.ArgumentParser(description="transformers behind a completions server")
    parser.add_argument("--model", required=True, help="local directory or Hugging Face id")
    parser.add_argument("--mode", choices=("naive", "static"), default="naive")
    parser.add_argument("--dtype", default="bfloat16", help="float32, bfloat16 or float16")
    parser.add_argument("--kv-cache", choices=("on", "off"), default="on", help="off: recompute")
    parser.add_argument("--max-batch", type=int, default=16, help="rows of a static batch")
    parser.add_argument("--max-model-len", type=int, default=2048, help="prompt + output tokens")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--in-process", type=Path, metavar="FILE", help="no server; time FILE")
    args = parser.parse_args()
    max_batch = args.max_batch if args.mode == "static" else 1
    keeps_cache = args.kv_cache == "on"
    model = Model(args.model, args.dtype, max_batch, args.max_model_len, args.device, keeps_cache)
    if args.in_process:
        run_in_process(model, args.in_process)
        return
    loop = asyncio.new_event_loop()
    threading.Thread(target=model.serve_forever, args=(loop,), daemon=True).start()
    app = Server(model, args.mode).app()
    web.run_app(app, host=args.host, port=args.port, loop=loop, access_log=None)


if __name__ == "__main__":
    main()

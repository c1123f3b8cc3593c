"""Hugging Face transformers behind a small HTTP server; one file, as its image holds no other.

It is the baseline that all are divided by. Three modes, all of them the library's own:

* ``naive``: requests one after another, as most people's first script does it;
* ``static``: left-padded batches; a batch ends when its longest member ends, and requests that
  arrive meanwhile wait;
* ``continuous``: the library's continuous batching with a paged KV cache of fixed size; requests
  join and leave at every step. On a CPU its attention reads the keys of all requests for each.

``naive`` and ``static`` run plain ``generate`` in a thread of ours. After each decoding step it
hands all new tokens to the HTTP loop in one call, so that serving costs the model one wake-up a
step. Every token is streamed as it is made, as an OpenAI completions event with usage.

Switches, each one optimization: ``--kv-cache off`` keeps no keys and values, so every step computes
the whole sequence again; ``--attention``; ``--compile on`` compiles the decoding step, for which
the library needs a KV cache of fixed length; ``--assist`` proposes several tokens that the model
then checks in one step (assisted generation), by a draft model or from the prompt.
``--quantize`` stores the layers' weights in fewer bits, by torchao.

Before it listens, the server generates a little and reads back what the library did: the labels of
``baseline_config_info``, also in ``/version`` and on a line of the log; the next line has what the
start took. A request with ``prompt_logprobs`` is not generated: its prompt is scored in one pass.

``--in-process FILE`` runs the same prompts through ``generate`` with no server around it and
prints the time: what the server is compared with (``benchmarks/baseline_overhead.py``).

This file runs in the engine's own environment (or container). It imports nothing of enginebench.
"""

import argparse
import asyncio
import functools
import itertools
import json
import sys
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import prometheus_client
import torch
import transformers
from aiohttp import web
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from tokenizers.decoders import DecodeStream
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    CompileConfig,
    DynamicCache,
    GenerationConfig,
    StaticCache,
)
from transformers.generation import (
    BaseStreamer,
    ContinuousBatchingConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

QUIET_S = 0.005  # a static batch starts when nobody new has come for this long ...
GATHER_S = 0.05  # ... or when its first member has waited this long
NO_EOS = -1  # `generate` never stops by itself: the server decides, request by request
DETOKENIZER_CONTEXT = 8  # prompt tokens that precede the first new one when it becomes text
PROBE_PROMPT, PROBE_TOKENS = list(range(8)), 4  # of the generation before the server listens
PROBE_S = 120
STOP_S = 10

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
    key: str = ""  # its name in the library's continuous batching

    @property
    def is_done(self) -> bool:
        return self.cancelled or self.finish_reason is not None


class Model:
    """The weights and the tokenizer, and what was done with them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.device = torch.device(options.device)
        self.load_s = 0.0  # reading the weights, a draft's too
        self.tokenizer = AutoTokenizer.from_pretrained(options.model)
        self.model = self._load(options.model)
        if options.quantize != "off":
            quantize(self.model, options.quantize)
        self.draft = self._load(options.draft_model) if options.assist == "draft" else None
        if self.draft is not None:  # always as many tokens, however sure it is of them
            config = self.draft.generation_config
            config.num_assistant_tokens = options.candidate_tokens
            config.num_assistant_tokens_schedule = "constant"
            config.assistant_confidence_threshold = 0.0
        self.context = min(options.max_model_len, self.model.config.max_position_embeddings)
        self.eos_ids = _as_ids(self.model.generation_config.eos_token_id)
        pad = self.tokenizer.pad_token_id
        self.pad_id = pad if pad is not None else (self.eos_ids or [0])[0]
        self.prompt_tokens_total = 0
        self.output_tokens_total = 0
        self.accepted_tokens_total = 0

    def _load(self, path: str) -> Any:
        named = self.options.attention
        more = {} if named == "auto" else {"attn_implementation": named}
        dtype = getattr(torch, self.options.dtype)
        begun_s = time.perf_counter()
        model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, **more)
        model = model.to(self.device).eval()
        self.load_s += time.perf_counter() - begun_s
        return model

    def score(self, ids: list[int]) -> list[dict[str, dict[str, float]] | None]:
        """The log-probability of every token of a prompt, as vLLM gives them; none of the first."""
        tokens = torch.tensor([ids], device=self.device)
        with torch.no_grad():
            logits = self.model(tokens, use_cache=False).logits[0, :-1]
        own = logits.float().log_softmax(-1).gather(1, tokens[0, 1:, None])[:, 0].tolist()
        return [None, *({str(t): {"logprob": p}} for t, p in zip(ids[1:], own, strict=True))]

    def resolved(self, mode: str, kv_cache: str, assist: str) -> dict[str, str]:
        """What the library made of the options, after the first generation."""
        attention = str(self.model.config._attn_implementation)
        return {
            "mode": mode,
            "attention": attention.removeprefix("paged|"),
            "compile": "on" if compiled_graphs() else "off",
            "kv_cache": kv_cache,
            "assist": assist,
            "weights": stored_as(self.model),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "device": str(self.model.device),
        }


def is_of_a_layer(module: Any, name: str) -> bool:
    """Whether the weights of a module are those of a layer: the output matrix stays as it is."""
    return isinstance(module, torch.nn.Linear) and name != "lm_head"


def quantize(model: Any, to: str) -> None:
    """Store the layers' weights as ``int8`` or ``int4``, in place; products stay as they are.

    Of torchao's packings of 4 bits this is the one whose kernel PyTorch brings: CUDA and bfloat16.
    """
    try:
        from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig, quantize_
    except ImportError as error:  # environments for a CPU lack it
        raise SystemExit(f"--quantize={to}: expected torchao, found none ({error})") from None
    packing = "tile_packed_to_4d"
    whole = Int8WeightOnlyConfig()
    form = whole if to == "int8" else Int4WeightOnlyConfig(int4_packing_format=packing)
    quantize_(model, form, filter_fn=is_of_a_layer)


def stored_as(model: Any) -> str:
    """What the weights of all layers are: ``int8``, ``int4``, or the model's dtype."""
    layers = (m for name, m in model.named_modules() if is_of_a_layer(m, name))
    kinds = {type(layer.weight).__name__.lower() for layer in layers}  # such as Int8Tensor
    for form in ("int8", "int4"):
        if kinds and all(kind.startswith(form) for kind in kinds):
            return form
    return str(model.dtype).removeprefix("torch.")


def compiled_graphs() -> int:
    """How many graphs torch.compile has made in this process."""
    dynamo = sys.modules.get("torch._dynamo")  # imported with what uses it
    return int(dynamo.utils.counters["stats"]["unique_graphs"]) if dynamo else 0


def start_up(load_s: float, init_s: float) -> str:
    """What a start took, for the log: seconds, and whether compiled code came from a cache."""
    text = f"start-up: weights={load_s:.3f} init={init_s:.3f}"
    if not compiled_graphs():
        return text
    utils = sys.modules["torch._dynamo"].utils
    compile_s = utils.calculate_time_spent()["total_wall_time"]
    hits = utils.counters["inductor"]["fxgraph_cache_hit"]
    hits += utils.counters["aot_autograd"]["autograd_cache_hit"]
    return f"{text} compile={compile_s:.3f} cache={'found' if hits else 'new'}"


class Batches:
    """``generate``, one batch at a time: the queue, and the thread that generates."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.most_rows = model.options.max_batch if model.options.mode == "static" else 1
        self.waiting: deque[Job] = deque()
        self.running: list[Job] = []
        self.cache: DynamicCache | StaticCache | None = None
        self._fixed_length = model.context
        self._arrived = threading.Condition()

    def start(self, loop: asyncio.AbstractEventLoop) -> dict[str, str]:
        """Start the thread; what the library made of the options."""
        resolved: Future[dict[str, str]] = Future()
        target = self._serve_forever
        threading.Thread(target=target, args=(loop, resolved), daemon=True).start()
        return resolved.result()

    def stop(self) -> None:
        pass  # the thread ends with the process

    def is_alive(self) -> bool:
        return True

    def submit(self, job: Job) -> None:
        with self._arrived:
            self.waiting.append(job)
            self._arrived.notify()

    def cancel(self, job: Job) -> None:
        job.cancelled = True

    def requests(self) -> tuple[int, int]:
        """Requests in the batch, and in the queue."""
        return len(self.running), len(self.waiting)

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

    def kv_capacity(self) -> tuple[int, int] | None:
        """Tokens that the cache can hold, and those of a block; None: it grows as needed."""
        return None

    def _serve_forever(
        self, loop: asyncio.AbstractEventLoop, resolved: Future[dict[str, str]]
    ) -> None:
        """Take batches and generate them, for ever; runs in the model's thread.

        The probe runs here too: CUDA graphs belong to the thread that made them.
        """
        try:
            resolved.set_result(self._probe())
        except BaseException as error:
            resolved.set_exception(error)
            return
        while True:
            self.running = self._next_batch()
            try:
                self.generate(self.running, Streamer(self.model, self.running, loop))
            except Exception as error:  # one broken batch must not end the server
                for job in self.running:
                    loop.call_soon_threadsafe(job.tokens.put_nowait, error)
            self.running = []
            self.cache = None

    def _probe(self) -> dict[str, str]:
        """Generate a little and say what the library did; compile what batches will need."""
        sizes = [self.most_rows]
        if self.model.options.compile == "on":  # one row, some, and more: a graph each at most
            sizes = [rows for rows in (1, 2, self.most_rows) if rows <= self.most_rows]
        seen, drafted = Watch(), []
        if (draft := self.model.draft) is not None:
            hook = draft.register_forward_hook(lambda *_: drafted.append(True))
        for rows in sizes:
            prompts = [PROBE_PROMPT] * rows
            cache = self._new_cache(len(PROBE_PROMPT) + PROBE_TOKENS)
            made = self._call(prompts, PROBE_TOKENS, cache, streamer=seen if rows == 1 else None)
        if draft is not None:
            hook.remove()
        kinds = {DynamicCache: "dynamic", StaticCache: "static", type(None): "off"}
        kept = made.past_key_values
        assist = ("draft" if drafted else "prompt-lookup") if seen.has_candidates else "off"
        mode = self.model.options.mode
        return self.model.resolved(mode, kinds.get(type(kept), type(kept).__name__), assist)

    def _next_batch(self) -> list[Job]:
        with self._arrived:
            while not self.waiting:
                self._arrived.wait()
            deadline = time.perf_counter() + GATHER_S
            while len(self.waiting) < self.most_rows:
                left = min(QUIET_S, deadline - time.perf_counter())
                if left <= 0 or not self._arrived.wait(left):
                    break
            count = min(self.most_rows, len(self.waiting))
            batch = [self.waiting.popleft() for _ in range(count)]
        return [job for job in batch if not job.cancelled]

    def generate(self, jobs: list[Job], streamer: "Streamer | None" = None) -> None:
        """One left-padded batch, greedily, until its longest member is done."""
        if not jobs:
            return
        prompts = [job.prompt_ids for job in jobs]
        most = max(job.max_tokens for job in jobs)
        self.cache = self._new_cache(max(map(len, prompts)) + most)
        self.model.prompt_tokens_total += sum(map(len, prompts))
        self._call(
            prompts,
            most,
            self.cache,
            streamer=streamer,
            stopping_criteria=StoppingCriteriaList([AllDone(jobs)]) if streamer else None,
            logits_processor=LogitsProcessorList([streamer.top_two]) if streamer else None,
        )

    def _new_cache(self, length: int) -> DynamicCache | StaticCache | None:
        """An empty cache for a batch of this many tokens a row, padding and outputs included."""
        options, config = self.model.options, self.model.model.config
        if options.kv_cache == "off":
            return None
        if options.compile == "off":
            return DynamicCache(config=config)
        self._fixed_length = max(self._fixed_length, length)  # another length, another graph
        return StaticCache(config=config, max_cache_len=self._fixed_length)

    def _call(
        self,
        prompts: list[list[int]],
        max_new_tokens: int,
        cache: DynamicCache | StaticCache | None,
        **more: Any,
    ) -> Any:
        model, options = self.model, self.model.options
        longest = max(map(len, prompts))
        padding = [longest - len(prompt) for prompt in prompts]
        rows = [[model.pad_id] * pad + ids for pad, ids in zip(padding, prompts, strict=True)]
        mask = [[0] * pad + [1] * (longest - pad) for pad in padding]
        if options.compile == "on":
            more["compile_config"] = CompileConfig()
            more["compile_config"]._compile_all_devices = True  # else on GPUs alone
        if options.assist == "draft":
            more["assistant_model"] = model.draft
        if options.assist == "prompt-lookup":
            more["prompt_lookup_num_tokens"] = options.candidate_tokens
        return model.model.generate(
            torch.tensor(rows, device=model.device),
            attention_mask=torch.tensor(mask, device=model.device),
            past_key_values=cache,
            use_cache=options.kv_cache == "on",
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=NO_EOS,
            pad_token_id=model.pad_id,
            return_dict_in_generate=True,
            **more,
        )


class Watch(BaseStreamer):
    """Sees whether ``generate`` checked candidates: it then has a row of tokens a step."""

    def __init__(self) -> None:
        self._prompt_seen = False
        self.has_candidates = False

    def put(self, value: torch.Tensor) -> None:
        self.has_candidates |= self._prompt_seen and value.dim() == 2
        self._prompt_seen = True

    def end(self) -> None:
        pass


class Streamer(BaseStreamer):
    """Hands each step's tokens to the HTTP loop, and says which requests are done."""

    def __init__(self, model: Model, jobs: list[Job], loop: asyncio.AbstractEventLoop) -> None:
        self._model = model
        self._jobs = jobs
        self._loop = loop
        self._length = 0  # of the sequences so far, padding included
        self.top_two = TopTwo(any(job.wants_ids for job in jobs))

    def put(self, value: torch.Tensor) -> None:
        if not self._length:  # `generate` shows the streamer the prompt first
            self._length = value.shape[-1]
            return
        step: list[tuple[Job, Token]] = []
        rows = value.reshape(len(self._jobs), -1).tolist()
        for row, (job, tokens) in enumerate(zip(self._jobs, rows, strict=True)):
            for position, token in enumerate(tokens, self._length):
                if job.is_done:
                    break
                step.append((job, (token, self.top_two.of(position, row))))
                job.made += 1
                if token in self._model.eos_ids and not job.ignore_eos:
                    job.finish_reason = "stop"
                elif job.made == job.max_tokens:
                    job.finish_reason = "length"
        count = len(rows[0])
        self._length += count
        self.top_two.seen.clear()
        self._model.accepted_tokens_total += count - 1  # one of a step is the model's own
        self._model.output_tokens_total += len(step)
        self._loop.call_soon_threadsafe(_deliver, step)

    def end(self) -> None:
        pass


class TopTwo(LogitsProcessor):
    """Notes the two best tokens at each position with their logprobs; changes nothing.

    A draft model calls it for its candidates first; the model's own call then replaces theirs.
    """

    def __init__(self, is_wanted: bool) -> None:
        self._is_wanted = is_wanted
        self.seen: dict[int, list[dict[str, float]]] = {}  # position -> for each row

    def of(self, position: int, row: int) -> dict[str, float] | None:
        return self.seen[position][row] if position in self.seen else None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self._is_wanted:
            logprobs, ids = scores.log_softmax(-1).topk(2)
            rows = zip(ids.tolist(), logprobs.tolist(), strict=True)
            self.seen[input_ids.shape[-1]] = [
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


class Paged:
    """The library's continuous batching: its own thread, scheduler and paged KV cache.

    Without ``num_blocks`` and ``max_batch_tokens`` it would take 90 % of the memory. Blocks are not
    shared between requests, as a prefix cache is a factor of its own. No second-best logprobs.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        options = model.options
        config = ContinuousBatchingConfig(
            num_blocks=options.kv_blocks,
            max_batch_tokens=options.max_batch_tokens,
            max_requests_per_batch=options.max_num_seqs,
            allow_block_sharing=False,
            auto_switch_to_flash=False,
            default_compile_level=1 if options.compile == "on" else 0,
        )
        greedy = GenerationConfig(
            do_sample=False, eos_token_id=NO_EOS, pad_token_id=model.pad_id, max_new_tokens=1
        )
        self._manager = model.model.init_continuous_batching(greedy, config)
        self._keys = itertools.count()

    def start(self, loop: asyncio.AbstractEventLoop) -> dict[str, str]:
        """Start the library's thread; what it made of the options."""
        try:
            self._manager.warmup()  # makes the cache, and compiles
        except MemoryError as error:
            blocks = self.model.options.kv_blocks
            raise SystemExit(
                f"--kv-blocks={blocks}: expected room for that many: {error}"
            ) from None
        self._manager.start()
        self._manager.add_request(PROBE_PROMPT, "probe", max_new_tokens=PROBE_TOKENS)
        made = self._manager.get_result(timeout=PROBE_S)
        if made is None or made.error or len(made.generated_tokens) != PROBE_TOKENS:
            self.stop()
            found = f"{made.error or made.generated_tokens}" if made else "none"
            raise SystemExit(f"continuous batching: expected {PROBE_TOKENS} tokens, found {found}")
        kept = type(self._cache).__name__
        paged = "paged" if kept == "PagedAttentionCache" else kept
        return self.model.resolved("continuous", paged, "off")

    def stop(self) -> None:
        self._manager.stop(block=True, timeout=STOP_S, hard_stop=True)

    def is_alive(self) -> bool:
        return bool(self._manager.is_running())

    def submit(self, job: Job) -> None:
        job.key = str(next(self._keys))
        self._manager.register_result_handler(job.key, functools.partial(self._receive, job))
        taken = self._manager.add_request(
            job.prompt_ids,
            job.key,
            max_new_tokens=job.max_tokens,
            streaming=True,
            eos_token_id=[] if job.ignore_eos else self.model.eos_ids,
        )
        if taken is None:
            self.cancel(job)
            job.tokens.put_nowait(RuntimeError("the library's thread has ended; see the log"))

    def cancel(self, job: Job) -> None:
        job.cancelled = True
        if job.finish_reason is None:
            self._manager.cancel_request(job.key)
            self._manager.output_router.result_handlers.pop(job.key, None)

    def _receive(self, job: Job, output: Any) -> None:
        """New tokens of a request; runs in the HTTP loop."""
        if output.error:
            job.tokens.put_nowait(RuntimeError(output.error))
            return
        new = output.generated_tokens[job.made :]
        if not job.made:
            self.model.prompt_tokens_total += len(job.prompt_ids)
        job.made += len(new)
        self.model.output_tokens_total += len(new)
        if output.is_finished():
            if not job.made:
                job.tokens.put_nowait(RuntimeError("finished without a token; see the log"))
                return
            is_stop = not job.ignore_eos and output.generated_tokens[-1] in self.model.eos_ids
            job.finish_reason = "stop" if is_stop else "length"
        _deliver([(job, (token, None)) for token in new])

    @property
    def _cache(self) -> Any:
        return self._manager.batch_processor.cache

    def requests(self) -> tuple[int, int]:
        """Requests in the batch, and in the queues."""
        scheduler = self._manager.batch_processor.scheduler
        queued = self._manager.input_queue.qsize() + len(scheduler.waiting_requests)
        return len(scheduler.active_requests), queued

    def kv_held(self) -> tuple[int, float]:
        """Bytes of the blocks that requests can have, and tokens of those that are taken."""
        cache, (tokens, _) = self._cache, self.kv_capacity()
        taken = 1 - cache.compute_free_capacity()
        return cache.num_sectors * cache.bytes_per_sector, round(taken * tokens)

    def kv_capacity(self) -> tuple[int, int]:
        """Tokens that the cache can hold, and those of a block."""
        config = self._manager.continuous_batching_config
        return config.num_blocks * config.page_size, config.page_size


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

    def __init__(self, engine: Batches | Paged, resolved: dict[str, str]) -> None:
        self._engine = engine
        self._model = engine.model
        self._resolved = resolved
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
        model, engine = self._model, self._engine
        gauge, counter = GaugeMetricFamily, CounterMetricFamily
        running, waiting = engine.requests()
        kv_bytes, kv_tokens = engine.kv_held()
        found = [
            InfoMetricFamily("baseline_config", "What the library resolved", self._resolved),
            gauge("baseline_requests_running", "Requests in the batch", running),
            gauge("baseline_requests_waiting", "Requests in the queue", waiting),
            gauge("baseline_kv_cache_bytes", "Bytes of keys and values held", kv_bytes),
            gauge("baseline_kv_cache_tokens", "Tokens in them, padding too", kv_tokens),
            gauge("baseline_compiled_graphs", "Graphs compiled so far", compiled_graphs()),
            counter("baseline_prompt_tokens", "Prompt tokens taken", model.prompt_tokens_total),
            counter("baseline_output_tokens", "Tokens made", model.output_tokens_total),
            counter(
                "baseline_accepted_tokens",
                "Tokens made that were candidates first",
                model.accepted_tokens_total,
            ),
        ]
        if (capacity := engine.kv_capacity()) is not None:
            tokens, block = capacity
            found += [
                gauge("baseline_kv_capacity_tokens", "Tokens that the KV cache can hold", tokens),
                gauge("baseline_kv_block_tokens", "Tokens of a block of it", block),
            ]
        return found

    async def health(self, request: web.Request) -> web.Response:
        if not self._engine.is_alive():
            return _error("the library's thread has ended; see the log", 503)
        return web.json_response({"status": "ok"})

    async def metrics(self, request: web.Request) -> web.Response:
        text = prometheus_client.generate_latest(self._registry)
        return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4"})

    async def version(self, request: web.Request) -> web.Response:
        facts = {
            "version": transformers.__version__,
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "max_batch": self._model.options.max_batch,
        }
        return web.json_response(facts | self._resolved)

    async def completions(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await request.json()
            job = read_job(body, self._model)
        except BadRequest as error:
            return _error(str(error), 400)
        except ValueError as error:
            return _error(f"the body is not JSON: {error}", 400)
        if body.get("prompt_logprobs") is not None:
            return await self._score(job)
        self._engine.submit(job)
        try:
            if body.get("stream"):
                return await self._stream(request, job)
            return await self._whole(job)
        finally:
            self._engine.cancel(job)  # done or disconnected: nobody reads further

    async def _score(self, job: Job) -> web.Response:
        if self._model.options.mode == "continuous":
            return _error("prompt_logprobs: continuous batching gives none", 400)
        event = _event("", "length", _usage(job, 0))
        scores = await asyncio.to_thread(self._model.score, job.prompt_ids)
        event["choices"][0]["prompt_logprobs"] = scores
        return web.json_response(event)

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
    engine = Batches(model)
    batches = [jobs[i : i + engine.most_rows] for i in range(0, len(jobs), engine.most_rows)]
    engine.generate(batches[0])  # warm-up
    start = time.perf_counter()
    for batch in batches:
        engine.generate(batch)
    seconds = time.perf_counter() - start
    print(json.dumps({"output_tokens": sum(job.max_tokens for job in jobs), "seconds": seconds}))


def conflict(options: argparse.Namespace) -> str | None:
    """Two options that exclude each other, in words; none is left out silently."""
    mode, assist = f"--mode={options.mode}", f"--assist={options.assist}"
    if options.in_process and options.mode == "continuous":
        return "--in-process runs batches: expected --mode=naive or static, found continuous"
    if assist != "--assist=off" and options.mode != "naive":
        return f"{assist} takes one request at a time: expected --mode=naive, found {mode}"
    if assist != "--assist=off" and options.compile == "on":
        return f"{assist} needs a cache that can shrink: expected --compile=off"
    if options.kv_cache == "off":
        for name, off in (("mode", "continuous"), ("compile", "on")):
            if getattr(options, name) == off:
                return f"--{name}={off} needs keys and values: expected --kv-cache=on"
        if assist != "--assist=off":
            return f"{assist} needs keys and values: expected --kv-cache=on"
    if (options.assist == "draft") != bool(options.draft_model):
        found = options.draft_model or "none"
        return f"--assist=draft and --draft-model go together: found {assist} and {found}"
    return None


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="transformers behind a completions server")
    add = parser.add_argument
    add("--model", required=True, help="local directory or Hugging Face id")
    add("--mode", choices=("naive", "static", "continuous"), default="naive")
    add("--dtype", default="bfloat16", help="float32, bfloat16 or float16")
    add("--kv-cache", choices=("on", "off"), default="on", help="off: recompute")
    add(
        "--attention", choices=("auto", "eager", "sdpa"), default="auto", help="auto: the library's"
    )
    add("--compile", choices=("on", "off"), default="off", help="torch.compile of decoding steps")
    add("--assist", choices=("off", "draft", "prompt-lookup"), default="off")
    add("--quantize", choices=("off", "int8", "int4"), default="off", help="weights, by torchao")
    add("--draft-model", default="", help="with --assist=draft: directory or id")
    add("--candidate-tokens", type=int, default=3, help="proposed for a step by --assist")
    add("--max-batch", type=int, default=16, help="rows of a static batch")
    add("--max-model-len", type=int, default=2048, help="prompt + output tokens")
    add("--max-num-seqs", type=int, default=256, help="continuous: requests in a step")
    add("--max-batch-tokens", type=int, default=2048, help="continuous: tokens in a step")
    add("--kv-blocks", type=int, default=128, help="continuous: blocks of 256 tokens, in all")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=8000)
    add("--in-process", type=Path, metavar="FILE", help="no server; time FILE")
    options = parser.parse_args()
    if (reason := conflict(options)) is not None:
        parser.error(reason)
    return options


def main() -> None:
    options = parse()
    model = Model(options)
    if options.in_process:
        run_in_process(model, options.in_process)
        return
    engine = Paged(model) if options.mode == "continuous" else Batches(model)
    loop = asyncio.new_event_loop()
    begun_s = time.perf_counter()
    resolved = engine.start(loop)
    init_s = time.perf_counter() - begun_s
    words = " ".join(f"{name}={value}" for name, value in resolved.items())
    print(f"resolved: {words} graphs={compiled_graphs()}", flush=True)
    print(start_up(model.load_s, init_s), flush=True)
    try:
        app = Server(engine, resolved).app()
        web.run_app(app, host=options.host, port=options.port, loop=loop, access_log=None)
    finally:
        engine.stop()


if __name__ == "__main__":
    main()

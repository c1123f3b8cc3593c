"""Does our account of `vllm bench serve` agree with the real one? `make bench-tools` (minutes).

One real vLLM server, and on it vLLM's own client. What it prints is held against our account of it,
``other_tools.vllm_bench_serve``, three times: from the times that it wrote down itself, which must
give the very same numbers; from the bytes of its runs as a relay saw them pass; and from runs of
our own load generator with the same prompts, lengths and requests in flight, which is as noisy as
the machine.
"""

import asyncio
import json
import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any

import typer

from enginebench.engines.dialect import GenerationRequest
from enginebench.engines.directory import load_engine
from enginebench.hardware import machine
from enginebench.launch import environment, process
from enginebench.launch.server import Server, choose_port
from enginebench.load import client, http1
from enginebench.load.exchange import Exchange
from enginebench.load.request_record import RequestRecord, read
from enginebench.metrics import other_tools, request_table
from enginebench.plan import models, prompt_files, prompts
from enginebench.run.ready import wait_ready

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
WITHIN = 0.02
READ_BYTES = 1 << 16
EXACT = 1e-6  # its times are sums of the gaps that it wrote down

#: vLLM's client, given these very prompts: its readers of data sets need more packages.
CLIENT = """
import json, sys
from vllm.benchmarks import serve
from vllm.benchmarks.datasets import SampleRequest
from vllm.utils.argparse_utils import FlexibleArgumentParser

rows = json.load(open(sys.argv.pop(1)))
serve.get_samples = lambda args, tokenizer: [
    SampleRequest(prompt=ids, prompt_len=len(ids), expected_output_len=n) for ids, n in rows
]
parser = FlexibleArgumentParser()
serve.add_cli_args(parser)
serve.main(parser.parse_args())
"""

#: What it prints -> its name in the result file.
NAMES = {
    "Request throughput (req/s)": "request_throughput",
    "Output token throughput (tok/s)": "output_throughput",
    "Peak output token throughput (tok/s)": "max_output_tokens_per_s",
    "Peak concurrent requests": "max_concurrent_requests",
    "Total token throughput (tok/s)": "total_token_throughput",
} | {
    f"{word} {name} (ms)": f"{key}_{name.lower()}_ms"
    for name in ("TTFT", "TPOT", "ITL", "E2EL")
    for word, key in (("Mean", "mean"), ("Median", "median"), ("P99", "p99"))
}


class Relay:
    """Between any client and a server: what went through, as our client keeps it.

    Listens on a port of its own while the context lasts; ``exchanges`` in the order of requests.
    Requests follow each other on a connection: a new one begins with the first byte from the client
    after something came back.
    """

    def __init__(self, host: str, port: int) -> None:
        self.port = 0
        self.requests: list[tuple[bytes, Exchange]] = []  # the head of each request
        self._upstream = (host, port)
        self._loop = asyncio.new_event_loop()
        self._is_up, self._is_over = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._serve()])

    def __enter__(self) -> "Relay":
        self._thread.start()
        self._is_up.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._is_over.set)
        self._thread.join()

    def exchanges(self, path: str) -> list[Exchange]:
        """Those that were posted to a path."""
        start = f"POST {path} ".encode()
        return [exchange for head, exchange in self.requests if head.startswith(start)]

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._is_up.set()
        await self._is_over.wait()
        server.close()

    async def _connection(
        self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        engine, to_engine = await asyncio.open_connection(*self._upstream)
        latest: list[Exchange] = []

        async def there() -> None:
            while data := await client.read(READ_BYTES):
                if not latest or latest[-1].sizes:
                    latest.append(Exchange(len(self.requests), kept=bytearray()))
                    self.requests.append((data[:200], latest[-1]))
                latest[-1].sent_s = latest[-1].planned_s = time.perf_counter()
                to_engine.write(data)
            to_engine.close()

        async def back() -> None:
            while data := await engine.read(READ_BYTES):
                now_s = time.perf_counter()
                to_client.write(data)
                exchange = latest[-1]
                exchange.arrival_s.append(now_s)
                exchange.sizes.append(len(data))
                exchange.kept += data  # type: ignore[operator]
                exchange.end_s = now_s
            to_client.close()

        await asyncio.gather(there(), back(), return_exceptions=True)


def shared_out(cpus: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    """Cores of the server and of the clients: two clients that cost it unequal time would else
    measure two servers. With one core they share it."""
    half = len(cpus) - len(cpus) // 2
    return cpus[:half], cpus[half:] or cpus


def theirs(
    server: Server, found: models.Model, asks: Sequence[GenerationRequest], concurrency: int
) -> tuple[dict[str, Any], other_tools.Printed]:
    """The result file of a real run of `vllm bench serve`, and our account of that very run.

    It is seen from outside, by a relay between it and the server.
    """
    python = environment.python(server.engine, machine.device(), CACHE)
    usage = json.dumps({"stream_options": {"include_usage": True, "continuous_usage_stats": True}})
    with (
        tempfile.TemporaryDirectory() as name,
        Relay(server.address.host, server.address.port) as relay,
    ):
        file = Path(name) / "prompts.json"
        file.write_text(json.dumps([(list(ask.prompt_ids), ask.output_tokens) for ask in asks]))
        url = f"http://127.0.0.1:{relay.port}"
        command = [
            *(str(python), "-c", CLIENT, str(file), f"--base-url={url}", "--backend=openai"),
            *(f"--model={found.path}", "--served-model-name=model", "--ignore-eos"),
            *(f"--max-concurrency={concurrency}", f"--num-prompts={len(asks)}", "--temperature=0"),
            *("--percentile-metrics=ttft,tpot,itl,e2el", "--save-result", "--save-detailed"),
            *(f"--result-dir={name}", "--result-filename=result.json", "--disable-tqdm"),
            f"--extra-body={usage}",  # tokens of every event, as our client asks for them
        ]
        done = subprocess.run(command, capture_output=True, text=True, cwd=name)
        assert done.returncode == 0, done.stderr[-2000:]
        result: dict[str, Any] = json.loads((Path(name) / "result.json").read_text())
        seen = relay.exchanges("/v1/completions")[-len(asks) :]  # it tries the server out first
    return result, _account(server, seen, asks)


def ours(
    server: Server, asks: Sequence[GenerationRequest], concurrency: int
) -> other_tools.Printed:
    """What the real client would print, by our log of a run of our own."""
    dialect = server.engine.dialect
    bodies = [
        http1.post(server.address, dialect.generate_path, dialect.body(ask), f"{index}")
        for index, ask in enumerate(asks)
    ]
    return _account(server, client.run_closed_loop(server.address, bodies, concurrency, 600), asks)


def _account(
    server: Server, seen: Sequence[Exchange], asks: Sequence[GenerationRequest]
) -> other_tools.Printed:
    rows = [
        read(exchange, server.engine.dialect, ask, phase="measured", request_id="")
        for exchange, ask in zip(seen, asks, strict=True)
    ]
    errors = [row.error for row in rows if row.error is not None]
    assert not errors, errors[0]
    return other_tools.vllm_bench_serve(request_table.gather(rows))


def by_our_formulas(result: Mapping[str, Any]) -> other_tools.Printed:
    """The times that the real client wrote down, through our account of it."""
    rows = []
    for index, start_s in enumerate(result["start_times"]):
        event_s = [start_s + result["ttfts"][index]]
        for gap_s in result["itls"][index]:
            event_s.append(event_s[-1] + gap_s)
        rows.append(
            RequestRecord(
                index,
                "measured",
                f"{index}",
                "",
                prompt_tokens_asked=result["input_lens"][index],
                output_tokens_asked=result["output_lens"][index],
                sent_s=start_s,
                event_s=event_s,
                event_tokens=[1] * len(event_s),
                event_chars=[1] * len(event_s),
                prompt_tokens=result["input_lens"][index],
                output_tokens=result["output_lens"][index],
                error=result["errors"][index] or None,
            )
        )
    return other_tools.vllm_bench_serve(request_table.gather(rows), result["duration"])


def main(
    rounds: Annotated[int, typer.Option(help="Runs of each, in turn")] = 5,
    requests: Annotated[int, typer.Option(help="A run")] = 40,
    concurrency: Annotated[int, typer.Option(help="Requests in flight")] = 4,
    prompt_tokens: int = 64,
    output_tokens: int = 48,
) -> None:
    """Set our account of vLLM's client beside the real one, on one real server."""
    engine = load_engine(ROOT, "vllm")
    environment.build(engine, machine.device(), CACHE, print)
    texts = list(prompt_files.read(ROOT / "prompts.txt").texts)
    found = models.resolve("embedded", texts, CACHE / "models")
    tokenizer = prompts.load_tokenizer(found.path)
    made = prompts.make_set(tokenizer, texts, prompt_tokens, requests, "tools")
    asks = [GenerationRequest(prompt.ids, prompt.text, output_tokens) for prompt in made]
    of_server, of_clients = shared_out(sorted(machine.cpus()))
    settings = {"MODEL": str(found.path), "CPUS": machine.cpu_list(of_server)}
    with tempfile.TemporaryDirectory() as name:
        command = process.resolve(engine, settings, machine.device(), CACHE, choose_port(None))
        os.sched_setaffinity(0, of_server)  # what is started inherits it
        server = process.start(engine, command, Path(name))
        os.sched_setaffinity(0, of_clients)
        try:
            wait_ready(server, asks[0], 300)
            ours(server, asks, concurrency)  # warm-up
            mine, real, seen = [], [], []
            for _ in range(rounds):
                mine.append(ours(server, asks, concurrency))
                result, account = theirs(server, found, asks, concurrency)
                real.append(result)
                seen.append(account)
        finally:
            server.stop(lambda: False)
    print("Its very runs, seen from outside by a relay:")
    _print(seen, real)
    print("Runs of our own, in turn with its:")
    _print(mine, real)
    off = max(
        abs(float(again[name] or 0) / result[key] - 1)
        for result in real
        for again in [by_our_formulas(result)]
        for name, key in NAMES.items()
    )
    print(f"on its own times our formulas are off by at most {off:.1e}: ", end="")
    print("they agree" if off < EXACT else "THEY DIFFER")
    if off >= EXACT:
        raise typer.Exit(1)


def _print(mine: Sequence[other_tools.Printed], real: Sequence[Mapping[str, Any]]) -> None:
    """Our account beside what was printed, run by run."""
    print("| | ours, median | vllm bench serve, median | ratio, median (least to most) |")
    print("|---|---:|---:|---:|")
    for printed, name in NAMES.items():
        pairs = [(float(a[printed] or 0), float(b[name])) for a, b in zip(mine, real, strict=True)]
        ratios = [a / b for a, b in pairs]
        a, b = (statistics.median(values) for values in zip(*pairs, strict=True))
        mark = "" if abs(statistics.median(ratios) - 1) <= WITHIN else " *"
        spread = f"{min(ratios):.4f} to {max(ratios):.4f}"
        middle = f"{statistics.median(ratios):.4f} ({spread}){mark}"
        print(f"| {printed} | {a:.2f} | {b:.2f} | {middle} |")
    print(f"* further off than {WITHIN:.0%}")


if __name__ == "__main__":
    typer.run(main)

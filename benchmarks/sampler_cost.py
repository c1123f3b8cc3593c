"""What the sampler costs, and takes from the engine it watches: ``make bench-sampler``.

One real engine answers the same load over and over, in turn with nothing watched, and with sampling
at 10 Hz and at 100 Hz. In the last two ``/metrics`` and PSS are read once a second, as in a study.
Printed are the engine's output tokens/s, their ratio to the same round with nothing watched, and
the sampler's own account.

Where there is no GPU, a compiled stub of NVML with scripted GPUs takes its place: the path through
ctypes is then real, the time that a driver takes to answer is not in it.
"""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from enginebench.engines.dialect import GenerationRequest
from enginebench.engines.directory import load_engine
from enginebench.hardware import machine, nvml
from enginebench.launch import environment, process
from enginebench.launch.server import Server, choose_port
from enginebench.load import client, http1
from enginebench.load.request_record import read
from enginebench.metrics.latency import cell_figures
from enginebench.plan import models, prompt_files, prompts
from enginebench.run.interrupts import DeferredInterrupts
from enginebench.run.ready import wait_ready
from enginebench.watch.sampler import Watcher

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
INTERVALS_S = (None, 0.1, 0.01)  # None: nothing is watched
SCRAPE_INTERVAL_S = 1.0
STUBBED = "ENGINEBENCH_STUBBED_NVML"  # set in the process that has the stub
IS_STUBBED = STUBBED in os.environ
PROMPT_TOKENS, OUTPUT_TOKENS = 128, 64


def rate(server: Server, asks: list[GenerationRequest], concurrency: int) -> float:
    """Output tokens/s of one pass of the load."""
    dialect = server.engine.dialect
    bodies = [
        http1.post(server.address, dialect.generate_path, dialect.body(ask), f"{index}")
        for index, ask in enumerate(asks)
    ]
    answers = client.run_closed_loop(server.address, bodies, concurrency, 600)
    rows = [
        read(answer, dialect, ask, phase="measured", request_id="")
        for answer, ask in zip(answers, asks, strict=True)
    ]
    assert all(row.error is None for row in rows), rows[0].error
    return float(cell_figures(rows)["output_tokens_per_s"])


def watched(
    server: Server, asks: list[GenerationRequest], concurrency: int, interval_s: float | None
) -> tuple[float, dict[str, Any]]:
    """Output tokens/s, and the sampler's account with the share of one CPU that it took."""
    if interval_s is None:
        return rate(server, asks, concurrency), {}
    url = server.url + server.engine.dialect.metrics_path
    watcher = Watcher(url, server.pid, SCRAPE_INTERVAL_S, interval_s, nvml.gpus())
    start_s = time.perf_counter()
    with watcher:
        found = rate(server, asks, concurrency)
    took_s = time.perf_counter() - start_s
    cost = watcher.cost()
    shares = {f"{name}_share": part.cpu_s / took_s for name, part in cost.items()}
    return found, asdict(cost["sampling"]) | shares


def main(
    engine: str = "vllm",
    rounds: Annotated[int, typer.Option(help="Passes at each setting, in turn")] = 6,
    concurrency: int = 8,
    requests: int = 32,
) -> None:
    """Measure the sampler's cost with a real engine under load."""
    device = "cpu" if IS_STUBBED else machine.device()
    if IS_STUBBED and nvml.gpus():  # opened by now; the engine must not find the stub
        del os.environ["LD_LIBRARY_PATH"]
    found_engine = load_engine(ROOT, engine)
    environment.build(found_engine, device, CACHE, print)
    texts = list(prompt_files.read(ROOT / "prompts.txt").texts)
    found = models.resolve("embedded", texts, CACHE / "models")
    tokenizer = prompts.load_tokenizer(found.path)
    made = prompts.make_set(tokenizer, texts, PROMPT_TOKENS, requests, "sampler")
    asks = [GenerationRequest(prompt.ids, prompt.text, OUTPUT_TOKENS) for prompt in made]
    settings = {"MODEL": str(found.path), "CPUS": machine.cpu_list(machine.cpus())}
    command = process.resolve(found_engine, settings, device, CACHE, choose_port(None))
    results: dict[float | None, list[tuple[float, dict[str, Any]]]] = {i: [] for i in INTERVALS_S}
    with tempfile.TemporaryDirectory() as name:
        interrupts = DeferredInterrupts()
        with interrupts.defer():
            server = process.start(found_engine, command, Path(name))
        try:
            wait_ready(server, asks[0], 300)
            rate(server, asks, concurrency)  # warm-up
            for turn in range(rounds):
                for place in range(len(INTERVALS_S)):  # each is first, middle and last in turn
                    interval_s = INTERVALS_S[(place + turn) % len(INTERVALS_S)]
                    results[interval_s].append(watched(server, asks, concurrency, interval_s))
                print(f"round {turn + 1} of {rounds} done", file=sys.stderr)
        finally:
            with interrupts.defer():
                server.stop(interrupts.is_urgent)
    print_results(engine, results)


def print_results(engine: str, results: dict[float | None, list[Any]]) -> None:
    off = [tokens_per_s for tokens_per_s, _ in results[None]]
    print(f"{engine}; GPUs sampled: {', '.join(g.name or '?' for g in machine.gpus()) or 'none'}")
    print(
        "| sampling | output tokens/s | × off, median (least to most) | sampler, share of a CPU "
        "| PSS | /metrics | ms a sample | latest, ms | missed |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    print(f"| off | {statistics.median(off):.1f} | 1 | – | – | – | – | – | – |")
    for interval_s in INTERVALS_S[1:]:
        rates = [tokens_per_s for tokens_per_s, _ in results[interval_s]]
        costs = [cost for _, cost in results[interval_s]]
        ratios = [on / without for on, without in zip(rates, off, strict=True)]
        shares = [
            statistics.mean(cost[f"{name}_share"] for cost in costs)
            for name in ("sampling", "weighing", "scraping")
        ]
        beats = sum(cost["beats"] for cost in costs)
        missed = sum(cost["missed"] for cost in costs)
        print(
            f"| {1 / interval_s:.0f} Hz | {statistics.median(rates):.1f} "
            f"| {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}) "
            f"| {' | '.join(f'{share * 100:.2f} %' for share in shares)} "
            f"| {sum(cost['took_s'] for cost in costs) / beats * 1e3:.2f} "
            f"| {max(cost['late_s_max'] for cost in costs) * 1e3:.1f} "
            f"| {missed} of {beats + missed} |"
        )


def with_stub() -> None:
    """Run again with the stub in the loader's path, which is only read at a process's start."""
    with tempfile.TemporaryDirectory() as name:
        library = Path(name) / "libnvidia-ml.so.1"
        source = ROOT / "tests" / "support" / "nvml_stub.c"
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
        env = os.environ | {"LD_LIBRARY_PATH": name, STUBBED: "1"}
        sys.exit(subprocess.run([sys.executable, *sys.argv], env=env).returncode)


if __name__ == "__main__":
    if machine.device() == "cpu" and not IS_STUBBED:
        with_stub()
    # A plain end would leave the engine running: make it one that passes by `finally`.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    typer.run(main)

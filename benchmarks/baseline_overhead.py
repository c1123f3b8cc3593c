"""What serving over HTTP costs the baseline: ``make bench-server``.

The same prompts go through ``generate`` in a bare process (no server, no streaming) and through
the server with our load client, in turn, several times; the median of the ratios is printed. The
baseline is only fair if serving costs it nothing: below 0.97 the exit code is 1.
"""

import json
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from enginebench.engines.dialect import GenerationRequest
from enginebench.engines.directory import Engine, load_engine
from enginebench.hardware import machine
from enginebench.launch import environment, process
from enginebench.launch.server import choose_port
from enginebench.load import client, http1
from enginebench.load.request_record import read
from enginebench.metrics.latency import cell_figures
from enginebench.plan import models, prompt_files, prompts
from enginebench.run.ready import wait_ready

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
LEAST_RATIO = 0.97


def requests_file(asks: list[GenerationRequest], directory: Path) -> Path:
    file = directory / "requests.jsonl"
    rows = [{"prompt": list(ask.prompt_ids), "max_tokens": ask.output_tokens} for ask in asks]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def in_process(engine: Engine, settings: dict[str, Any], file: Path) -> float:
    """Output tokens/s of the bare ``generate`` loop."""
    command = process.resolve(engine, settings, machine.device(), CACHE, choose_port(None))
    done = subprocess.run(
        [*command.argv, f"--in-process={file}"], capture_output=True, text=True, check=True
    )
    result = json.loads(done.stdout.splitlines()[-1])
    return float(result["output_tokens"] / result["seconds"])


def over_http(
    engine: Engine,
    settings: dict[str, Any],
    asks: list[GenerationRequest],
    concurrency: int,
    directory: Path,
) -> float:
    """Output tokens/s of the same requests through the server."""
    command = process.resolve(engine, settings, machine.device(), CACHE, choose_port(None))
    server = process.start(engine, command, directory)
    dialect = engine.dialect
    try:
        wait_ready(server, asks[0], 300)
        bodies = [
            http1.post(server.address, dialect.generate_path, dialect.body(ask), f"{index}")
            for index, ask in enumerate(asks)
        ]
        client.run_closed_loop(server.address, bodies[:concurrency], concurrency, 600)  # warm-up
        answers = client.run_closed_loop(server.address, bodies, concurrency, 600)
    finally:
        server.stop(lambda: False)
    rows = [
        read(answer, dialect, ask, phase="measured", request_id="")
        for answer, ask in zip(answers, asks, strict=True)
    ]
    assert all(row.error is None for row in rows), rows[0].error
    return float(cell_figures(rows)["output_tokens_per_s"])


def main(
    rounds: Annotated[int, typer.Option(help="Repetitions of each, in turn")] = 5,
    prompt_tokens: int = 128,
    output_tokens: int = 64,
) -> None:
    """Compare the baseline over HTTP with the same generate loop in a bare process."""
    engine = load_engine(ROOT, "baseline")
    environment.build(engine, machine.device(), CACHE, print)
    worst = 1.0
    texts = list(prompt_files.read(ROOT / "prompts.txt").texts)
    found = models.resolve("embedded", texts, CACHE / "models")
    tokenizer = prompts.load_tokenizer(found.path)
    print("| mode | dtype | in process, tokens/s | over HTTP, tokens/s | HTTP / in process |")
    print("|---|---|---:|---:|---:|")
    for mode, dtype, batch, count in (
        ("naive", "float32", 1, 4),
        ("naive", "bfloat16", 1, 4),
        ("static", "float32", 16, 32),
        ("static", "bfloat16", 16, 32),
    ):
        settings = {"MODEL": str(found.path), "MODE": mode, "DTYPE": dtype, "MAX_BATCH": batch}
        made = prompts.make_set(tokenizer, texts, prompt_tokens, count, "overhead")
        asks = [GenerationRequest(prompt.ids, prompt.text, output_tokens) for prompt in made]
        bare, served = [], []
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as name:
                directory = Path(name)
                bare.append(in_process(engine, settings, requests_file(asks, directory)))
                served.append(over_http(engine, settings, asks, batch, directory))
        a, b = statistics.median(bare), statistics.median(served)
        ratio = statistics.median(y / x for x, y in zip(bare, served, strict=True))
        print(f"| {mode} | {dtype} | {a:.1f} | {b:.1f} | {ratio:.3f} |", flush=True)
        worst = min(worst, ratio)
    if worst < LEAST_RATIO:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)

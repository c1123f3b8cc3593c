"""Does our account of `vllm bench serve` agree with the real one? `make bench-tools` (minutes).

One real vLLM server, the same prompts, lengths and requests in flight, in turn: our load
generator, whose log goes through ``other_tools.vllm_bench_serve``, and vLLM's own client. Its
detailed result is put through the same formulas, too: on the very same times they must give what it
printed.
"""

import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from enginebench import columns, environment, load, machine, model, other_tools, process, prompts
from enginebench.dialect import Ask
from enginebench.exchange import read
from enginebench.launch import load_engine
from enginebench.server import Server, choose_port, patiently, wait_ready

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
WITHIN = 0.02
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


def shared_out(cpus: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    """Cores of the server and of the clients: two clients that cost it unequal time would else
    measure two servers. With one core they share it."""
    half = len(cpus) - len(cpus) // 2
    return cpus[:half], cpus[half:] or cpus


def ours(server: Server, asks: Sequence[Ask], concurrency: int) -> other_tools.Printed:
    """What the real client would print, by our log of our own run."""
    dialect = server.engine.dialect
    bodies = [
        load.post(server.address, dialect.generate_path, dialect.body(ask), f"{index}")
        for index, ask in enumerate(asks)
    ]
    answers = load.run_closed_loop(server.address, bodies, concurrency, 600)
    rows = [
        read(answer, dialect, ask, phase="measured", request_id="").to_json()
        for answer, ask in zip(answers, asks, strict=True)
    ]
    errors = [row["error"] for row in rows if row["error"] is not None]
    assert not errors, errors[0]
    return other_tools.vllm_bench_serve(columns.gather(rows))


def theirs(
    server: Server, found: model.Model, asks: Sequence[Ask], concurrency: int
) -> dict[str, Any]:
    """The result file of a real run of `vllm bench serve`."""
    python = environment.python(server.engine, machine.device(), CACHE)
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "prompts.json"
        file.write_text(json.dumps([(list(ask.prompt_ids), ask.output_tokens) for ask in asks]))
        command = [
            *(str(python), "-c", CLIENT, str(file), f"--base-url={server.url}", "--backend=openai"),
            *(f"--model={found.path}", "--served-model-name=model", "--ignore-eos"),
            *(f"--max-concurrency={concurrency}", f"--num-prompts={len(asks)}", "--temperature=0"),
            *("--percentile-metrics=ttft,tpot,itl,e2el", "--save-result", "--save-detailed"),
            *(f"--result-dir={name}", "--result-filename=result.json", "--disable-tqdm"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, cwd=name)
        assert done.returncode == 0, done.stderr[-2000:]
        result: dict[str, Any] = json.loads((Path(name) / "result.json").read_text())
        return result


def by_our_formulas(result: Mapping[str, Any]) -> other_tools.Printed:
    """The times that the real client wrote down, through our account of it."""
    rows = []
    for index, start_s in enumerate(result["start_times"]):
        event_s = [start_s + result["ttfts"][index]]
        for gap_s in result["itls"][index]:
            event_s.append(event_s[-1] + gap_s)
        rows.append(
            {
                "sent_s": start_s,
                "event_s": event_s,
                "event_tokens": [1] * len(event_s),
                "event_chars": [1] * len(event_s),
                "prompt_tokens": result["input_lens"][index],
                "output_tokens": result["output_lens"][index],
                "error": result["errors"][index] or None,
            }
        )
    return other_tools.vllm_bench_serve(columns.gather(rows), result["duration"])


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
    texts = prompts.read_sources(ROOT / "prompts.txt")
    found = model.resolve("embedded", texts, CACHE / "models")
    tokenizer = prompts.load_tokenizer(found.path)
    made = prompts.make_set(tokenizer, texts, prompt_tokens, requests, "tools")
    asks = [Ask(prompt.ids, prompt.text, output_tokens) for prompt in made]
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
            mine, real = [], []
            for _ in range(rounds):
                mine.append(ours(server, asks, concurrency))
                real.append(theirs(server, found, asks, concurrency))
        finally:
            server.stop(patiently)
    if not _print(mine, real):
        raise typer.Exit(1)


def _print(mine: Sequence[other_tools.Printed], real: Sequence[Mapping[str, Any]]) -> bool:
    """The table; whether the formulas give what was printed for the very same times."""
    off = 0.0
    print("| | ours, median | vllm bench serve, median | ratio (least to most) |")
    print("|---|---:|---:|---:|")
    for printed, name in NAMES.items():
        pairs = [(float(a[printed] or 0), float(b[name])) for a, b in zip(mine, real, strict=True)]
        ratios = [a / b for a, b in pairs]
        a, b = (statistics.median(values) for values in zip(*pairs, strict=True))
        mark = "" if abs(a / b - 1) <= WITHIN else " *"
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
        print(f"| {printed} | {a:.2f} | {b:.2f} | {a / b:.3f} ({spread}){mark} |")
    for result in real:
        again = by_our_formulas(result)
        off = max(off, *(abs(float(again[n] or 0) / result[key] - 1) for n, key in NAMES.items()))
    print(f"* further off than {WITHIN:.0%}")
    print(f"on its own times our formulas are off by at most {off:.1e}: ", end="")
    print("they agree" if off < EXACT else "THEY DIFFER")
    return off < EXACT


if __name__ == "__main__":
    typer.run(main)

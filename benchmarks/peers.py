"""Clients that are measured against each other; each a program that is told what to send.

``peers.py NAME PORT STREAMS REQUESTS TOKENS OUT``; ``OUT`` gets its TTFTs and gaps as JSON.
"aiohttp" runs with whatever Python has aiohttp: nothing of enginebench is imported before it is
ours.
"""

import asyncio
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any


def ours(
    port: int, streams: int, requests: int, tokens: int, processes: int, ramp_ms: int
) -> dict[str, Any]:
    """A closed loop of the load generator."""
    from enginebench.engines.address import Address
    from enginebench.load import spec

    address = Address("127.0.0.1", port)
    bodies = _bodies(address, requests, tokens)
    return _drive(spec.LoadSpec(address, bodies, streams, ramp_s=ramp_ms / 1e3), tokens, processes)


def open_loop(port: int, cap: int, requests: int, tokens: int, rate: int) -> dict[str, Any]:
    """An open loop of the load generator, with at most so many in flight."""
    from enginebench.engines.address import Address
    from enginebench.load import spec
    from enginebench.plan import arrivals, workload

    fields = {"name": "w", "prompt_tokens": 1, "output_tokens": tokens, "rate": [rate]}
    due_s = arrivals.due_s(workload.Workload(**fields), rate, requests, "bench")
    address = Address("127.0.0.1", port)
    bodies = _bodies(address, requests, tokens)
    return _drive(spec.LoadSpec(address, bodies, cap, due_s=due_s), tokens, 1)


def _bodies(address: Any, requests: int, tokens: int) -> list[bytes]:
    from enginebench.load import http1

    body = {"prompt": [1] * 16, "max_tokens": tokens}
    return [http1.post(address, "/v1/completions", body, f"{k}") for k in range(requests)]


def _drive(sent: Any, tokens: int, processes: int) -> dict[str, Any]:
    from enginebench.load import calibrate, client_stats, workers
    from enginebench.metrics import request_table
    from enginebench.metrics.latency import inter_token_s

    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    before = _memory_bytes("VmRSS")
    with workers.run(sent, processes) as result:
        stats = client_stats.figures(result)
        start_s = time.perf_counter()
        records = calibrate.records_of(result, tokens)
        parse_s = time.perf_counter() - start_s
        after = _memory_bytes("VmHWM")
        read_s = [list(exchange.read_s) for exchange in result.exchanges]
    good = [record for record in records if record.error is None]
    return {
        "ttft_s": [r.event_s[0] - (r.sent_s or 0.0) for r in good],
        "itl_s": inter_token_s(request_table.gather(good)).tolist(),
        "client": asdict(stats),
        "memory_bytes": after - before,
        "parsed_tokens_per_s": sum(len(r.event_s) for r in records) / parse_s,
        "records": [asdict(r) for r in records],
        "read_s": read_s,
    }


def _memory_bytes(name: str) -> int:
    """VmRSS, or VmHWM, its peak: ru_maxrss would begin with what the parent had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024


def plain_aiohttp(port: int, streams: int, requests: int, tokens: int) -> dict[str, Any]:
    """What one writes in an afternoon: a session, a line at a time, JSON as it comes."""
    return asyncio.run(_aiohttp(port, streams, requests, tokens))


async def _aiohttp(port: int, streams: int, requests: int, tokens: int) -> dict[str, Any]:
    import aiohttp

    ttft: list[float] = []
    itl: list[float] = []
    left = iter(range(requests))
    url = f"http://127.0.0.1:{port}/v1/completions"
    body = {"prompt": [1] * 16, "max_tokens": tokens, "stream": True}

    async def one(session: Any, number: int) -> None:
        start_s = last_s = time.perf_counter()
        async with session.post(url, json=body, headers={"X-Request-Id": f"{number}"}) as answer:
            async for line in answer.content:
                if not line.startswith(b"data: {"):
                    continue
                now_s = time.perf_counter()
                if json.loads(line[6:])["choices"][0]["text"]:
                    (itl if last_s > start_s else ttft).append(now_s - last_s)
                    last_s = now_s

    async def stream(session: Any) -> None:
        for number in left:
            await one(session, number)

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        await asyncio.gather(*(stream(session) for _ in range(streams)))
    return {"ttft_s": ttft, "itl_s": itl}


def main() -> None:
    name, *numbers = sys.argv[1:-1]
    run: Any = {"ours": ours, "open": open_loop, "aiohttp": plain_aiohttp}[name]
    found = run(*map(int, numbers))
    Path(sys.argv[-1]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()

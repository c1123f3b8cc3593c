"""What this machine can do at most: memory and matrix multiplication rates, measured.

A CPU has no data sheet that holds for a slice of it in a virtual machine, so its ceilings are
measured; a GPU's data sheet says what none reaches, so what it does reach is measured beside it. In
the environment of an engine (which has torch), on all cores, best of several tries. Run as a
program by the harness, with the number of threads and the device; prints one JSON object. Imports
nothing of enginebench.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

TRIES = 15
#: By device: bytes well above any last-level cache (of which there is room for four times as much);
#: products' sizes (m, k, n); dtypes.
READ_BYTES = {"cpu": 256 << 20, "cuda": 4 << 30}
SHAPES = {
    "cpu": ((2048, 2048, 2048), (128, 768, 4096), (512, 2048, 1024)),
    "cuda": ((8192, 8192, 8192), (4096, 4096, 11008)),
}
DTYPES = {"cpu": ("float32", "bfloat16"), "cuda": ("float32", "bfloat16", "float16")}


def best_s(work: Callable[[], Any], wait: Callable[[], Any]) -> float:
    """The shortest of several runs: a ceiling is what the machine can do when nothing disturbs.

    The first is not counted: it loads code and takes memory.
    """
    times = []
    for _ in range(TRIES + 1):
        wait()
        start = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def main() -> None:
    import torch

    torch.set_num_threads(int(sys.argv[1]))
    device = sys.argv[2]
    wait: Callable[[], Any] = torch.cuda.synchronize if device == "cuda" else lambda: None
    size = READ_BYTES[device]
    if device == "cuda":
        size = min(size, torch.cuda.mem_get_info()[0] // 4)
    block = torch.ones(size // 4, dtype=torch.float32, device=device)
    target = torch.empty_like(block)
    read_s = best_s(block.sum, wait)
    copy_s = best_s(partial(target.copy_, block), wait)
    del block, target
    flops = {}
    for name in DTYPES[device]:
        dtype = getattr(torch, name)
        rates = []
        for m, k, n in SHAPES[device]:
            # Noise: products of ones draw less power, and a GPU then clocks higher than in earnest.
            a = torch.randn(m, k, device=device).to(dtype)
            b = torch.randn(n, k, device=device).to(dtype)
            product = partial(torch.nn.functional.linear, a, b)
            rates.append(2 * m * k * n / best_s(product, wait))
        flops[name] = max(rates)
    print(
        json.dumps(
            {
                "read_bytes_per_s": size / read_s,
                "copy_bytes_per_s": 2 * size / copy_s,  # one read and one write
                "flops_per_s": flops,
                "torch": torch.__version__,
            }
        )
    )


if __name__ == "__main__":
    main()

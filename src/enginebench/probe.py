"""What this CPU can do at most: memory read rate and matrix multiplication rate, measured.

A CPU has no data sheet that holds for a slice of it in a virtual machine, so its ceilings are
measured, in the environment of an engine (which has torch), on all cores, best of several tries.
Run as a program by the harness; prints one JSON object. Imports nothing of enginebench.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

READ_BYTES = 256 << 20  # well above any last-level cache, near the size of small models
SHAPES = ((2048, 2048, 2048), (128, 768, 4096), (512, 2048, 1024))  # m, k, n
TRIES = 15


def best_s(work: Callable[[], Any]) -> float:
    """The shortest of several runs: a ceiling is what the machine can do when nothing disturbs."""
    times = []
    for _ in range(TRIES):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    import torch

    torch.set_num_threads(int(sys.argv[1]))
    block = torch.ones(READ_BYTES // 4, dtype=torch.float32)
    target = torch.empty_like(block)
    read_s = best_s(block.sum)
    copy_s = best_s(partial(target.copy_, block))
    flops = {}
    for name in ("float32", "bfloat16"):
        dtype = getattr(torch, name)
        rates = []
        for m, k, n in SHAPES:
            a, b = torch.ones(m, k, dtype=dtype), torch.ones(n, k, dtype=dtype)
            rates.append(2 * m * k * n / best_s(partial(torch.nn.functional.linear, a, b)))
        flops[name] = max(rates)
    print(
        json.dumps(
            {
                "read_bytes_per_s": READ_BYTES / read_s,
                "copy_bytes_per_s": 2 * READ_BYTES / copy_s,  # one read and one write
                "flops_per_s": flops,
                "torch": torch.__version__,
            }
        )
    )


if __name__ == "__main__":
    main()

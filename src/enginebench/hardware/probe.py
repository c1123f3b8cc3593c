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
from pathlib import Path
from typing import Any

TRIES = 15
FEWEST_TRIES = 5  # of a block that takes long to read
#: Bytes that are read: far more than any last-level cache holds, within what is free.
SMALLEST, LARGEST = 256 << 20, 4 << 30
TIMES_THE_CACHE = 4
SHARE_OF_FREE = 0.25
#: By device: products' sizes (m, k, n); dtypes.
SHAPES = {
    "cpu": ((2048, 2048, 2048), (128, 768, 4096), (512, 2048, 1024)),
    "cuda": ((8192, 8192, 8192), (4096, 4096, 11008)),
}
DTYPES = {"cpu": ("float32", "bfloat16"), "cuda": ("float32", "bfloat16", "float16")}
CPUS = Path("/sys/devices/system/cpu")
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def cache_bytes(cpus: Path = CPUS) -> int | None:
    """All last-level caches of the machine together; None: the kernel does not say.

    A cache that several processors share counts once; those of all sockets count, as threads may
    run on any.
    """
    found: dict[tuple[int, str], int] = {}
    for index in cpus.glob("cpu[0-9]*/cache/index[0-9]*"):
        try:
            level = int((index / "level").read_text())
            size = (index / "size").read_text().strip()
            shared = (index / "shared_cpu_list").read_text().strip()
            if (index / "type").read_text().strip() != "Instruction":
                found[level, shared] = int(size.rstrip("KMG")) * UNITS.get(size[-1:], 1)
        except (OSError, ValueError):
            continue
    last = max((level for level, _ in found), default=0)
    return sum(size for (level, _), size in found.items() if level == last) or None


def free_bytes(root: Path = Path("/")) -> int | None:
    """Memory that this process may take: what is available, within its control group's limit."""
    free = []
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        free += [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")]
        name = (root / "proc/self/cgroup").read_text().strip().rpartition("::")[2]
        for group in (root / "sys/fs/cgroup" / name.lstrip("/"), root / "sys/fs/cgroup"):
            if (group / "memory.max").exists():
                limit = (group / "memory.max").read_text().strip()
                used = int((group / "memory.current").read_text())
                free += [] if limit == "max" else [max(int(limit) - used, 0)]
    except (OSError, ValueError, IndexError):
        pass
    return min(free, default=None)


def block_bytes(cache: int | None, free: int | None) -> int | str:
    """How much memory to read, or why no size would tell the memory from the cache.

    Where the kernel does not say how large the cache is, the largest block is needed.
    """
    wanted = LARGEST if cache is None else max(SMALLEST, TIMES_THE_CACHE * cache)
    size = min(wanted, LARGEST, LARGEST if free is None else int(free * SHARE_OF_FREE))
    least = LARGEST if cache is None else max(SMALLEST, 2 * cache)
    if size >= least:
        return size - size % (1 << 20)
    known = "of unknown size" if cache is None else f"of {cache >> 20:,} MiB"
    return (
        f"a block of {least >> 20:,} MiB is needed to read past a last-level cache {known}, and "
        f"{size >> 20:,} MiB may be taken"
    )


def best_s(work: Callable[[], Any], wait: Callable[[], Any], tries: int = TRIES) -> float:
    """The shortest of several runs: a ceiling is what the machine can do when nothing disturbs.

    The first is not counted: it loads code and takes memory.
    """
    times = []
    for _ in range(tries + 1):
        wait()
        start = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def memory(torch: Any, device: str, size: int, wait: Callable[[], Any]) -> dict[str, float]:
    """Rates of reading one block, and of copying one half of it to the other; bytes/s."""
    block = torch.ones(size // 4, dtype=torch.float32, device=device)
    half = block.numel() // 2
    tries = TRIES if device == "cuda" else min(TRIES, max(FEWEST_TRIES, TRIES * SMALLEST // size))
    read_s = best_s(block.sum, wait, tries)
    copy_s = best_s(partial(block[:half].copy_, block[half : 2 * half]), wait, tries)
    copied = 2 * 4 * half  # one read and one write
    return {"read_bytes_per_s": size / read_s, "copy_bytes_per_s": copied / copy_s}


def products(torch: Any, device: str, wait: Callable[[], Any]) -> dict[str, float]:
    """FLOPs/s by dtype, of the best of several shapes."""
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
    return flops


def main() -> None:
    import torch

    torch.set_num_threads(int(sys.argv[1]))
    device = sys.argv[2]
    wait: Callable[[], Any] = torch.cuda.synchronize if device == "cuda" else lambda: None
    cache: int | None = None
    size: int | str
    if device == "cuda":  # its cache is some ten MiB: any block of this size passes it
        size = min(LARGEST, torch.cuda.mem_get_info()[0] // 4)
    else:
        cache = cache_bytes()
        size = block_bytes(cache, free_bytes())
    if isinstance(size, str):
        print(json.dumps({"not_measured": size}))
        return
    rates = memory(torch, device, size, wait)
    about = {"block_bytes": size, "cache_bytes": cache, "torch": torch.__version__}
    print(json.dumps(rates | {"flops_per_s": products(torch, device, wait)} | about))


if __name__ == "__main__":
    main()

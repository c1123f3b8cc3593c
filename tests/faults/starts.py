"""Faults of an engine's start, of its log and of its end: one study, a start a fault."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cells import add_engine, study_of, workload
from faulty_server import FIRST_PROMPT
from harness import Ended, Fault, Result, named, place, run
from project import metrics, result, write_study

from enginebench.base.errors import UserError
from enginebench.record import reading, schema

GROUP = "start"
NOT_READY = "not ready within 3 s .ready_timeout_s.; last answer: "
VALID = "^$"  # the cell is valid, and nothing is said of it
SLOW = ("stopped-in-cell", "ignores-sigterm")  # seconds each

FAULTS = (
    Fault("none", VALID),
    Fault("exits-3", "ended with exit code 3 before it was ready"),
    Fault("exits-0", "ended with exit code 0 before it was ready"),
    Fault("dies-of-segv", "was killed by SIGSEGV before it was ready"),
    Fault("dies-of-rtmin+5", r"was killed by SIGRTMIN\+5 before it was ready"),
    Fault("dies-of-rtmax", "was killed by SIGRTMAX before it was ready"),
    Fault("never-listens", f"{NOT_READY}ConnectionRefusedError"),
    Fault("health-503", f"{NOT_READY}HTTP 503 from /health"),
    Fault("health-redirect", f"{NOT_READY}HTTP 301: a redirect, which is not followed"),
    Fault("health-not-http", f"{NOT_READY}BadStatusLine"),
    Fault("health-endless", f"{NOT_READY}TooLarge: more than 1 MiB"),
    Fault("health-drip", f"{NOT_READY}Timeout|not ready within 3 s"),
    Fault("first-400", "refused the study's first request .HTTP 400: .*?too long for me"),
    Fault("first-401", "refused the study's first request .HTTP 401: no key"),
    Fault("first-500", f"{NOT_READY}a first generation failed: HTTP 500: no kernel"),
    Fault("first-garbage", f"{NOT_READY}a first generation failed: not an HTTP/1.1 response"),
    Fault("first-429", VALID),
    *(
        Fault(f"version-{name}", VALID)
        for name in (
            *("nan", "half-character", "deep", "deep-100000", "large", "number", "redirect"),
            *("html", "binary"),
        )
    ),
    Fault("daemon", VALID),
    Fault("daemon-without-environment", VALID),
    Fault("children-that-ignore-sigterm", VALID),
    Fault("ignores-sigterm", VALID),
    Fault("log-100-mb", VALID),
    Fault("log-one-line", VALID),
    Fault("log-binary", VALID),
    Fault("log-escapes", VALID),
    Fault("log-closed", VALID),
    Fault("log-secret", VALID),
    Fault("exits-9-in-cell", "ended with exit code 9"),
    Fault("dies-of-segv-in-cell", "was killed by SIGSEGV"),
    Fault("dies-of-rtmin+5-in-cell", r"was killed by SIGRTMIN\+5"),
    Fault("stopped-in-cell", "no request in flight had an event for"),
)
MOST_LOG_BYTES = (64 << 20) + 1000


def results(cache: Path, faults: Sequence[Fault]) -> list[Result]:
    """Run all these faults, each in a start of its own."""
    variants = [_variant(fault.name) for fault in faults]
    data = study_of(
        "starts",
        [workload("w", FIRST_PROMPT + 100, 4)],
        engines=[
            {"engine": "alpha", "variant": variant, "settings": {"MODE": fault.name}}
            for variant, fault in zip(variants, faults, strict=True)
        ],
        ready_timeout_s=3,
        request_timeout_s=30,
    )
    with place() as root:
        add_engine(root)
        file = write_study(root, data)
        ended = run(root, ["study", file, "--root", root, "--cache", cache], deadline_s=400)
        cells: dict[str, Any] = {}
        with contextlib.suppress(UserError, OSError, ValueError):
            cells = {cell["variant"]: cell for cell in metrics(root)["cells"]}
        return [
            _row(root, fault, cells.get(variant), ended)
            for fault, variant in zip(faults, variants, strict=True)
        ]


def _variant(name: str) -> str:
    return name.replace("+", "-")


def _row(root: Path, fault: Fault, cell: dict[str, Any] | None, ended: Ended) -> Result:
    says = "; ".join(cell["problems"]) if cell else "no such cell"
    words = named(fault.named, says)
    if fault.named == VALID and not says:
        words = "valid"
    lost = int(not _is_recorded(root, fault))
    return Result(GROUP, fault.name, words, ended.code, lost, ended, says)


def _is_recorded(root: Path, fault: Fault) -> bool:
    """Whether the start's facts and its log are there, with the version that a record can hold."""
    where = result(root) / "raw" / f"trial1_alpha_{_variant(fault.name)}"
    facts = reading.read_document(where / "launch.json", schema.Launch)
    is_odd = fault.name.startswith("version-")
    knows = facts.version is not None
    size = (where / "server.log").stat().st_size
    return size <= MOST_LOG_BYTES and not (is_odd and knows)


def jobs(cache: Path) -> list[Callable[[], list[Result]]]:
    quick = [fault for fault in FAULTS if fault.name not in SLOW]
    slow = [fault for fault in FAULTS if fault.name in SLOW]
    return [lambda: results(cache, quick), lambda: results(cache, slow)]

"""Faults in a kit: damaged and missing parts, odd manifests, another run at work."""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import made_kit
from harness import Fault, Result, place, result, run

Spoil = Callable[[Path], object]
ROW = {"name": "part-000", "bytes": 4096, "sha256": "0" * 64}


def flip(number: int) -> Spoil:
    def spoil(kit: Path) -> None:
        part = kit / f"part-{number:03d}"
        content = bytearray(part.read_bytes())
        content[100] ^= 1
        part.write_bytes(content)

    return spoil


def manifest(**changes: Any) -> Spoil:
    def spoil(kit: Path) -> None:
        file = kit / "kit.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return spoil


def content(data: bytes) -> Spoil:
    return lambda kit: (kit / "kit.json").write_bytes(data)


def pipe(name: str) -> Spoil:
    def spoil(kit: Path) -> None:
        (kit / name).unlink()
        os.mkfifo(kit / name)

    return spoil


MANIFEST = "expected the kit's manifest"
FAULTS: Mapping[str, tuple[Spoil, str]] = {
    "the first part damaged": (flip(0), "part-000: expected sha256"),
    "a part damaged": (flip(2), "part-002: expected sha256"),
    "a part missing": (lambda kit: (kit / "part-001").unlink(), "1 parts are missing .part-001"),
    "a part empty": (lambda kit: (kit / "part-000").write_bytes(b""), "part-000: expected sha256"),
    "a part that is a pipe": (pipe("part-001"), "1 parts are missing .part-001"),
    "kit.json missing": (lambda kit: (kit / "kit.json").unlink(), MANIFEST),
    "kit.json empty": (content(b""), MANIFEST),
    "kit.json binary": (content(b"\xff\xfe"), MANIFEST),
    "kit.json of 100,000 levels": (content(b"[" * 100_000), MANIFEST),
    "kit.json a list": (content(b"[]"), "found: no JSON object"),
    "kit.json a pipe": (pipe("kit.json"), MANIFEST),
    "no parts": (manifest(parts=[]), "expected a list of the kit's parts, found none"),
    "parts in words": (manifest(parts="part-000"), "expected a list of the kit's parts"),
    "a part without a checksum": (manifest(parts=[{"name": "part-000"}]), "sha256 of part 0"),
    "a part that leads out": (manifest(parts=[ROW | {"name": "../x"}]), "sha256 of part 0"),
    "a part of 10^400 bytes": (manifest(parts=[ROW | {"bytes": 10**400}]), "sha256 of part 0"),
    "escapes in its texts": (manifest(python="\x1b[31m\n3"), r"expected Python \?\[31m\?3"),
    "a part twice": (manifest(parts=[ROW, ROW]), "expected each part once"),
    "a part of another archive": (manifest(parts=[ROW]), "part-000: expected sha256"),
    "a study that leads out": (manifest(file="../x.yaml"), "expected file as it was packed"),
    "a device that is an option": (manifest(device="--help"), "expected device as it was packed"),
    "another Python": (manifest(python="2.7"), "expected Python 2.7, for which this kit is"),
    "another machine": (manifest(machine="vax"), "expected machine .*?found vax"),
    "another format": (manifest(format=9), "expected format 1, found 9"),
}


def damaged(name: str) -> list[Result]:
    spoil, says = FAULTS[name]
    with place() as root:
        kit = made_kit.make(root)
        spoil(kit)
        call = [sys.executable, "run.py"]
        ended = run(root, [], start=lambda **o: subprocess.Popen(call, **(o | {"cwd": kit})))
        lines = [line for line in ended.said.splitlines() if line.startswith("kit: expected ")]
        lost = int(len(lines) > 1 or (kit / "work" / "kit" / "large").exists())
        return [result("kit", Fault(name, says, 2), ended, lost)]


def busy() -> list[Result]:
    with place() as root:
        kit = made_kit.make(root)
        (kit / "work").mkdir()
        with (kit / "work" / ".lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            call = [sys.executable, "run.py"]
            ended = run(root, [], start=lambda **o: subprocess.Popen(call, **(o | {"cwd": kit})))
        return [result("kit", Fault("the same kit at work", "found this kit running", 2), ended)]


def jobs(cache: Path) -> list[Callable[[], list[Result]]]:
    return [busy, *(lambda name=name: damaged(name) for name in FAULTS)]

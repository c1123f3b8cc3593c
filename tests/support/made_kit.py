"""A kit of a small tree whose installed harness is a stand-in."""

import json
import platform
import shutil
from dataclasses import asdict
from pathlib import Path

from project import ROOT

from enginebench.kit import pack, packages, parts

STAND_IN = """#!/bin/sh
# Stands for the kit's Python: notes how it was called, leaves results, ends with the code asked.
echo "$@" >> calls
mkdir -p results/one
echo "$(wc -l < calls)" > results/one/finished.json
exit "$(cat code)"
"""


def make(place: Path) -> Path:
    """A kit in parts of 4 KiB below a directory."""
    tree = place / "tree"
    (tree / ".venv" / "bin").mkdir(parents=True)
    (tree / ".venv" / ".complete").touch()
    python = tree / ".venv" / "bin" / "python"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    (tree / "code").write_text("0")
    (tree / "large").write_bytes(bytes(range(256)) * 100)
    out = place / "kit"
    out.mkdir()
    manifest = {
        "format": pack.FORMAT,
        "study": "small",
        "file": "studies/small.yaml",
        "device": "cpu",
        "python": packages.OUR_PYTHON,
        "machine": platform.machine(),
        "parts": [asdict(part) for part in parts.write_parts(tree, out, 4096)],
    }
    (out / "kit.json").write_text(json.dumps(manifest))
    shutil.copy(ROOT / "src" / "enginebench" / "kit" / "host.py", out / "run.py")
    return out

"""A kit of a real engine, packed here and run where there is no network and nothing installed."""

import json
import os
import subprocess
import tarfile

import pytest
import yaml
from project import ROOT, enginebench

pytestmark = pytest.mark.containers

STUDY = {
    "name": "rehearsal",
    "device": "cpu",
    "settings": {"DTYPE": "float32"},
    "engines": [{"engine": "baseline", "variant": "static", "settings": {"MODE": "static"}}],
    "workloads": [
        {
            "name": "few",
            "prompt_tokens": 32,
            "output_tokens": 16,
            "concurrency": [1, 2],
            "warmup_output_tokens": 2,
        }
    ],
    "trials": 2,
    "judge_client": False,
    "judge_machine": False,
    "noise_probe_s": 0,
}


def test_one_command_from_the_parts_to_the_report_with_no_network_and_nothing_installed(tmp_path):
    file, out = tmp_path / "rehearsal.yaml", tmp_path / "kit"
    file.write_text(yaml.safe_dump(STUDY))
    packed = enginebench("kit", file, "--out", out, "--part-mib", 100, "--root", ROOT, cwd=tmp_path)
    assert packed.returncode == 0, packed.stderr
    parts = sorted(out.glob("part-*"))
    assert len(parts) > 1
    assert max(part.stat().st_size for part in parts) <= 100 << 20

    image = os.environ.get("ENGINEBENCH_BASE", "python:3.12-slim")
    call = ["docker", "run", "--rm", "--network", "none", "-v", f"{out}:/kit", image]
    call += ["python3", "/kit/run.py", "--into", "/tmp/work", "--limit", "15"]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    with tarfile.open(out / "results.tar.gz") as archive:
        names = archive.getnames()
        (data,) = (name for name in names if name.endswith("derived/metrics_data.json"))
        cells = json.load(archive.extractfile(data))["cells"]
        (about,) = (name for name in names if name.endswith("/study.json"))
        study = json.load(archive.extractfile(about))
    assert [cell["verdict"] for cell in cells] == ["valid"] * 4
    assert any(name.endswith("derived/report.html") for name in names)
    assert any(name.endswith("/finished.json") for name in names)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    assert study["git"]["commit"] == commit.stdout.strip()

"""The studies that are kept in the repository, and what the README quotes of them."""

import json
import re
import shutil

import pytest
from project import ROOT

from enginebench.report import build

PUBLISHED = sorted((ROOT / "results" / "published").iterdir())
QUOTED = ROOT / "results" / "published" / "2026-11-26-cpu-sweep"
LABELS = {
    "vLLM": "vllm/default",
    "transformers, static batches": "baseline/static",
    "transformers, one at a time": "baseline/naive",
}


@pytest.mark.slow
@pytest.mark.parametrize("study", PUBLISHED, ids=lambda path: path.name)
def test_a_published_study_says_what_its_raw_files_say(study, tmp_path):
    copy = tmp_path / study.name
    shutil.copytree(study, copy, ignore=shutil.ignore_patterns("derived"))
    build.build(copy)
    names = sorted(path.name for path in (copy / "derived").iterdir())
    assert names == sorted(path.name for path in (study / "derived").iterdir())
    for suffix in (".md", ".json", ".csv"):  # drawings may change with the library that draws
        for made in (copy / "derived").glob(f"*{suffix}"):
            assert made.read_text() == (study / "derived" / made.name).read_text(), made.name


def test_the_table_of_the_readme_is_of_the_study_that_it_names():
    data = json.loads((QUOTED / "derived" / "metrics_data.json").read_text())
    groups = {
        group["label"]: group
        for group in data["groups"]
        if (group["workload"], group["concurrency"]) == ("chat", 16)
    }
    readme = (ROOT / "README.md").read_text()
    rows = dict(re.findall(r"^\| ([\w, ]+) \| (\d.*) \|$", readme, re.M))
    assert rows.keys() == LABELS.keys()
    for name, label in LABELS.items():
        figures, ratio = groups[label]["figures"], groups[label]["ratio"]
        rate, ttft = figures["output_tokens_per_s"], figures["ttft_s_p50"]["mean"] * 1000
        tpot = figures["tpot_s_p50"]["mean"] * 1000
        times = "1" if label == data["reference"] else _between(ratio["together"], 1)
        expected = [_between(rate, 0), times, f"{ttft:,.0f}", f"{tpot:.1f}"]
        assert rows[name].split(" | ") == expected


def _between(value, digits):
    return f"{value['mean']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"

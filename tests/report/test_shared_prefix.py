"""Records of workloads whose prompts share a beginning: what is valid, and what the report says."""

import json

import made_record
import pytest
from builders import LLAMA_2_7B

from enginebench.report import build, guides
from enginebench.summarize.study_summary import summarize

WORK = {"name": "many", "prompt_tokens": 512, "shared_prefix_tokens": 384, "output_tokens": 5,
        "concurrency": [1]}  # fmt: skip
#: A token of Llama-2-7B costs 13.2e9 FLOP: 512 of them take 0.166 s here and 128 of them 0.041 s.
#: The made cell's shortest TTFT is 0.1 s.
DEVICE = {"name": "d", "bandwidth_bytes_per_s": 1e15, "flops_per_s": {"float16": 4e13},
          "source": "made up"}  # fmt: skip


def edit(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def made(tmp_path, cached, **changes):
    """One engine's record, in which so many prompt tokens of each request came from a cache."""
    directory = made_record.write(tmp_path / "2026-01-02-made", {"a/x": (1, 1)},
                                  workloads=[WORK | changes])  # fmt: skip
    facts = json.loads((directory / "study.json").read_text())
    edit(directory / "study.json", ceiling=DEVICE, model=facts["model"] | {"config": LLAMA_2_7B})
    for file in directory.glob("raw/*/launch.json"):
        edit(file, dtype="float16")
    for file in directory.glob("raw/*/*/requests.jsonl"):
        rows = made_record.read_rows(file.parent)
        made_record.save_rows(file.parent, [row | {"cached_tokens": cached} for row in rows])
    return directory


def found(directory):
    cell = summarize(directory).cells[0]
    invalid = {finding.check for finding in cell.findings if finding.verdict == "invalid"}
    return invalid, cell.figures


@pytest.mark.parametrize(
    ("shared", "cached", "expected"),
    [
        (384, 384, set()),
        (384, None, set()),  # as many as are permitted may have come from a cache
        (384, 0, {"physics"}),  # 512 computed, by its usage
        (384, 400, {"cache"}),
        (128, 384, {"cache"}),
        (0, 0, {"physics"}),
        (0, 384, {"cache", "physics"}),
    ],
)
def test_prefill_is_held_to_the_tokens_that_no_cache_may_have_given(
    tmp_path, shared, cached, expected
):
    assert found(made(tmp_path, cached, shared_prefix_tokens=shared))[0] == expected


def test_the_bound_is_that_of_the_uncached_tokens(tmp_path):
    _, figures = found(made(tmp_path, 384))
    # (128 · 13,214,154,752 less 127 · 262,144,000) FLOP / 4e13 / 0.1 s
    assert figures["ceiling_share_prefill"] == pytest.approx(0.41453, rel=1e-4)


def test_what_requests_hold_together_is_not_known_where_they_share(tmp_path):
    _, shared = found(made(tmp_path / "one", 384))
    assert shared["cached_share"] == 0.75 and shared["kv_tokens_in_flight_peak"] is None
    _, apart = found(made(tmp_path / "two", 0, shared_prefix_tokens=0))
    assert "cached_share" not in apart and apart["kv_tokens_in_flight_peak"] > 0


@pytest.mark.parametrize(("cached", "shown"), [(384, "75"), (None, "–")])
def test_the_report_shows_what_share_came_from_the_cache(tmp_path, cached, shown):
    directory = made(tmp_path, cached)
    build.build(directory)
    text = (directory / "derived" / "report.md").read_text()
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    at = next(n for n, line in enumerate(lines) if " prompt from cache % " in line)
    assert lines[at + 2][lines[at].index(" prompt from cache % ")].strip() == shown
    page = (directory / "derived" / "report.html").read_text()
    assert "<th>prompt from cache %</th>" in page and f"<td>{shown}</td>" in page
    for written in (text, page):
        assert "All prompts begin with the same 384 of 512 tokens, those of the warm-up" in written
        assert "no prompt token from a cache, but of a beginning that the workload" in written


def test_a_report_of_prompts_that_share_nothing_says_nothing_of_it(tmp_path):
    directory = made(tmp_path, 0, shared_prefix_tokens=0, prompt_tokens=8)
    build.build(directory)
    for name in ("report.md", "report.html", "metrics_data.json", "metrics_summary.csv"):
        written = (directory / "derived" / name).read_text()
        assert "prompt from cache" not in written and "cached_share" not in written


def test_a_guide_shows_it_beside_the_result(tmp_path):
    directory = made(tmp_path, 384)
    page = tmp_path / "page.md"
    text = "<!-- table: made results many -->\nold\n<!-- end -->\n"
    filled = guides.filled(text, directory.parent, page).splitlines()
    assert filled[1].endswith("| prompt from cache % |") and filled[3].endswith("| 75 |")

"""Speculation and quantized weights beside their speed, from records whose every time is set."""

import gzip
import json

import made_record
import pytest

from enginebench.report import arithmetic_report, build, guides
from enginebench.summarize.study_summary import summarize

NAMES = {
    "drafts_total": ["made_drafts_total"],
    "draft_tokens_total": ["made_proposed_total"],
    "draft_tokens_accepted_total": ["made_accepted_total"],
}
MODEL = {
    "sha256": "0" * 64, "hashed": "every file", "has_random_weights": True, "config": {},
}  # fmt: skip
SPECULATES = {"settings": {"SPECULATIVE_CONFIG": '{"method": "ngram"}'}, "metrics": NAMES}


def declare(record, label, declared, metrics=None, **facts):
    """Change what every start of a variant says of itself."""
    for file in record.glob(f"raw/trial*_{label.replace('/', '_')}/launch.json"):
        found = json.loads(file.read_text()) | facts | {"declared": declared}
        found["metrics"] |= metrics or {}
        file.write_text(json.dumps(found))


def count(record, label, last):
    """Counters of 0 on the first page of every cell of a variant, and these on the last."""
    for file in record.glob(f"raw/trial*_{label.replace('/', '_')}/*/scrapes.jsonl.gz"):
        with gzip.open(file, "rt") as old:
            rows = [json.loads(line) for line in old]
        for row, values in zip(rows, ((0, 0, 0), last), strict=True):
            names = ("drafts", "proposed", "accepted")
            lines = [f"made_{n}_total {v}\n" for n, v in zip(names, values, strict=True)]
            row["text"] += "".join(lines)
        with gzip.open(file, "wt") as new:
            new.write("".join(json.dumps(row) + "\n" for row in rows))


def as_models(name, **config):
    return MODEL | {"name": name, "config": config}


@pytest.fixture
def speculated(tmp_path):
    """e/fast speculates on e/plain's weights and takes half its time; e/easy has others."""
    factors = {"e/plain": (2, 2), "e/easy": (2, 2), "e/fast": (1, 1)}
    record = made_record.write(tmp_path / "studies" / "2026-01-02-made", factors)
    declare(record, "e/plain", ["eager"])
    declare(record, "e/fast", ["eager", "guess"], **SPECULATES)
    declare(record, "e/easy", ["eager", "easy"], model=as_models("m+easy"))
    count(record, "e/fast", (10, 30, 12))
    return record


def test_a_variant_that_speculates_shows_its_acceptance_beside_its_gain(speculated):
    table = arithmetic_report.speculation_table(summarize(speculated))
    assert [row[:2] for row in table.rows] == [
        ["e/fast", "many, 1 in flight"],
        ["e/fast", "many, 4 in flight"],
    ]
    # Both trials: 60 tokens proposed and 24 accepted in 20 drafts; 24 / 60, and 1 + 24 / 20.
    assert table.rows[0][2:6] == ["60", "24", "0.40", "2.20"]
    assert table.rows[0][6] == "80"  # of 2 trials x 3 requests x 5 tokens: 24 / 30
    assert table.rows[0][8].startswith("2.00×")  # half the time of e/plain, not of e/easy


def test_counters_that_fell_in_one_trial_leave_the_acceptance_unmeasured(speculated):
    (file,) = speculated.glob("raw/trial1_e_fast/many-c1/scrapes.jsonl.gz")
    with gzip.open(file, "rt") as old:
        first, last = [json.loads(line) for line in old]
    with gzip.open(file, "wt") as new:
        first["text"] = first["text"].replace("made_accepted_total 0", "made_accepted_total 99")
        new.write(json.dumps(first) + "\n" + json.dumps(last) + "\n")
    low, high = arithmetic_report.speculation_table(summarize(speculated)).rows
    assert low[2:7] == ["–"] * 5
    assert high[4] == "0.40"


def test_a_variant_with_nothing_to_compare_with_says_so(speculated):
    declare(speculated, "e/fast", ["eager", "easy", "guess"])  # e/easy has other weights
    rows = arithmetic_report.speculation_table(summarize(speculated)).rows
    assert [row[8] for row in rows] == ["–", "–"]


def test_the_report_and_a_guide_have_the_table_of_a_study_that_speculates(speculated, tmp_path):
    build.build(speculated)
    report = (speculated / "derived" / "report.md").read_text()
    assert "## Speculative decoding" in report and "## Quantized weights" not in report
    page = tmp_path / "page.md"
    page.write_text("<!-- table: made speculation -->\nold\n<!-- end -->\n")
    guides.write(tmp_path, speculated.parent)
    assert "| e/fast | many, 1 in flight | 60 | 24 | 0.40 | 2.20 | 80 |" in page.read_text()
    html = (speculated / "derived" / "report.html").read_text()
    assert '<a href="#speculation">' in html and '<h2 id="speculation">' in html


@pytest.fixture
def quantized(tmp_path):
    """e/int8 has weights of a quarter of the size and is twice as fast."""
    record = made_record.write(tmp_path / "made", {"e/plain": (2, 2), "e/int8": (1, 1)})
    config = {"quantization_config": {"quant_method": "compressed-tensors"}}
    model = as_models("m+w8a8", **config) | {"parameters": 1000, "weights_bytes": 1 << 20}
    declare(record, "e/int8", ["w8a8"], model=model)
    facts = json.loads((record / "study.json").read_text())
    facts["model"]["parameters"] = 1 << 20  # of float32: 4 MiB
    (record / "study.json").write_text(json.dumps(facts))
    return record


def test_quantized_weights_show_their_memory_speed_and_answers(quantized):
    table = arithmetic_report.weights_table(summarize(quantized))
    plain, int8 = (dict(zip(table.headings, row, strict=True)) for row in table.rows)
    assert (plain["weights MiB"], int8["weights MiB"]) == ("4", "1")
    assert table.headings[4:8] == [
        "output tokens/s, many, 1 in flight",
        "× e/plain",
        "output tokens/s, many, 4 in flight",
        "× e/plain",
    ]
    assert table.rows[0][5] == "1" and table.rows[1][5].startswith("2.00×")
    assert (plain["same answers"], int8["same answers"]) == ("–", "–")  # none were compared
    build.build(quantized)
    report = (quantized / "derived" / "report.md").read_text()
    assert "## Quantized weights and KV cache" in report and "## Speculative" not in report


def answer(record, label, ids):
    launch = record / "raw" / f"trial1_{label.replace('/', '_')}"
    with gzip.open(launch / "agreement.jsonl.gz", "wt") as f:
        times = [0.1 * n for n in range(1, len(ids) + 1)]
        row = made_record._row(0, 0.0, times, "asked", 8)
        f.write(json.dumps(row | {"token_ids": ids, "margins": [1.0] * len(ids)}) + "\n")


def test_speculation_is_held_to_the_answers_of_its_own_weights(speculated):
    declare(speculated, "e/fast", ["eager", "easy", "guess"], model=as_models("m+easy"))
    answer(speculated, "e/plain", [1, 2, 3])
    answer(speculated, "e/easy", [1, 5, 6])
    answer(speculated, "e/fast", [1, 5, 7])
    summary = summarize(speculated)
    found = {(c.label, c.against): c.is_same_dtype for c in summary.agreement}
    assert found["e/fast", "e/plain"] is False
    assert found["e/fast", "e/easy"] is True
    texts = [text for cell in summary.cells for text in cell.problems]
    assert any("part from those of" in text for text in texts)

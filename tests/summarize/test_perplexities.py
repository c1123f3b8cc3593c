"""The perplexity of every variant, from the scores that its engine gave."""

import json
import math

import made_record
import pytest

from enginebench.report import build
from enginebench.summarize.study_summary import summarize

FACTORS = {"a/plain": (1,), "a/int8": (1,), "b/plain": (1,)}


def row(index, logprob_sum, prompt="0", error=None, tokens=4):
    return {
        "index": index,
        "prompt_sha256": prompt,
        "tokens": tokens,
        "logprob_sum": logprob_sum,
        "error": error,
    }


def made(tmp_path, scores):
    """A record with the scores of variants: variant -> rows."""
    directory = made_record.write(tmp_path / "made", FACTORS)
    for label, rows in scores.items():
        file = directory / "raw" / f"trial1_{label.replace('/', '_')}" / "perplexity.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return directory


def found(directory):
    return {one.label: one for one in summarize(directory).perplexities}


PLAIN = [row(0, -4 * math.log(8)), row(1, -4 * math.log(2))]


def test_it_is_the_exponential_of_the_mean_over_all_tokens_and_divided_by_the_reference_s(tmp_path):
    # ln 8 and ln 2 a token, 4 tokens each: exp((3 + 1) / 2 · ln 2) = 4. The other: 8 everywhere.
    eights = [row(0, -4 * math.log(8)), row(1, -4 * math.log(8))]
    whole = found(made(tmp_path, {"a/plain": PLAIN, "a/int8": eights}))
    assert list(whole) == list(FACTORS)
    assert whole["a/plain"].perplexity == pytest.approx(4)
    assert (whole["a/plain"].tokens, whole["a/plain"].ratio) == (8, 1)
    assert whole["a/int8"].ratio == pytest.approx(2)
    assert (whole["b/plain"].perplexity, whole["b/plain"].reason) == (None, "the engine gives none")


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([PLAIN[0], row(1, None, error="HTTP 400: no")], "HTTP 400: no"),
        ([row(0, -4e5)], "its log-probabilities have no usable mean"),  # e to the 100,000
        ([row(0, 0.0, tokens=0)], "its log-probabilities have no usable mean"),
    ],
)
def test_a_score_that_is_missing_or_of_no_use_leaves_it_unmeasured(tmp_path, rows, reason):
    one = found(made(tmp_path, {"a/plain": PLAIN, "a/int8": rows}))["a/int8"]
    assert (one.perplexity, one.ratio, one.reason) == (None, None, reason)


def test_perplexities_of_different_prompts_have_no_ratio(tmp_path):
    others = [row(0, -4.0, prompt="1"), row(1, -4.0, prompt="2")]
    one = found(made(tmp_path, {"a/plain": PLAIN, "a/int8": others}))["a/int8"]
    assert one.perplexity == pytest.approx(math.e) and one.ratio is None


def test_a_damaged_file_makes_its_cells_invalid_and_stops_nothing(tmp_path):
    directory = made(tmp_path, {"a/plain": PLAIN, "a/int8": PLAIN})
    (directory / "raw" / "trial1_a_int8" / "perplexity.jsonl").write_bytes(b"\xff" * 99)
    summary = summarize(directory)
    assert {cell.label for cell in summary.invalid} == {"a/int8"}
    assert {one.label: one.perplexity is None for one in summary.perplexities} == {
        "a/plain": False,
        "a/int8": True,
        "b/plain": True,
    }


def test_the_report_and_its_data_show_it_and_say_what_random_weights_mean(tmp_path):
    directory = made(tmp_path, {"a/plain": PLAIN, "a/int8": PLAIN})
    build.build(directory)
    text = (directory / "derived" / "report.md").read_text()
    assert "| a/int8 | 4.00 | 1.0000 | 8 |" in text
    assert "| b/plain | – | – | – |" in text
    assert "The model's weights are random" in text
    assert "<h3>Perplexity</h3>" in (directory / "derived" / "report.html").read_text()
    data = json.loads((directory / "derived" / "metrics_data.json").read_text())
    assert [one["tokens"] for one in data["perplexity"]] == [8, 8, None]


def test_a_study_whose_engines_were_not_asked_has_no_such_table(tmp_path):
    directory = made(tmp_path, {})
    build.build(directory)
    assert "Perplexity" not in (directory / "derived" / "report.md").read_text()
    assert "perplexity" not in json.loads((directory / "derived" / "metrics_data.json").read_text())

"""Damaged, altered and cut-off records: the cell is named and does not count, the rest is told."""

import gzip
import json
import os
import re

import made_record
import pytest

from enginebench.base.errors import UserError
from enginebench.report import check_tables
from enginebench.summarize.study_summary import summarize

LAUNCH = "trial1_quick_plain"


@pytest.fixture
def directory(tmp_path):
    """A record of two engines whose files all have checksums."""
    found = made_record.write(tmp_path / "made", {"quick/plain": (1,), "slow/plain": (2,)})
    made_record.seal(found)
    return found


def verdicts(directory):
    return {(c.launch, c.id): (c.verdict, c.findings) for c in summarize(directory).cells}


def only(directory, cell, check="record"):
    """The findings of one check in a cell; every other launch's cells are valid."""
    found = verdicts(directory)
    assert all(
        verdict == "valid" for (launch, _), (verdict, _) in found.items() if launch != LAUNCH
    )
    return [f for f in found[LAUNCH, cell][1] if f.check == check]


def test_an_undamaged_record_is_valid(directory):
    assert {verdict for verdict, _ in verdicts(directory).values()} == {"valid"}


def _cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def _fifo(path):
    path.unlink()
    os.mkfifo(path)


def _endless(path):
    path.unlink()
    path.symlink_to("/dev/zero")


DAMAGES = {
    "missing": lambda path: path.unlink(),
    "cut": _cut,
    "empty": lambda path: path.write_bytes(b""),
    "binary": lambda path: path.write_bytes(os.urandom(999)),
    "a list": lambda path: path.write_text("[]\n"),
    "a pipe": _fifo,
    "a link to a device": _endless,
}


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize(
    "name", ["requests.jsonl", "scrapes.jsonl.gz", "processes.jsonl", "cell.json"]
)
def test_a_damaged_file_makes_its_cell_invalid_and_no_other(directory, name, how):
    DAMAGES[how](directory / "raw" / LAUNCH / "many-c1" / name)
    findings = only(directory, "many-c1")
    assert findings and all(finding.verdict == "invalid" for finding in findings)
    assert any(name in finding.text for finding in findings)
    assert only(directory, "many-c4") == []


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_launch_json_makes_its_cells_invalid(directory, how):
    DAMAGES[how](directory / "raw" / LAUNCH / "launch.json")
    for cell in ("many-c1", "many-c4"):
        findings = only(directory, cell)
        assert findings and all("launch.json" in finding.text for finding in findings)


def test_edited_times_are_found_though_they_read_well(directory):
    where = directory / "raw" / LAUNCH / "many-c1"
    rows = made_record.read_rows(where)
    rows[0]["event_s"] = [0.7 * time_s for time_s in rows[0]["event_s"]]
    made_record.save_rows(where, rows)
    (finding,) = only(directory, "many-c1")
    assert finding.verdict == "invalid" and "requests.jsonl: " in finding.text


def test_an_edited_price_makes_every_cell_invalid(directory):
    file = directory / "study.json"
    file.write_text(file.read_text().replace("3.6", "1.6"))
    assert {verdict for verdict, _ in verdicts(directory).values()} == {"invalid"}


def test_a_lost_log_leaves_less_to_look_up_and_is_suspect(directory):
    log = directory / "raw" / LAUNCH / "server.log"
    log.write_text("ready\n")
    made_record.seal(directory)
    log.unlink()
    assert [finding.verdict for finding in only(directory, "many-c1")] == ["suspect"]


def test_a_start_that_was_cut_off_is_suspect_as_its_counters_are_not_checked(directory):
    (directory / "finished.json").unlink()  # as after kill -9
    (directory / "raw" / LAUNCH / "launch.json").unlink()
    (finding,) = only(directory, "many-c1", "counters")
    assert finding.verdict == "suspect"
    assert "its engine's start was cut off (it has no launch.json)" in finding.text


def test_a_cell_without_a_reading_of_the_metrics_is_suspect(directory):
    where = directory / "raw" / LAUNCH
    with gzip.open(where / "many-c1" / "scrapes.jsonl.gz", "wb"):
        pass
    made_record.seal(directory)
    (finding,) = only(directory, "many-c1", "counters")
    assert finding.verdict == "suspect" and "no reading of its engine's metrics" in finding.text


def test_a_record_without_checksums_is_read_as_before(tmp_path):
    directory = made_record.write(tmp_path / "made", {"quick/plain": (1,)})
    assert {verdict for verdict, _ in verdicts(directory).values()} == {"valid"}


def test_parity_does_not_claim_a_check_that_a_record_without_checksums_cannot_have(
    directory, tmp_path
):
    bare = made_record.write(tmp_path / "bare", {"quick/plain": (1,)})
    shown = [row.checks["record"] for row in check_tables.parity(summarize(bare))]
    assert shown == [None]
    assert [row.checks["record"] for row in check_tables.parity(summarize(directory))] == [0, 0]


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("cell.json", {"ended": {"t_s": 1e300, "wall_s": 0.0, "gpus": []}}, "1e\\+300"),
        ("processes.jsonl", {"t_s": 1e300, "pss_bytes": 1, "pids": [1]}, "1e\\+300"),
    ],
)
def test_a_number_that_no_cell_can_have_makes_it_invalid_and_no_other(
    directory, name, change, says
):
    file = directory / "raw" / LAUNCH / "many-c1" / name
    before = json.loads(file.read_text()) if name == "cell.json" else {}
    file.write_text(json.dumps(before | change) + "\n")
    made_record.seal(directory)
    (finding,) = only(directory, "many-c1")
    assert finding.verdict == "invalid" and re.search(says, finding.text)
    assert only(directory, "many-c4") == []


def test_a_study_whose_values_make_no_sense_together_is_one_line(directory):
    file = directory / "study.json"
    data = json.loads(file.read_text())
    data["study"]["engines"] = []
    file.write_text(json.dumps(data))
    with pytest.raises(UserError, match="found values that make no sense together") as error:
        summarize(directory)
    assert "\n" not in error.value.message and error.value.details


def test_answers_to_other_prompts_are_no_answers_and_the_rest_is_told(directory):
    for launch, count in (("trial1_slow_plain", 3), (LAUNCH, 2)):
        where = directory / "raw" / launch
        rows = made_record.read_rows(where / "many-c1")[:count]
        with gzip.open(where / "agreement.jsonl.gz", "wt") as file:
            file.writelines(json.dumps(row | {"prompt_sha256": "a"}) + "\n" for row in rows)
    made_record.seal(directory)
    found = verdicts(directory)
    invalid = {launch for (launch, _), (verdict, _) in found.items() if verdict == "invalid"}
    assert len(invalid) == 1  # the one that was started last
    text = " ".join(f.text for _, findings in found.values() for f in findings)
    assert "agreement.jsonl.gz: expected answers to the same prompts" in text

"""Links and paths in somebody else's record: nothing outside of it is read, written or uploaded."""

import json

import made_record
import pytest

from enginebench.base.errors import UserError
from enginebench.record import reading
from enginebench.report import build


@pytest.fixture
def record(tmp_path):
    return made_record.write(tmp_path / "results" / "made", {"quick/plain": (1,)})


@pytest.fixture
def mine(tmp_path):
    """A file of a person's, outside of the record."""
    (tmp_path / "home").mkdir()
    file = tmp_path / "home" / "report.md"
    file.write_text("mine")
    return file


def test_a_link_in_place_of_a_report_is_replaced_and_its_target_stays(record, mine):
    (record / "derived").mkdir()
    (record / "derived" / "report.md").symlink_to(mine)
    build.build(record)
    assert mine.read_text() == "mine"
    assert not (record / "derived" / "report.md").is_symlink()


@pytest.mark.parametrize("name", ["derived", "derived/figures"])
def test_a_link_in_place_of_the_directory_of_reports_is_refused(record, mine, name):
    (record / name).parent.mkdir(exist_ok=True)
    (record / name).symlink_to(mine.parent)
    with pytest.raises(UserError, match="expected a directory, found a symbolic link"):
        build.build(record)
    assert [path.name for path in mine.parent.iterdir()] == ["report.md"]


def test_a_link_left_where_a_report_is_written_first_is_removed_and_not_followed(record, mine):
    (record / "derived.part").symlink_to(mine.parent)
    build.build(record)
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("name", ["../../home", "/etc", "..", ".", "a/b", "", "a\0b", "a" * 300])
@pytest.mark.parametrize("of", ["launch", "cell"])
def test_a_plan_whose_names_lead_out_of_the_record_is_refused(record, name, of):
    file = record / "study.json"
    data = json.loads(file.read_text())
    planned = data["plan"][0]
    (planned if of == "launch" else planned["cells"][0])["id"] = name
    file.write_text(json.dumps(data))
    with pytest.raises(reading.RecordError, match="which leads elsewhere"):
        build.build(record)


def test_only_regular_files_that_no_link_leads_to_are_of_a_record(record, mine):
    launch = record / "raw" / "trial1_quick_plain"
    assert reading.is_of_record(launch / "launch.json")
    assert not reading.is_of_record(launch)
    (launch / "link").symlink_to(mine)
    assert not reading.is_of_record(launch / "link")
    (record / "raw" / "other").symlink_to(mine.parent)
    assert not reading.is_of_record(record / "raw" / "other" / "report.md")

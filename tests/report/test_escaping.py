"""What comes from outside stays text in a report: in Markdown, HTML, CSV and on a terminal."""

import csv
import io
import json
import re

import made_record
import pytest
from rich.console import Console

from enginebench.report import build, escaping

FACTORS = {"slow/plain": (2, 2.2, 1.9), "quick/plain": (1, 1.05, 1.1)}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("5 < 6, p <0.05, 1.2 [1.1, 1.3], `price`, *suspect*", None),  # our own words stay
        ("<script>x</script>", "&lt;script>x&lt;/script>"),
        ("<!-- a", "&lt;!-- a"),
        ("a | b", "a \\| b"),
        ("a\n| b |\n\n# c", "a \\| b \\|  # c"),
        ("![x](http://a/b.png)", "![x]\\(http://a/b.png)"),
        ("a ` b", "a \\` b"),
        ("``` a", "\\`\\`\\` a"),
        ("\x1b[31mred", "red"),
        (5, "5"),
        ({"<b>": 1}, "{'&lt;b>': 1}"),
    ],
)
def test_a_text_in_markdown_makes_no_tag_cell_line_or_link(text, shown):
    assert escaping.markdown(text) == (text if shown is None else shown)


@pytest.mark.parametrize("text", ["a", "a`b", "``", "`", "```\nx\n````", "a\nb"])
def test_code_ends_where_its_text_does(text):
    block = escaping.fenced(text).split("\n")
    assert block[0] == block[-1] and set(block[0]) == {"`"}
    assert all(block[0] not in line for line in block[1:-1])
    assert "\n".join(block[1:-1]) == text
    inline = escaping.code(text)
    fence = re.match("`+", inline)[0]
    assert inline.endswith(fence) and "\n" not in inline
    assert fence not in inline[len(fence) : -len(fence)].strip("`")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_no_text_in_csv_is_a_formula(start):
    assert escaping.spreadsheet(f"{start}1+cmd") == f"'{start}1+cmd"
    assert escaping.spreadsheet("a=1") == "a=1"


NASTY = "n <img src=x onerror=alert(1)> | z\n## h [l](javascript:x) \x1b[31m`"


def edit(file, change):
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    directory = made_record.write(tmp_path_factory.mktemp("results") / "made", FACTORS)

    def study(data):
        data["study"]["title"] = data["model"]["name"] = data["prompts"]["path"] = NASTY
        data["machine"]["cpu"] = data["rerun"] = NASTY
        data["model"]["config"] = {"model_type": {NASTY: 1}}

    edit(directory / "study.json", study)
    for file in directory.glob("raw/*/launch.json"):
        edit(
            file, lambda data: data.update(version=NASTY, command=[NASTY, "```"], env={"A": NASTY})
        )
    file = next(iter(sorted(directory.glob("raw/*/*/cell.json"))))
    edit(file, lambda data: data.update(engine_death=NASTY, log_tail=[NASTY, "```", "<b>"]))
    summary = build.build(directory)
    return directory / "derived", summary


def test_a_record_of_others_puts_no_tag_link_or_row_into_the_markdown(reported):
    text = (reported[0] / "report.md").read_text()
    assert "onerror" in text  # it is shown
    outside, fence = [], None
    for line in text.split("\n"):
        mark = re.match(r" *(`{3,})$", line)
        if mark and fence in (None, mark[1]):
            fence = None if fence else mark[1]
        elif fence is None:
            outside.append(line)
    assert fence is None
    words = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", "\n".join(outside))  # without inline code
    assert "<img" not in words and "](javascript" not in words
    assert not any(line.startswith("## h") for line in outside)
    assert "\x1b" not in text
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in outside]
    for width, after, line in zip(widths, widths[1:], outside, strict=False):
        if line.startswith("|") and after and not line.startswith("| -"):
            assert width == after, line


def test_a_record_of_others_puts_no_tag_or_escape_into_the_page(reported):
    text = (reported[0] / "report.html").read_text()
    assert "onerror" in text and "<img src=x" not in text
    assert "\x1b" not in text


def test_a_record_of_others_puts_no_escape_or_markup_onto_the_terminal(reported):
    console = Console(file=io.StringIO(), width=200)
    build.print_table(reported[1], console)
    shown = console.file.getvalue()
    assert "onerror" in shown
    assert "\x1b" not in shown


def test_names_in_the_table_for_spreadsheets_are_no_formulas(tmp_path):
    directory = made_record.write(tmp_path / "made", FACTORS)

    def study(data):
        for launch in data["plan"]:
            launch["engine"] = "=cmd|' /C calc'!A1"

    edit(directory / "study.json", study)
    build.build(directory)
    with (directory / "derived" / "metrics_summary.csv").open(newline="") as file:
        assert {row["engine"] for row in csv.DictReader(file)} == {"'=cmd|' /C calc'!A1"}

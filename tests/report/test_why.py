"""Which optimization gave what, as a report says it: sentences, waterfalls, tables and data."""

import dataclasses
import io
import json
import re

import made_record
import msgspec
import pytest
from rich.console import Console

from enginebench.record import schema_derived
from enginebench.report import build, why
from enginebench.summarize import attribution, decomposed
from enginebench.summarize.study_summary import summarize

#: Rates are 1 / factor: batching alone is 4 times as fast, compiling 1.25 times, both 5.5 times.
FACTORS = {
    "a/off": (4.0, 4.4, 3.8),
    "a/batched": (1.0, 1.11, 0.94),
    "a/compiled": (3.2, 3.5, 3.06),
    "a/both": (0.72, 0.81, 0.69),
}
DECOMPOSITION = {
    "name": "made",
    "title": "Why it is fast",
    "ladder": [
        {"name": "one at a time", "run": "a/off"},
        {"name": "batching", "run": "a/batched"},
        {"name": "compiling", "run": "a/both"},
    ],
    "switches": ["batching", "compiling"],
    "runs": {
        "a/off": [],
        "a/batched": ["batching"],
        "a/compiled": ["compiling"],
        "a/both": ["batching", "compiling"],
    },
}


def made(tmp_path, factors=FACTORS, **changes):
    changes = {"decompositions": [DECOMPOSITION]} | changes
    return made_record.write(tmp_path / "made", factors, **changes)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    directory = made(tmp_path_factory.mktemp("built"))
    build.build(directory)
    return directory


def lines(directory):
    return (directory / "derived" / "report.md").read_text().splitlines()


def table_under(directory, heading, first):
    """The rows of the first table below a heading whose first column is called so."""
    text = lines(directory)
    start = text.index(heading)
    at = next(i for i in range(start, len(text)) if text[i].startswith(f"| {first} "))
    rows = []
    for line in text[at:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def test_a_study_with_a_decomposition_opens_with_its_sentence_and_waterfall(built):
    text = lines(built)
    sentence = next(i for i, line in enumerate(text) if "Most of the gain here comes from" in line)
    picture = next(i for i, line in enumerate(text) if line.startswith("![Why it is fast"))
    ranking = next(i for i, line in enumerate(text) if line.startswith("**a/both is first"))
    assert text.index("**Why it is fast**") < sentence < picture < ranking
    page = (built / "derived" / "report.html").read_text()
    assert page.index("Most of the gain here comes from") < page.index("a/both is first")
    assert '<h2 id="why">' in page
    figures = {path.name for path in (built / "derived" / "figures").iterdir()}
    assert {
        "why-1-ladder-output_tokens_per_s.png",
        "why-1-switches-output_tokens_per_s.svg",
        "why-1-ladder-ttft_s_p50.png",
    } <= figures


def test_the_sentence_has_the_factors_of_the_step_and_of_the_whole(built):
    place = "(output tokens/s, many, 4 in flight; from"
    (said,) = (line for line in lines(built) if place in line)
    found = re.fullmatch(
        r"- Most of the gain here comes from batching: (\d\.\d) \[(\d\.\d), (\d\.\d)\] of (\d\.\d) "
        r"times \(output tokens/s, many, 4 in flight; from one at a time to compiling\)\.",
        said,
    )
    step, low, high, whole = map(float, found.groups())
    assert low <= step <= high < whole == 5.5


def test_factors_of_the_table_multiply_to_the_whole_within_rounding(built):
    rows = table_under(built, "#### many, 4 in flight", "change")
    assert [row["change"] for row in rows] == [
        "one at a time", "batching", "compiling", "the whole",
    ]  # fmt: skip
    column = [row["output tokens/s, × before"] for row in rows]
    assert column[0] == "1"
    values = [float(text.partition("×")[0].split(" ")[0]) for text in column]
    assert values[1] * values[2] == pytest.approx(values[3], rel=0.03)
    assert all(text.endswith("× apart") for text in column[1:])
    # Memory is one byte in every cell.
    assert [row["memory, × before"] for row in rows] == ["1", *["1.00 [1.00, 1.00]× tie"] * 3]


def test_shares_of_the_switches_add_up(built):
    rows = table_under(built, "#### many, 4 in flight", "figure")
    shares = [
        float(row["share of the whole"].split(" ")[0])
        for row in rows
        if row["figure"] == "output tokens/s" and row["switch"] != "all of them"
    ]
    assert sum(shares) == pytest.approx(100, abs=1)


def test_the_terminal_says_what_gave_most(built):
    console = Console(file=io.StringIO(), width=60)
    build.print_table(summarize(built), console)
    said = console.file.getvalue().splitlines()
    assert sum(line.startswith("Most of the gain here comes from batching: ") for line in said) == 4


def test_the_data_has_every_figure_in_the_types_of_the_schema(built):
    text = (built / "derived" / "metrics_data.json").read_bytes()
    found = msgspec.json.decode(text, type=schema_derived.Metrics).attributions
    plain = json.loads(text)["attributions"]
    assert msgspec.to_builtins(found) == plain
    assert {(one.level, one.figure) for one in found} == {
        (level, figure)
        for level in (1, 4)
        for figure in (
            "output_tokens_per_s", "ttft_s_p50", "tpot_s_p50", "memory_peak_bytes",
            "usd_per_million_output_tokens",
        )
    }  # fmt: skip
    rate = next(one for one in found if (one.level, one.figure) == (4, "output_tokens_per_s"))
    cost = next(one for one in found if one.level == 4 and one.figure.startswith("usd"))
    for one, other in zip(rate.ladder.steps, cost.ladder.steps, strict=True):
        assert one.factor.together.mean * other.factor.together.mean == pytest.approx(1)


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        (attribution.Gap, schema_derived.Gap),
        (attribution.Leader, schema_derived.Leader),
        (attribution.Step, schema_derived.Step),
        (attribution.Ladder, schema_derived.Ladder),
        (attribution.Switch, schema_derived.Switch),
        (attribution.Interaction, schema_derived.Interaction),
        (attribution.Factorial, schema_derived.Factorial),
        (decomposed.Attribution, schema_derived.Attribution),
    ],
    ids=lambda kind: kind.__name__,
)
def test_what_is_worked_out_has_the_fields_of_the_schema(written, kind):
    assert {field.name for field in dataclasses.fields(written)} == set(kind.__struct_fields__)


def failed(directory, label, message):
    """No start of a variant came up."""
    for trial in (1, 2, 3):
        where = directory / "raw" / f"trial{trial}_{label.replace('/', '_')}"
        for cell in where.glob("many-*"):
            for file in cell.iterdir():
                file.unlink()
            cell.rmdir()
        file = where / "launch.json"
        failure = {"message": message, "log_tail": []}
        file.write_text(json.dumps(json.loads(file.read_text()) | {"failure": failure}))


def test_a_rung_that_did_not_start_is_listed_with_the_reason_and_leaves_a_gap(tmp_path):
    directory = made(tmp_path)
    failed(directory, "a/batched", "the engine ended with exit code 1")
    build.build(directory)
    rows = table_under(directory, "#### many, 4 in flight", "change")
    assert rows[1]["output tokens/s, × before"] == "not measured"
    assert rows[2]["output tokens/s, × before"].endswith("apart, with batching")
    (gap,) = table_under(directory, "Without a figure:", "rung or combination")
    assert (gap["run"], gap["at"]) == ("a/batched", "every level")
    assert gap["why it has no figure"] == "not run: the engine ended with exit code 1"
    assert gap["rung or combination"] == "batching"  # it is both
    said = why.answers(summarize(directory))
    assert any(
        "comes from batching + compiling" in line and "one at a time to" in line for line in said
    )
    assert any("its parts are not all known" in line for line in said)


def test_a_ladder_of_which_nothing_ran_says_so(tmp_path):
    directory = made(tmp_path)
    for label in FACTORS:
        failed(directory, label, "no")
    build.build(directory)
    assert {line.partition(" (")[0] for line in why.answers(summarize(directory))} == {
        "Cannot tell what gave how much: too few of its runs have a figure"
    }


def test_where_steps_are_alike_the_sentence_says_that_it_cannot_tell(tmp_path):
    factors = FACTORS | {"a/batched": (2.0, 2.25, 1.95), "a/both": (1.0, 1.08, 0.96)}
    found = why.whys(summarize(made(tmp_path, factors)))
    assert any(
        line.startswith("Cannot tell which of ") and "gave most of the gain here" in line
        for line in found[0].answers
    )


def test_a_whole_that_is_no_gain_is_not_explained(tmp_path):
    alike = dict.fromkeys(FACTORS, (1.0, 1.1, 0.95))
    found = why.whys(summarize(made(tmp_path, alike)))
    assert all(line.startswith("No gain to explain here: ") for line in found[0].answers)


def test_a_slower_end_is_a_loss(tmp_path):
    factors = {label: tuple(1 / f for f in own) for label, own in FACTORS.items()}
    found = why.whys(summarize(made(tmp_path, factors)))
    assert found[0].answers[0].startswith("Most of the loss here comes from batching: 0.2")


WORSE_AT_LAST = FACTORS | {"a/both": (2.0, 2.2, 1.88)}  # half as fast as batching alone


def behind(directory, start="The last rung, "):
    return [line for line in why.answers(summarize(directory)) if line.startswith(start)]


def test_a_last_rung_that_is_slower_than_another_is_said_with_factor_and_interval(tmp_path):
    said = behind(made(tmp_path, WORSE_AT_LAST))
    assert len(said) == 2  # at both levels
    found = re.fullmatch(
        r"The last rung, compiling, is slower than batching: (\S+) \[(\S+), (\S+)\] times "
        r"\(output tokens/s, many, 4 in flight\)\.",
        next(line for line in said if "many, 4" in line),
    )
    factor, low, high = map(float, found.groups())
    assert low <= factor <= high < 1 and factor == pytest.approx(0.5, abs=0.02)


def test_a_last_rung_that_is_the_best_or_not_told_apart_from_it_is_not_said(tmp_path):
    assert behind(made(tmp_path / "best")) == []
    alike = FACTORS | {"a/both": (1.05, 1.02, 1.04)}
    assert behind(made(tmp_path / "alike", alike)) == []


def test_a_loss_over_the_whole_ladder_is_said_once(tmp_path):
    factors = {label: tuple(1 / f for f in own) for label, own in FACTORS.items()}
    directory = made(tmp_path, factors)
    assert behind(directory) == [] and len(behind(directory, "Most of the loss here")) == 4


def test_a_last_rung_that_costs_more_than_another_is_said_in_the_words_of_the_figure(tmp_path):
    directory = made(tmp_path, WORSE_AT_LAST)
    build.build(directory)
    (said,) = (
        line
        for line in lines(directory)
        if "The last rung" in line and "USD/M output, many, 4 in flight" in line
    )
    assert "compiling, costs more than batching: 1.99 [" in said  # 1 over 0.5015 of the rate


def test_one_trial_has_a_waterfall_without_intervals(tmp_path):
    directory = made(tmp_path, {label: own[:1] for label, own in FACTORS.items()})
    build.build(directory)
    assert any("Cannot tell whether compiling gains anything" in line for line in lines(directory))
    assert (directory / "derived/figures/why-1-ladder-output_tokens_per_s.png").exists()


def test_a_study_without_decompositions_has_no_such_section(tmp_path):
    directory = made(tmp_path, decompositions=[])
    build.build(directory)
    assert "## Why" not in lines(directory)
    assert 'id="why"' not in (directory / "derived" / "report.html").read_text()
    assert "attributions" not in json.loads((directory / "derived/metrics_data.json").read_text())


def test_names_of_a_record_of_others_stay_text_in_pages_and_pictures(tmp_path):
    nasty = "<img src=x onerror=alert(1)> | z $\\frac{$ ](javascript:x) \x1b[31m"
    directory = made(tmp_path)
    file = directory / "study.json"
    data = json.loads(file.read_text())
    (one,) = data["study"]["decompositions"]
    one["title"] = nasty
    one["name"] = "../../out"
    for rung in one["ladder"]:
        rung["name"] += nasty
    one["switches"] = [f"{name}{nasty}" for name in one["switches"]]
    one["runs"] = {label: [f"{name}{nasty}" for name in on] for label, on in one["runs"].items()}
    one["runs"]["a/unknown"] = ["nothing"]
    file.write_text(json.dumps(data))
    build.build(directory)
    derived = directory / "derived"
    for name in (
        "report.md",
        "report.html",
        *(f"figures/{p.name}" for p in derived.glob("figures/*.svg")),
    ):
        text = (derived / name).read_text()
        assert "<img src" not in text and "\x1b" not in text, name
        assert name != "report.md" or "](javascript" not in text
    assert {path.name for path in tmp_path.iterdir()} == {"made"}


def test_two_builds_of_a_decomposition_give_the_same_bytes(built, tmp_path):
    def files():
        folder = built / "derived"
        return {p.name: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

    before = files()
    build.build(built)
    assert files() == before

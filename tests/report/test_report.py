"""What a report says, from records whose every time is set."""

import csv
import dataclasses
import json
import re
import statistics

import made_record
import msgspec
import pytest

from enginebench.hardware.roofline import Ceiling
from enginebench.record import schema_study
from enginebench.report import build, check_tables, narrative, threats
from enginebench.report.charts import style, svg
from enginebench.summarize import claims, engine_configs, ranking
from enginebench.summarize.study_summary import summarize

#: quick is about twice as fast as slow; quick's two variants cannot be told apart.
FACTORS = {
    "slow/plain": (2, 2.2, 1.9),
    "quick/plain": (1, 1.05, 1.1),
    "quick/tuned": (1.02, 1.0, 1.13),
}
CLAIM = {
    **dict.fromkeys(("name", "range", "model", "gpu", "workload", "source", "url"), "stated"),
    "times": 2,
    "over": [{"engine": "quick", "flags": {"mode": "plain"}}, {"engine": "slow"}],
    "comparable": {"gpu": ["l4"], "model": ["embedded"], "outputs": "equal", "in_flight": [4, 8]},
}


def claim(changes=()):
    return msgspec.convert(CLAIM | dict(changes), claims.Claim)


def made(tmp_path, factors=FACTORS, **changes):
    return made_record.write(tmp_path / "made", factors, **changes)


def derived(directory):
    build.build(directory)
    folder = directory / "derived"
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The directory of a study of FACTORS and its derived files, which nothing changes."""
    directory = made(tmp_path_factory.mktemp("built"))
    return directory, derived(directory)


def places(summary):
    found = ranking.ranking(summary)
    return [(place.group.label, place.best, place.worst) for place in found.places]


def test_a_place_is_a_range_where_the_trials_cannot_tell(tmp_path):
    summary = summarize(made(tmp_path))
    assert places(summary) == [("quick/tuned", 1, 2), ("quick/plain", 1, 2), ("slow/plain", 3, 3)]
    said = narrative.headline(summary)
    assert said.startswith("Cannot rank the first: quick/tuned and quick/plain may each be first")
    # exp of the mean of ln(2/1.02), ln(2.2/1), ln(1.9/1.13) is 1.937
    assert "(many: outputs of 5 tokens, 4 in flight)" in said
    assert "1.94 times (95 % interval 1.52 to 2.47) as many as slow/plain" in said


def test_variants_that_tie_for_the_first_place_are_called_a_tie(tmp_path):
    # Within 3 % of each other in every trial, with little spread.
    factors = {"slow/plain": (2, 2.01, 1.99), "quick/plain": (1, 1.002, 0.998)}
    factors["quick/tuned"] = (1.001, 1, 1.001)
    summary = summarize(made(tmp_path, factors))
    assert narrative.headline(summary).startswith(
        "quick/plain and quick/tuned tie for the first place (many: outputs of 5 tokens, 4 in "
        "flight). The best estimate is quick/plain’s: it makes"
    )
    (_, four) = narrative.answers(summary)[0], narrative.answers(summary)[-1]
    assert "quick/plain and quick/tuned are a tie: the ratio is 1.00 (95 % interval" in four


def test_an_invalid_cell_turns_neither_the_order_nor_a_sentence(tmp_path):
    # a is 3 % faster than b in every trial; the third is slow, and b's cell of it is invalid.
    factors = {"a/v": (1, 1, 1.5), "b/v": (1.05, 1.05, 1.575), "c/v": (2, 2.01, 3)}
    directory = made(tmp_path, factors)
    (directory / "raw" / "trial3_b_v" / "many-c4" / "cell.json").unlink()
    summary = summarize(directory)
    assert [label for label, *_ in places(summary)] == ["a/v", "b/v", "c/v"]
    said = narrative.answers(summary)[-1]
    assert said.startswith("With 4 requests in flight (many), output tokens/s: a/v")
    assert "b/v is" not in said


def test_work_of_varied_outputs_makes_the_headline_before_a_higher_level(tmp_path):
    equal = {"name": "equal", "prompt_tokens": 8, "output_tokens": 5, "concurrency": [16]}
    varied = equal | {"name": "mixed", "output_tokens": {"min": 3, "max": 7}, "concurrency": [4]}
    summary = summarize(made(tmp_path, workloads=[equal, varied]))
    assert "(mixed: outputs of 3 to 7 tokens, 4 in flight)" in narrative.headline(summary)
    said = "\n".join(threats.threats(summary))
    assert "All outputs of equal are equally long, which favours engines" in said
    alone = summarize(made(tmp_path / "alone", workloads=[equal]))
    assert "All outputs of equal (the headline’s)" in "\n".join(threats.threats(alone))


def test_a_cost_has_the_interval_of_its_rate_and_none_reaches_below_zero(tmp_path):
    # One start of quick/plain is 4.4 times slower, as on a machine that others use.
    summary = summarize(made(tmp_path, FACTORS | {"quick/plain": (1, 1.05, 4.84)}))
    for group in summary.groups:
        rate = group.figures["output_tokens_per_s"]
        usd = group.figures["usd_per_million_output_tokens"]
        # 3.6 USD an hour are 0.001 a second.
        assert usd.low == pytest.approx(1e3 / rate.high) and usd.high == pytest.approx(
            1e3 / rate.low
        )
        for name, found in group.figures.items():
            assert found is None or found.low is None or found.low > 0, name


def test_no_level_is_called_the_cheapest_where_levels_are_not_apart(tmp_path):
    (said,) = [
        line for line in narrative.costs(summarize(made(tmp_path))) if line.startswith("slow/plain")
    ]
    # Four streams of queued requests: the rate at 4 in flight is far from that at 1.
    assert said.startswith("slow/plain is cheapest with 4 in flight (many): ")
    wild = FACTORS | {"slow/plain": (1, 9, 2)}
    equal = {"name": "many", "prompt_tokens": 8, "output_tokens": 5, "concurrency": [1]}
    one = summarize(made(tmp_path / "one", wild, workloads=[equal]))
    assert not any("cheapest" in line for line in narrative.costs(one))


def test_the_words_are_explained_where_they_are_first_used(tmp_path):
    for name in ("report.md", "report.html"):
        page = derived(made(tmp_path / name))[name].decode()
        first, explained = page.index("cannot tell"), page.index("Neither is shown.")
        assert first < explained < page.index("Results", explained)
        assert "at once with 95 %" in page


def test_cached_tokens_that_no_engine_states_were_not_checked(tmp_path):
    directory = made(tmp_path)
    assert {row.checks["cache"] for row in check_tables.parity(summarize(directory))} == {0}
    for where in directory.glob("raw/*/*/requests.jsonl"):
        rows = made_record.read_rows(where.parent)
        made_record.save_rows(where.parent, [row | {"cached_tokens": None} for row in rows])
    assert {row.checks["cache"] for row in check_tables.parity(summarize(directory))} == {None}


def test_the_places_and_words_are_in_the_files_for_programs(tmp_path):
    directory = made(tmp_path)
    build.build(directory)
    text = (directory / "derived" / "metrics_summary.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    (tuned,) = (r for r in rows if (r["variant"], r["concurrency"]) == ("tuned", "4"))
    names = ("place_best", "place_worst", "ratio_to_reference_verdict")
    assert [tuned[name] for name in names] == ["1", "2", "apart"]
    data = json.loads((directory / "derived" / "metrics_data.json").read_text())
    (found,) = (
        c for c in data["comparisons"] if (c["level"], c["figure"]) == (4, "output_tokens_per_s")
    )
    assert found["order"] == ["quick/tuned", "quick/plain", "slow/plain"]
    assert [(r["a"], r["b"], r["verdict"]) for r in found["ratios"]] == [
        ("quick/tuned", "quick/plain", "cannot tell"),
        ("quick/tuned", "slow/plain", "apart"),
        ("quick/plain", "slow/plain", "apart"),
    ]


def test_the_first_is_named_where_every_ratio_leaves_out_one(tmp_path):
    two = {label: FACTORS[label] for label in ("slow/plain", "quick/plain")}
    summary = summarize(made(tmp_path, two))
    assert places(summary) == [("quick/plain", 1, 1), ("slow/plain", 2, 2)]
    assert narrative.headline(summary).startswith("quick/plain is first (many: outputs of 5 tok")


def test_one_trial_ranks_nobody(tmp_path):
    summary = summarize(made(tmp_path, {label: f[:1] for label, f in FACTORS.items()}))
    assert {(best, worst) for _, best, worst in places(summary)} == {(1, 3)}
    assert narrative.headline(summary).startswith("Cannot rank the first")


def test_a_study_without_a_valid_cell_says_nothing_of_engines(tmp_path):
    directory = made(tmp_path)
    for file in directory.glob("raw/*/*/cell.json"):
        file.unlink()
    assert narrative.headline(summarize(directory)) == narrative.NOTHING
    assert b"No cell of this study is valid" in derived(directory)["report.html"]


def test_two_builds_give_the_same_bytes(built):
    directory, first = built
    assert {"report.html", "report.md", "latency_data.json"} <= first.keys()
    assert {"figures/many-pareto.png", "figures/many-spread-ttft.svg"} <= first.keys()
    assert derived(directory) == first


def statements(markdown):
    """(heading, row, column) -> the cell, and every other line -> itself."""
    found, section, headings = {}, "", None
    for line in markdown.splitlines():
        if not line.startswith("|"):
            headings = None
            section = line if line.startswith("#") else section
            found[line] = line
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if headings is None:
            headings = cells
        elif not set(line) <= set("|-: "):
            # A row's name: in the ranking after its place, in the results with its level, among
            # other tools with the word.
            places = {"place": (1,), "in flight": (0, 1), "word": (0, 2)}
            of_row = next((places[name] for name in places if name in headings), (0,))
            row = " ".join(cells[index] for index in of_row)
            for heading, cell in zip(headings, cells, strict=True):
                found[section, row, heading] = cell
    return found


def differing(directory, change):
    """The statements of report.md that a change of the raw files changes."""
    build.build(directory)
    before = statements((directory / "derived" / "report.md").read_text())
    change()
    build.build(directory)
    after = statements((directory / "derived" / "report.md").read_text())
    return {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}


RESULTS, HEAD = "### Workload many: 8 tokens in, 5 out", "# made"
TOOLS = "## What other load generators would have printed"
ALL = ("here", "vllm bench serve", "AIPerf", "GuideLLM")


def elsewhere(word, tools=ALL):
    return {(TOOLS, f"quick/plain {word}", tool) for tool in tools}


def changed_row(directory, index, event, by_s):
    """Move one event of one request of quick/plain's second trial, at four in flight."""
    where = directory / "raw" / "trial2_quick_plain" / "many-c4"
    rows = made_record.read_rows(where)
    rows[index]["event_s"][event] += by_s
    rows[index]["end_s"] = rows[index]["event_s"][-1]
    rows[index]["headers_s"] = rows[index]["event_s"][0]
    made_record.save_rows(where, rows)


def test_a_first_token_that_comes_sooner_changes_what_is_made_of_it_and_nothing_else(tmp_path):
    directory = made(tmp_path)
    # Of twelve the seventh: the median falls by 4 ms, the mean of three trials by 1.3 ms. Its TPOT
    # rises, the median of twelve equal ones does not.
    found = differing(directory, lambda: changed_row(directory, 6, 0, -0.008))
    assert found == {
        (HEAD, "quick/plain", "TTFT p50 ms"),
        (RESULTS, "quick/plain 4", "TTFT p50 ms"),
        # The gap behind the first token is the longest, and grows.
        (RESULTS, "quick/plain 4", "ITL max ms"),
        # Means feel every request; GuideLLM's TPOT begins when the request is sent.
        *elsewhere("TTFT ms, mean"),
        *elsewhere("ITL ms, mean"),
        *elsewhere("ITL ms, p99", ("vllm bench serve", "AIPerf")),
        *elsewhere("TPOT ms, mean", ("here", "vllm bench serve")),
    }


def test_a_last_token_that_comes_later_changes_the_rate_and_what_depends_on_it(tmp_path):
    directory = made(tmp_path)
    # The last request's end is the window's; medians of twelve do not feel it.
    found = differing(directory, lambda: changed_row(directory, 11, -1, 0.2))
    cells = {key for key in found if isinstance(key, tuple)}
    own = {key for key in cells if "quick/plain" in key[1]}
    assert own == {
        *((HEAD, "quick/plain", column) for column in ("output tokens/s", "× reference")),
        *((HEAD, "quick/plain", column) for column in ("× the next", "USD/M output")),
        *((RESULTS, "quick/plain 4", column) for column in ("output tokens/s", "× reference")),
        *((RESULTS, "quick/plain 4", column) for column in ("requests/s", "USD/M output")),
        (RESULTS, "quick/plain 4", "ITL max ms"),
        *elsewhere("output tokens/s"),
        *elsewhere("ITL ms, mean"),
        *elsewhere("ITL ms, p99", ("vllm bench serve", "AIPerf")),
        *elsewhere("TPOT ms, mean", ("here", "vllm bench serve", "GuideLLM")),
    }
    # The spread is pooled, so that the others' intervals move, and nothing else of theirs.
    columns = {column for _, _, column in cells - own}
    assert columns <= {"output tokens/s", "× reference", "× the next", "USD/M output"}
    # Intervals of the level rest on the spread of all its starts: sentences that have one change,
    # and those that name the rate or price of quick/plain. The front stays as it is.
    said = sorted(line for line in found if isinstance(line, str))
    starts = (
        "**Cannot rank the first: quick/tuned and quick/plain",
        "Starts of one variant vary by",
        "- 4 in flight: Starts of one variant vary by",
        "With 4 requests in flight",
        "USD for a million output tokens",
        *(f"{label} is cheapest with 4 in flight (many)" for label in FACTORS),
    )
    assert all(line.startswith(starts) for line in said), said
    assert {next(s for s in starts if line.startswith(s)) for line in said} == set(starts)


@pytest.mark.parametrize(
    ("changes", "gpus", "verdict", "reason"),
    [
        ({}, ["NVIDIA L4"], "confirmed here", ""),
        ({}, [], "same shape", "another device"),
        ({"times": 24}, ["NVIDIA L4"], "same direction", "outside the interval"),
        (
            {"comparable": CLAIM["comparable"] | {"output_tokens": [512, 2048]}},
            ["NVIDIA L4"],
            "same shape",
            "another length of outputs",
        ),
        ({"over": CLAIM["over"][::-1]}, [], "not seen", "lies below 1"),
        ({"over": [{"engine": "quick"}, {"engine": "other"}]}, [], "not covered", "other"),
        ({"outputs": "varied"}, [], "not covered", "outputs of different lengths"),
        ({"needs": "a warm cache"}, [], "not covered", "a warm cache"),
    ],
)
def test_a_claim_is_confirmed_only_in_its_own_interval_and_conditions(
    tmp_path, changes, gpus, verdict, reason
):
    summary = summarize(made(tmp_path))
    machine = msgspec.structs.replace(
        summary.study.machine, gpus=[schema_study.Gpu(name=name) for name in gpus]
    )
    study = msgspec.structs.replace(summary.study, device="cuda", machine=machine)
    summary = dataclasses.replace(summary, study=study)
    (found,) = claims.tested(summary, [claim(changes)])
    assert (found.verdict, reason in found.reason) == (verdict, True)


def test_one_trial_confirms_no_claim(tmp_path):
    factors = {"slow/plain": (2,), "quick/plain": (1,)}
    (found,) = claims.tested(summarize(made(tmp_path, factors)), [claim()])
    assert (found.verdict, found.ratio) == ("not covered", None)
    assert "one trial" in found.reason


@pytest.mark.parametrize(
    ("times", "verdict", "reason"),
    [
        (2, "not seen", "the interval contains 1 and not the claimed figure"),
        (1.01, "cannot tell", "the interval contains 1 and the claimed figure"),
    ],
)
def test_a_ratio_around_one_rules_a_claim_out_or_cannot_tell(tmp_path, times, verdict, reason):
    over = [{"engine": "quick", "flags": {"mode": mode}} for mode in ("tuned", "plain")]
    (found,) = claims.tested(summarize(made(tmp_path)), [claim({"over": over, "times": times})])
    assert (found.verdict, found.reason) == (verdict, reason)


def test_only_settings_that_differ_are_listed_and_ports_never(tmp_path):
    found = engine_configs.differences(summarize(made(tmp_path)))
    assert found.rows == [["--mode", "plain", "plain", "tuned"]]
    assert found.shared == ["dtype, as loaded float32"]
    assert engine_configs.flags(["x", "--a=1", "--b", "2", "--c", "--d", "/some/where/m"]) == {
        "a": "1",
        "b": "2",
        "c": "set",
        "d": "m",
    }


def test_an_engine_that_was_stopped_before_it_had_a_command_differs_in_nothing(tmp_path):
    directory = made(tmp_path)
    file = directory / "raw" / "trial1_quick_tuned" / "launch.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"command": []}))
    assert "report.html" in derived(directory)
    assert engine_configs.differences(summarize(directory)).headings == [
        "setting",
        "slow/plain",
        "quick/plain",
    ]


def test_the_line_of_a_distribution_passes_through_the_median_of_the_table(built):
    lines = json.loads(built[1]["latency_data.json"])
    (cell,) = (
        c for c in lines if (c["label"], c["trial"], c["concurrency"]) == ("quick/plain", 1, 4)
    )
    assert len(cell["ttft_s"]) == 201
    # 0.10, 0.12 ... 0.32
    assert [cell["ttft_s"][at] for at in (0, 100, 200)] == pytest.approx([0.1, 0.21, 0.32])


def test_the_front_is_what_no_other_point_beats_in_both():
    latency = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 2.0}
    rates = {"a": 10.0, "b": 30.0, "c": 29.0, "d": 40.0}
    assert ranking.front(latency, rates) == ["a", "d"]


def test_labels_keep_their_order_and_a_distance_where_they_would_meet():
    found = style.spread([(0, 50, 90), (0, 51, 90), (0, 99, 90), (200, 50, 90)], 0, 100)
    assert found == [50, 62, 99, 50]  # the last one is elsewhere
    assert style.spread([(0, 98, 9), (0, 99, 9)], 0, 100) == [88, 100]


def test_every_value_of_a_figure_can_be_pointed_at_exactly(built):
    page = built[1]["report.html"].decode()
    # Fifteen tokens in 0.10 + 0.12 + 0.14 + 3 · 0.04 = 0.48 s · f at one in flight
    rates = [15 / (0.48 * factor) for factor in FACTORS["quick/plain"]]
    said = f"quick/plain, 1 requests in flight: {statistics.geometric_mean(rates):,.4g} ["
    assert f"<title>{said}" in page


def test_a_figure_in_a_page_has_the_page_s_colours_and_no_id_that_nothing_names():
    text = (
        '<?xml?><svg><metadata>x</metadata><g id="patch_1"><path id="m1" style="fill: #ffffff"/>'
        '</g><use href="#m1"/></svg>'
    )
    found = svg.inline(svg.with_marks(text, [(1, 2, "a < b")]))
    assert found.startswith('<svg><g><path id="m1" style="fill: none"/></g><use')
    assert "<title>a &lt; b</title>" in found


def test_the_page_asks_for_nothing_outside_and_its_links_lead_somewhere(built):
    directory, files = built
    page = files["report.html"].decode()
    assert not re.search(r'(src|srcset|@import)\s*=?\s*["\']?(https?:)?//', page)
    links = re.findall(r'href="([^"]+)"', page)
    for link in links:
        if link.startswith("#"):
            assert f'id="{link[1:]}"' in page
        elif not link.startswith(("https://", "data:")):
            assert (directory / "derived" / link).exists(), link


def test_a_figure_that_is_no_longer_drawn_does_not_stay(tmp_path):
    directory = made(tmp_path)
    old = directory / "derived" / "figures" / "old.png"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"")
    build.build(directory)
    assert not old.exists()


def test_what_the_hardware_can_do_is_said_with_where_it_is_from(tmp_path):
    summary = summarize(made(tmp_path))
    assert "not known here" in narrative.hardware(summary)
    sheet = Ceiling("NVIDIA H200", 4.8e12, {"float16": 9.9e14}, "data sheet")
    rates = {"float16": 6.93e14, "float32": 5e13}
    reached = Ceiling("GPU", 4.08e12, rates, "measured before the first engine")
    known = dataclasses.replace(summary, ceiling_before=sheet, gpu_reached=reached)
    said = narrative.hardware(known)
    assert said == (
        "NVIDIA H200, data sheet: memory 4,800 GB/s, float16 products 990 TFLOP/s. Measured in "
        "this study: memory 4,080 GB/s (85% of that), float16 products 693 TFLOP/s (70% of that), "
        "float32 products 50 TFLOP/s."
    )


def test_the_lines_of_an_svg_are_rounded_and_nothing_else():
    text = (
        '<path d="M 1.23456 -0.98765 L 100 5.5" style="w: 1.2345"/><text x="1.2345">2.3456</text>'
    )
    short = '<path d="M 1.23 -0.98 L 100 5.5" style="w: 1.2345"/><text x="1.2345">2.3456</text>'
    assert svg.shortened(text) == short

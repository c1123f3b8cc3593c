"""Every fault that a study must catch, made on purpose by a double and run as a real study."""

import re

import pytest
from builders import rows_of
from project import enginebench, make_project, metrics, result, run_study, study

from enginebench.plan import prompts

#: Behaviour of the double -> the cell's verdict, and check -> distinctive text of its finding.
EXPECTED = {
    "normal": ("valid", []),
    "several-a-chunk": ("valid", []),
    "one-too-many": ("invalid", [("output", "4 of 4 requests .* they made too many")]),
    "early-end": (
        "invalid",
        [
            ("output", "4 of 4 requests .* they stopped early"),
            ("finish", "4 of 4 requests ended for another reason than their length"),
        ],
    ),
    "doubled-bos": ("invalid", [("prompt", "4 of 4 requests had a longer prompt .*second BOS")]),
    "cut-prompt": ("invalid", [("prompt", "4 of 4 requests had a shorter prompt .*silently cut")]),
    "padding": ("invalid", [("text", "4 of 4 requests ended in tokens that show nothing")]),
    "prefix-cache": (
        "invalid",
        [("cache", "4 of 4 requests had prompt tokens served from a cache")],
    ),
    "lying-usage": (
        "invalid",
        [("text", "the text has 2.00 times as many tokens as the usage says")],
    ),
    "several-silent": ("suspect", [("stream", "4 of 4 requests have events of unknown size")]),
    "answers-from-cache": (
        "invalid",
        [
            ("different", "all 4 answers are the same although their prompts differ"),
            ("counters", "output_tokens_total grew by 0, the client counted 32"),
            ("counters", "prompt_tokens_total grew by 0, the client counted 96"),
        ],
    ),
}
OVERALL = {"valid": 0, "suspect": 1, "invalid": 2}


def run(project, cache, *behaviours):
    """Run one study with a variant of the double for each behaviour."""
    engines = [
        {"engine": "alpha", "variant": name, "settings": {"BEHAVIOUR": name}} for name in behaviours
    ]
    workload = {
        "name": "w",
        "prompt_tokens": 24,
        "output_tokens": 8,
        "concurrency": [2],
        "warmup_output_tokens": 2,
    }
    return run_study(project, cache, study(*engines, workloads=[workload]))


def cells(project):
    """The cells of the project's study by variant."""
    return {cell["variant"]: cell for cell in metrics(project)["cells"]}


def raw(project, behaviour):
    return result(project) / "raw" / f"trial1_alpha_{behaviour}" / "w-c2"


@pytest.fixture(scope="module")
def all_faults(cache, tmp_path_factory):
    """One study with every fault: how it ended, and where it is."""
    project = make_project(tmp_path_factory.mktemp("project"), "alpha")
    return run(project, cache, *EXPECTED), project


def agree(findings, expected):
    """Exactly the expected findings, each with its text, in any order."""
    left = list(findings)
    for check, pattern in expected:
        (found,) = [f for f in left if f["check"] == check and re.search(pattern, f["text"])]
        left.remove(found)
    assert left == []


@pytest.mark.parametrize("behaviour", EXPECTED)
def test_a_fault_is_found_by_its_own_checks_and_by_no_other(all_faults, behaviour):
    verdict, expected = EXPECTED[behaviour]
    cell = cells(all_faults[1])[behaviour]
    agree(cell["findings"], expected)
    assert cell["verdict"] == verdict
    assert (
        max((f["verdict"] for f in cell["findings"]), key=OVERALL.get, default="valid") == verdict
    )


def test_a_study_with_an_invalid_cell_exits_with_1(all_faults):
    done, _ = all_faults
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr


def test_tokens_that_come_two_at_a_time_are_counted_as_two(all_faults):
    rows = rows_of(raw(all_faults[1], "several-a-chunk") / "requests.jsonl")
    measured = [row for row in rows if row["phase"] == "measured"]
    assert [row["event_tokens"] for row in measured] == [[2, 2, 2, 2]] * 4
    assert cells(all_faults[1])["several-a-chunk"]["figures"]["output_tokens"] == 32


def test_the_double_answers_with_one_token_a_word_and_each_prompt_otherwise(all_faults):
    rows = rows_of(raw(all_faults[1], "normal") / "requests.jsonl")
    assert [row["text_tokens"] for row in rows] == [row["output_tokens"] for row in rows]
    measured = [row["text"] for row in rows if row["phase"] == "measured"]
    assert len(set(measured)) > 1


def test_every_word_of_the_double_is_one_token(embedded_model):
    tokenizer = prompts.load_tokenizer(embedded_model)
    words = (" the", " and", " of", " to", " is", " in", " it", " for")
    text = "".join(a + b for a in words for b in words)
    assert len(tokenizer.encode(text, add_special_tokens=False).ids) == 2 * len(words) ** 2


def test_a_suspect_cell_does_not_fail_a_study_that_is_not_strict(cache, tmp_path):
    project = make_project(tmp_path, "alpha")
    done = run(project, cache, "several-silent")
    assert done.returncode == 0, done.stderr
    assert cells(project)["several-silent"]["verdict"] == "suspect"
    assert enginebench("report", "--strict", cwd=project).returncode == 1


def test_an_engine_that_runs_another_model_is_found_by_its_answers(cache, tmp_path):
    project = make_project(tmp_path, "alpha", "beta")
    other = {"engine": "beta", "settings": {"BEHAVIOUR": "other-model"}}
    asked = {"prompts": 3, "prompt_tokens": 24, "output_tokens": 6}
    workloads = study()["workloads"][:1]
    asked_of = study({"engine": "alpha"}, other, agreement=asked, workloads=workloads)
    done = run_study(project, cache, asked_of, "--strict")
    assert done.returncode == 1, done.stderr
    directory, data = result(project), metrics(project)
    (found,) = data["agreement"]
    assert (found["label"], found["against"]) == ("beta/default", "alpha/default")
    assert (found["prompts"], found["identical"], found["clear"]) == (3, 0, 3)
    assert found["first_token_worst"] == 4 and found["margin_largest"] == 1.25
    verdicts = {(cell["engine"], cell["verdict"]) for cell in data["cells"]}
    assert verdicts == {("alpha", "valid"), ("beta", "suspect")}
    report = (directory / "derived" / "report.md").read_text()
    assert "3 of 3 greedy answers part from those of alpha/default where the choice was clear" in (
        report
    )

"""The decompositions of a study file: what is accepted, and what is refused in which words."""

import copy

import pytest

from enginebench.base.errors import UserError
from enginebench.cli.study_session import subset_for
from enginebench.plan import study_file

LADDER = {
    "name": "steps",
    "ladder": [{"name": "off", "run": "fast/off"}, {"name": "on", "run": "fast/on"}],
}
SWITCHES = {
    "name": "all",
    "switches": ["batching", "int8 weights"],
    "runs": {
        "fast/off": [],
        "fast/on": ["batching"],
        "fast/small": ["int8 weights"],
        "fast/both": ["batching", "int8 weights"],
    },
}


def study(*decompositions):
    return {
        "name": "small",
        "engines": [{"engine": "fast", "variant": v} for v in ("off", "on", "small", "both")],
        "workloads": [{"name": "chat", "prompt_tokens": 8, "output_tokens": 4, "concurrency": [1]}],
        "decompositions": list(decompositions),
    }


def changed(decomposition, key, value):
    data = copy.deepcopy(decomposition)
    *path, last = key.split(".")
    place = data
    for part in path:
        place = place[int(part) if part.isdigit() else part]
    place[last] = value
    return study(data)


def mistake(data):
    with pytest.raises(UserError) as caught:
        study_file.parse(data, "my.yaml")
    assert "\n" not in caught.value.message
    return caught.value.message.removeprefix("my.yaml: ")


def test_a_study_has_a_ladder_switches_or_both():
    found = study_file.parse(study(LADDER, SWITCHES), "my.yaml").decompositions
    assert [one.name for one in found] == ["steps", "all"]
    assert found[0].labels == ["fast/off", "fast/on"]
    both = LADDER | SWITCHES
    assert study_file.parse(study(both), "my.yaml").decompositions[0].labels == [
        "fast/off",
        "fast/on",
        "fast/small",
        "fast/both",
    ]
    assert study_file.parse(study(), "my.yaml").decompositions == []


def test_a_fraction_of_the_combinations_will_do_with_none_and_all_of_them():
    runs = {name: SWITCHES["runs"][name] for name in ("fast/off", "fast/both")}
    assert study_file.parse(study(SWITCHES | {"runs": runs}), "my.yaml").decompositions


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (study({"name": "x"}), "expected a ladder, or switches and runs, found neither"),
        (changed(LADDER, "ladder", LADDER["ladder"][:1]), "expected at least two rungs"),
        (changed(LADDER, "ladder.1.run", "fast/off"), "the run 'fast/off' appears twice"),
        (changed(LADDER, "ladder.1.name", "off"), "the rung 'off' appears twice"),
        (changed(LADDER, "ladder.1.name", " "), "decompositions[0].ladder[1].name: string should"),
        (changed(LADDER, "ladder.1.name", "a\nb"), "decompositions[0].ladder[1].name: string"),
        (changed(LADDER, "ladder.1.runs", "x"), "ladder[1].runs: unknown key 'runs'; did you mean"),
        (
            changed(LADDER, "ladder.1.run", "fast/oon"),
            "the decomposition 'steps' names the run 'fast/oon', which is none of the variants "
            "(fast/off, fast/on, fast/small, fast/both)",
        ),
        (study(LADDER, LADDER), "the decomposition 'steps' appears twice"),
        (changed(SWITCHES, "runs", {}), "expected switches and runs together, found switches only"),
        (changed(SWITCHES, "switches", []), "expected switches and runs together, found runs only"),
        (changed(SWITCHES, "switches", list("abcdefg")), "expected at most 6 switches, found 7"),
        (changed(SWITCHES, "switches", ["x", "x"]), "the switch 'x' appears twice"),
        (
            changed(SWITCHES, "runs.fast/on", ["batch"]),
            "fast/on has 'batch' on, which is none of the switches (batching, int8 weights)",
        ),
        (changed(SWITCHES, "runs.fast/on", ["batching"] * 2), "fast/on has 'batching' on twice"),
        (
            changed(SWITCHES, "runs.fast/small", ["batching"]),
            "fast/on and fast/small both have batching on; keep one of them",
        ),
        (
            changed(SWITCHES, "runs", {"fast/off": [], "fast/on": ["batching"]}),
            "expected a run with all of the switches on, found none",
        ),
        (
            changed(SWITCHES, "runs", {"fast/both": ["int8 weights", "batching"]}),
            "expected a run with none of the switches on, found none",
        ),
        (changed(SWITCHES, "runs.fast/more", ["batching"]), "both have batching on"),
        (study({**SWITCHES, "name": "a b"}), "decompositions[0].name: string should match"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(data, said):
    assert said in mistake(data)


def test_one_engines_part_of_a_study_keeps_the_decompositions_that_are_whole_in_it():
    other = {"name": "both", "ladder": [*LADDER["ladder"], {"name": "other", "run": "slow/off"}]}
    data = study(LADDER, other)
    data["engines"].append({"engine": "slow", "variant": "off"})
    part = subset_for(study_file.parse(data, "my.yaml"), "fast")
    assert [one.name for one in part.decompositions] == ["steps"]

import copy
import re

import pytest
import yaml
from project import ROOT

from enginebench.base.errors import UserError
from enginebench.plan import study_file

SMALLEST = {
    "name": "small",
    "engines": [{"engine": "fast"}],
    "workloads": [{"name": "chat", "prompt_tokens": 8, "output_tokens": 4, "concurrency": [1]}],
}
RANGE = {"min": 2, "max": 4}


def changed(key, value, **more):
    """The smallest study with one key set; ``a.0.b`` reaches inside."""
    data = copy.deepcopy(SMALLEST)
    *path, last = key.split(".")
    place = data
    for part in path:
        place = place[int(part) if part.isdigit() else part]
    place[last] = value
    return data | more


def mistake(data):
    with pytest.raises(UserError) as caught:
        study_file.parse(data, "my.yaml")
    assert caught.value.message.startswith("my.yaml: ")
    assert "\n" not in caught.value.message
    return caught.value.message.removeprefix("my.yaml: ")


def test_the_smallest_study_has_defaults_for_the_rest():
    found = study_file.parse(SMALLEST, "my.yaml")
    assert (found.model, found.trials, found.prompts.path) == ("embedded", 1, "prompts.txt")
    assert found.engines[0].label == "fast/default"


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_study_of_this_repository_loads(path):
    assert study_file.load(path).name == path.stem


@pytest.mark.parametrize(
    ("key", "place", "nearest"),
    [
        ("trails", "trails", "trials"),
        ("workloads.0.promt_tokens", "workloads[0].promt_tokens", "prompt_tokens"),
        ("engines.0.varient", "engines[0].varient", "variant"),
    ],
)
def test_an_unknown_key_is_named_with_its_place_and_the_nearest(key, place, nearest):
    name = key.rpartition(".")[2]
    expected = f"{place}: unknown key {name!r}; did you mean {nearest!r}?"
    assert mistake(changed(key, 5)) == expected


def test_an_unknown_key_inside_a_section_of_a_section_is_named():
    data = changed("engines.0.hint", {"start": 5})
    assert mistake(data) == "engines[0].hint.start: unknown key 'start'; did you mean 'start_s'?"


def test_an_unknown_key_like_no_other_gets_the_list():
    found = mistake(changed("prompts", {"zzz": 1}))
    assert found == "prompts.zzz: unknown key 'zzz'; known keys: format, path"


@pytest.mark.parametrize("key", ["int", "str", "a[0]"])
def test_an_unknown_key_may_look_like_a_type(key):
    assert f"unknown key {key!r}" in mistake(SMALLEST | {key: 5})


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("trials", "two", "trials: input should be a valid integer, found 'two'"),
        ("trials", 0, "trials: input should be greater than or equal to 1, found 0"),
        ("trials", True, "trials: input should be a valid integer, found True"),
        ("price", {"usd_per_hour": -1}, "price.usd_per_hour: input should be greater than 0"),
        ("engines", [], "engines: list should have at least 1 item"),
        ("workloads.0.concurrency", [1, 0], "workloads[0].concurrency[1]: input should be great"),
        ("workloads.0.name", "Chat Room", "workloads[0].name: string should match pattern"),
        ("workloads", "chat", "workloads: input should be a valid list, found 'chat'"),
        ("port", 70000, "port: input should be less than or equal to 65535, found 70000"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_its_place(key, value, found):
    assert mistake(changed(key, value)).startswith(found)


@pytest.mark.parametrize("key", ["name", "engines", "workloads"])
def test_a_missing_key_is_named(key):
    data = {name: value for name, value in SMALLEST.items() if name != key}
    assert mistake(data) == f"{key}: this key is required and is not there; add it"


def test_several_mistakes_are_counted():
    assert mistake(changed("trials", 0, seed=-1)).endswith("(and 1 more)")


def test_the_same_variant_twice_is_refused():
    twice = changed("engines", [{"engine": "fast"}, {"engine": "fast"}])
    assert "the engine variant 'fast/default' is there twice" in mistake(twice)
    apart = changed("engines", [{"engine": "fast"}, {"engine": "fast", "variant": "b"}])
    assert len(study_file.parse(apart, "my.yaml").engines) == 2


def test_the_same_workload_twice_is_refused():
    twice = changed("workloads", SMALLEST["workloads"] * 2)
    assert "the workload 'chat' is there twice" in mistake(twice)


def test_the_same_concurrency_twice_is_refused():
    expected = "workloads[0].concurrency: a level is there twice in [4, 4]"
    assert mistake(changed("workloads.0.concurrency", [4, 4])).startswith(expected)


def test_a_reference_that_is_no_variant_is_refused():
    found = mistake(changed("reference", "fast/other"))
    assert found.startswith("study: reference 'fast/other' is none of the variants (fast/default)")


def test_a_workload_that_a_variant_names_must_be_there():
    found = mistake(changed("engines.0.workloads", ["chatt"]))
    assert "fast/default names the workload 'chatt', which is none of chat" in found


def test_output_lengths_are_a_number_or_a_range():
    fixed = study_file.parse(SMALLEST, "x").workloads[0]
    assert (fixed.longest_output, fixed.mean_output) == (4, 4.0)
    drawn = study_file.parse(changed("workloads.0.output_tokens", RANGE), "x").workloads[0]
    assert (drawn.longest_output, drawn.mean_output) == (4, 3.0)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"min": 5, "max": 2}, "workloads[0].output_tokens: min 5 is above max 2"),
        ({"min": 5, "mx": 9}, "workloads[0].output_tokens.mx: unknown key 'mx'"),
        ("many", "workloads[0].output_tokens: input should be a valid integer, found 'many'"),
    ],
)
def test_a_mistake_in_a_range_is_named(value, found):
    assert mistake(changed("workloads.0.output_tokens", value)).startswith(found)


@pytest.mark.parametrize(
    ("rates", "found"),
    [
        ({}, "engines[0].hint.tokens_per_s: dictionary should have at least 1 item"),
        ({1: 0.0}, "engines[0].hint.tokens_per_s[1]: input should be greater than 0, found 0.0"),
        ({1: -1.0}, "engines[0].hint.tokens_per_s[1]: input should be greater than 0, found -1.0"),
    ],
)
def test_a_hint_that_is_no_rate_is_refused(rates, found):
    assert mistake(changed("engines.0.hint", {"tokens_per_s": rates})).startswith(found)


def test_a_hint_that_is_a_rate_is_taken():
    found = study_file.parse(changed("engines.0.hint", {"tokens_per_s": {1: 0.5}}), "x")
    assert found.engines[0].hint.tokens_per_s == {1: 0.5}


def test_requests_of_a_level_are_by_stream_with_a_minimum():
    data = changed("workloads.0.requests_per_stream", 3)
    data["workloads"][0]["min_requests"] = 10
    workload = study_file.parse(data, "x").workloads[0]
    assert (workload.requests(2), workload.requests(4)) == (10, 12)


def load(tmp_path, content):
    path = tmp_path / "my.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return study_file.load(path)


def test_a_study_is_read_from_its_file(tmp_path):
    assert load(tmp_path, yaml.safe_dump(SMALLEST)) == study_file.parse(SMALLEST, "")


def test_what_is_not_yaml_is_named_with_its_line(tmp_path):
    with pytest.raises(UserError, match=r"my\.yaml:3: expected YAML, found: "):
        load(tmp_path, "name: small\ntrials: 1\n  seed: 2\n")


@pytest.mark.parametrize(
    ("content", "kind"), [("", "NoneType"), ("- a\n- b\n", "list"), ("words", "str")]
)
def test_what_is_not_a_mapping_is_refused(tmp_path, content, kind):
    with pytest.raises(UserError, match=rf"my\.yaml: expected a mapping .* found {kind}"):
        load(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"title: caf\xe9\n", "expected UTF-8 text, found other bytes; save it as UTF-8"),
        (b"title: 2026-13-45\n", "expected YAML, found: month must be in 1..12"),
    ],
)
def test_bytes_and_dates_that_cannot_be_are_refused(tmp_path, content, found):
    with pytest.raises(UserError) as caught:
        load(tmp_path, content)
    assert caught.value.message.startswith(f"{tmp_path / 'my.yaml'}: {found}")


def test_a_study_that_is_not_there_lists_its_neighbours(tmp_path):
    (tmp_path / "cpu.yaml").touch()
    with pytest.raises(UserError, match=r"gone\.yaml: cannot read .*cpu\.yaml"):
        study_file.load(tmp_path / "gone.yaml")


def test_the_name_of_the_comparison_of_answers_is_taken():
    assert "a workload cannot be called 'agreement'" in mistake(
        changed("workloads.0.name", "agreement")
    )


@pytest.mark.parametrize("interval_s", [0, 0.009, -1])
def test_no_faster_than_a_hundred_times_a_second(interval_s):
    shortest = study_file.parse(changed("sample_interval_s", 0.01), "x")
    assert shortest.sample_interval_s == 0.01
    found = mistake(changed("sample_interval_s", interval_s))
    assert found.startswith("sample_interval_s: input should be greater than or equal to 0.01")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "expected levels of concurrency .* or of rate .*, found neither"),
        ({"rate": [1], "concurrency": [1]}, "found both"),
        ({"concurrency": [1], "max_in_flight": 2}, "max_in_flight belongs to an open loop"),
        ({"rate": [1], "requests_per_stream": 2}, "requests_per_stream belongs to a closed loop"),
        ({"rate": [1], "arrivals": "trace"}, "arrivals: trace and a file in trace"),
        ({"rate": [1], "trace": "t.csv"}, "arrivals: trace and a file in trace"),
        ({"rate": [1], "burstiness": 2}, "burstiness belongs to arrivals: gamma"),
        ({"rate": [1, 1.0]}, "a level is there twice"),
        ({"rate": [0]}, "greater than 0"),
    ],
)
def test_a_load_that_contradicts_itself_is_one_line(fields, says):
    workload = {"name": "w", "prompt_tokens": 8, "output_tokens": 10} | fields
    assert re.search(says, mistake(SMALLEST | {"workloads": [workload]}))

import copy
import math
import os
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from project import ROOT

from enginebench.base.errors import UserError
from enginebench.plan import study_file
from enginebench.plan.workload import Workload

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
    ("changes", "found"),
    [
        ({"shared_prefix_tokens": 8}, "expected shared_prefix_tokens below prompt_tokens (8), "
         "found 8"),
        ({"shared_prefix_tokens": -1}, "input should be greater than or equal to 0, found -1"),
        ({"shared_prefix_tokens": 4, "concurrency": [], "rate": [1], "arrivals": "trace",
          "trace": "t.csv"}, "shared_prefix_tokens needs prompts of one length; leave out trace"),
    ],
)  # fmt: skip
def test_a_beginning_that_prompts_cannot_share_is_refused(changes, found):
    workload = SMALLEST["workloads"][0] | changes
    assert found in mistake(SMALLEST | {"workloads": [workload]})


def test_prompts_share_nothing_unless_it_is_declared():
    assert study_file.parse(SMALLEST, "x").workloads[0].shared_prefix_tokens == 0
    shared = study_file.parse(changed("workloads.0.shared_prefix_tokens", 7), "x").workloads[0]
    assert shared.shared_prefix_tokens == 7


@pytest.mark.parametrize(
    ("rates", "found"),
    [
        ({}, "engines[0].hint.tokens_per_s: dictionary should have at least 1 item"),
        ({1: 0.0}, "engines[0].hint.tokens_per_s[1]: input should be greater than or equal to"),
        ({1: -1.0}, "engines[0].hint.tokens_per_s[1]: input should be greater than or equal to"),
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


def test_a_study_that_is_not_there_lists_its_neighbours(tmp_path):
    (tmp_path / "cpu.yaml").touch()
    with pytest.raises(UserError, match=r"gone\.yaml: .*No such file or directory; .*cpu\.yaml"):
        study_file.load(tmp_path / "gone.yaml")


def in_file(text):
    """The smallest study as a file, with more lines at its end; they begin in line 5."""
    return (
        "name: small\n"
        "engines: [{engine: fast}]\n"
        "workloads:\n"
        "- {name: chat, prompt_tokens: 8, output_tokens: 4, concurrency: [1]}\n"
    ) + text


@pytest.mark.parametrize(
    ("text", "line", "found"),
    [
        # The first of two equal keys would vanish.
        (in_file("trials: 2\ntrials: 3\n"), 6, "the key 'trials' twice, first in line 5"),
        (in_file("workloads: [{name: w}]\n"), 5, "the key 'workloads' twice, first in line 3"),
        (in_file("price: {name: a, name: b}\n"), 5, "the key 'name' twice, first in line 5"),
        # YAML 1.1: 4096, 90, 64.
        (in_file("port: 010000\n"), 5, "'010000', which YAML reads to base 8 or 60"),
        (in_file("seed: 1:30\n"), 5, "'1:30', which YAML reads to base 8 or 60"),
        (in_file("trials: 0100\n"), 5, "'0100', which YAML reads to base 8 or 60"),
        (in_file('title: "a\\x00b"\n'), 5, "the character U+0000 in a text"),
        (in_file('settings: {A: "a\\eb"}\n'), 5, "the character U+001B in a text"),
        (in_file('title: "\\ud83d"\n'), 5, "the character U+D83D in a text"),
        (in_file("title: a\x00b\n"), 5, "a NUL byte, which no text has"),
        (in_file("title: " + "[" * 20_000), 5, "more than 50 levels"),
        (in_file("a: &a [*a]\n"), 5, "an alias inside its own anchor"),
        (in_file("seed: " + "9" * 5000), 5, "a number of 5000 characters"),
        (in_file("title: caf\xe9\n").encode("latin-1"), 5, "not UTF-8 text (byte 0xe9)"),
        (in_file("").encode("utf-16"), None, "not UTF-8 text but UTF-16"),
        (b"#" * (2 << 20), None, "more than 1 MiB"),
    ],
)
def test_what_yaml_would_read_otherwise_or_not_at_all_is_one_line_with_its_number(
    tmp_path, text, line, found
):
    with pytest.raises(UserError) as caught:
        load(tmp_path, text)
    place = tmp_path / "my.yaml"
    assert caught.value.message.startswith(f"{place}:{line}: " if line else f"{place}: ")
    assert found in caught.value.message
    assert "\n" not in caught.value.message


def test_values_that_aliases_multiply_are_refused_before_they_are_made(tmp_path):
    lines = ["title: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"k{i}: &a{i + 1} [{', '.join([f'*a{i}'] * 10)}]" for i in range(9)]  # 10^10
    with pytest.raises(UserError, match="more than 100000 values"):
        load(tmp_path, in_file("\n".join(lines)))


def test_a_pipe_in_place_of_a_study_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "p.yaml")
    with pytest.raises(UserError, match=r"p\.yaml: .* found a pipe"):
        study_file.load(tmp_path / "p.yaml")
    with pytest.raises(UserError, match="found a directory"):
        study_file.load(tmp_path)
    with pytest.raises(UserError, match="found a device"):
        study_file.load(Path("/dev/zero"))


def test_a_setting_keeps_the_text_that_the_study_has(tmp_path):
    written = "{A: no, B: 010, C: 1:30, D: 0.10, E: 2024-01-01, F: 1_000, G: .inf, H: on, I: 0x10}"
    found = load(tmp_path, in_file(f"settings: {written}\n")).settings
    assert found == {
        "A": "no", "B": "010", "C": "1:30", "D": "0.10", "E": "2024-01-01", "F": "1_000",
        "G": ".inf", "H": "on", "I": "0x10",
    }  # fmt: skip
    assert load(tmp_path, in_file("settings: {A: 8, B: 0.5, C: true}\n")).settings == {
        "A": 8,
        "B": 0.5,
        "C": True,
    }


def test_a_study_may_have_a_byte_order_mark_other_line_ends_dates_as_names_and_anchors(tmp_path):
    text = in_file("").replace("fast", "fast, variant: 2024-01-01").replace("\n", "\r\n")
    assert load(tmp_path, "\ufeff" + text).engines[0].variant == "2024-01-01"
    base = in_file("").replace(
        "[{engine: fast}]", "[&a {engine: fast}, {<<: *a, variant: two, settings: {B: 07}}]"
    )
    assert [v.label for v in load(tmp_path, base).engines] == ["fast/default", "fast/two"]


def test_yes_and_no_are_words_but_where_a_flag_is_meant(tmp_path):
    assert load(tmp_path, in_file("judge_client: no\n")).judge_client is False
    assert load(tmp_path, in_file("").replace("fast", "no")).engines[0].engine == "no"
    with pytest.raises(UserError, match=r"on: unknown key 'on'"):
        load(tmp_path, in_file("on: 3\n"))


FLOATS = [
    "engines.0.hint.start_s", "engines.0.hint.tokens_per_s.1", "workloads.0.duration_s",
    "workloads.0.rate", "workloads.0.burstiness", "workloads.0.ramp_s", "price.usd_per_hour",
    "price.usd_per_gpu_hour", "ready_timeout_s", "request_timeout_s", "calibration_s",
    "scrape_interval_s", "sample_interval_s",
]  # fmt: skip


@pytest.mark.parametrize("key", FLOATS)
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, "inf", "nan", True, 1e300])
def test_every_number_is_a_finite_one_that_a_clock_can_hold(key, value):
    data = copy.deepcopy(SMALLEST) | {"price": {"source": "x"}}
    data["engines"][0]["hint"] = {"tokens_per_s": {}}
    load = data["workloads"][0]
    if key.startswith("workloads") and "ramp_s" not in key:
        del load["concurrency"]
        load |= {"rate": [1.0], "arrivals": "gamma"}
    section = data
    *path, last = key.split(".")
    for part in path:
        section = section[0] if part == "0" else section.setdefault(part, {})
    section[int(last) if last == "1" else last] = [value] if last == "rate" else value
    if not key.startswith("price"):
        del data["price"]
    if "tokens_per_s" not in key:
        del data["engines"][0]["hint"]["tokens_per_s"]
    found = mistake(data)
    assert last in found.split(": ")[0] or "[1]" in found, found
    assert "(and" not in found


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"concurrency": [10**9]}, "input should be less than or equal to 65536"),
        ({"min_requests": 10**9}, "expected at most 10,000,000 requests a level, found 1e+09"),
        ({"requests_per_stream": 10**9}, "expected at most 10,000,000 requests a level"),
        ({"prompt_tokens": 10**9, "min_requests": 50}, "at most 1,000,000,000 prompt tokens"),
        ({"prompt_tokens": 10**12}, "input should be less than or equal to 2147483647"),
        ({"concurrency": [], "rate": [1e9]}, "expected at most 10,000,000 requests a level"),
        ({"concurrency": [], "rate": [1e-9]}, "at most 10,000,000 seconds a level, found 1e+09"),
        ({"concurrency": [], "rate": [1000000, 1000001]}, "a level is there twice"),
        ({"name": "w" * 200}, "string should have at most 100 characters"),
    ],
)
def test_a_workload_that_no_machine_can_hold_is_refused(change, found):
    data = copy.deepcopy(SMALLEST)
    data["workloads"][0] |= change
    data["workloads"][0] = {k: v for k, v in data["workloads"][0].items() if v != []}
    assert found in mistake(data)


def test_a_study_of_too_many_cells_is_refused():
    assert "expected at most 100,000 cells" in mistake(SMALLEST | {"trials": 10**6})


def test_a_seed_is_one_that_an_engine_can_be_sent():
    assert study_file.parse(SMALLEST | {"seed": 2**63 - 1}, "x").seed == 2**63 - 1
    assert mistake(SMALLEST | {"seed": 2**63}).startswith("seed: input should be less than")


KEYS = st.sampled_from([*study_file.Study.model_fields, *Workload.model_fields, "x"])
SCALARS = st.sampled_from([
    "1", "-1", "1e3", "010", "1:30", ".inf", ".nan", "no", "true", "null", "~", "x", "*a", "<<",
    "=", "{}", "[]", "|", "!!int x", "!!binary aa", "&a b", "? x", '"\\ud83d"', "2024-01-01", "'a'",
])  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.dictionaries(st.one_of(KEYS, SCALARS), inner, max_size=4).map(
            lambda items: "{" + ", ".join(f"{key}: {value}" for key, value in items.items()) + "}"
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(), st.lists(st.tuples(KEYS, VALUES), max_size=6)), st.booleans())
def test_any_text_is_a_study_or_one_line(tmp_path_factory, lines, has_start):
    text = lines if isinstance(lines, str) else "\n".join(f"{k}: {v}" for k, v in lines)
    file = tmp_path_factory.mktemp("study") / "any.yaml"
    file.write_bytes((in_file(text) if has_start else text).encode("utf-8", "surrogatepass"))
    try:
        study_file.load(file)
    except UserError as error:
        assert error.message.startswith(str(file))
        assert "\n" not in error.message


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

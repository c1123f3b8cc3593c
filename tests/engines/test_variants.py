"""variants.yaml: what is read, what is refused, and what several variants add up to."""

from pathlib import Path

import pytest
from packaging.version import Version
from project import ROOT

from enginebench.base.errors import UserError
from enginebench.engines import directory, variants
from enginebench.engines.interpolation import as_text, interpolate
from enginebench.engines.variants import Declared, Needs

KNOWN = ("MODE", "LEVEL", "DRAFT_MODEL")
ENTRY = """\
fast:
  optimization: haste
  turns: on
  settings: {MODE: fast, LEVEL: 010}
  needs: {device: cuda, capability: 8.9, version: ">=0.24"}
  resolved:
    - {log: "mode=(\\\\w+)", equals: fast}
    - {no_log: slow}
    - {metric: "info[mode]", equals: "fast"}
    - {page: "/config?all=1", has: '"mode": "fast"'}
  source: https://example.org/fast
"""
GOOD = {"optimization": "haste", "turns": "on", "source": "https://example.org"}


def read(tmp_path, text=ENTRY):
    (tmp_path / "variants.yaml").write_text(text)
    return variants.read(tmp_path, KNOWN)


def refusal(tmp_path, text):
    with pytest.raises(UserError) as caught:
        read(tmp_path, text)
    assert "\n" not in caught.value.message
    return caught.value.message.removeprefix(f"{tmp_path}/")


def declared(**changes):
    return Declared.model_validate(GOOD | changes)


def combined(names, own=None, **known):
    return variants.combine(names.split("+"), known, own or {}, "s.yaml: engines[0].engine: a")


def test_an_engine_without_the_file_declares_none(tmp_path):
    assert variants.read(tmp_path, KNOWN) == {}


def test_a_variant_is_read_with_the_text_of_its_settings_as_it_is_written(tmp_path):
    (name,) = found = read(tmp_path)
    variant = found[name]
    assert (name, variant.turns, variant.sets) == ("fast", "on", "MODE=fast, LEVEL=010")
    assert variant.needs == Needs(device="cuda", capability=8.9, version=">=0.24")
    assert [condition.expected for condition in variant.resolved] == [
        "'mode=(\\\\w+)' in server.log to give 'fast'",
        "no 'slow' in server.log",
        "the metric info[mode] to be 'fast'",
        '\'"mode": "fast"\' on /config?all=1',
    ]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("turns: on", "turns: up", "fast.turns: input should be 'on' or 'off', found 'up'"),
        ("  optimization: haste\n", "", "fast.optimization: field required"),
        ("  source: https://example.org/fast\n", "", "fast.source: field required"),
        ("https://example.org/fast", "by heart", "fast.source: string should match"),
        ("settings: {MODE", "settings: {MOOD", "settings.MOOD: launch.yaml has no variable of thi"),
        ("settings: {MODE", "settings: {MOOD", "did you mean 'MODE'?"),
        ("needs:", "neds:", "fast.neds: unknown key; see docs/adding-an-engine.md"),
        ("device: cuda", "device: tpu", "fast.needs.device: input should be 'cpu' or 'cuda'"),
        ("capability: 8.9", "capability: ada", "fast.needs.capability: input should be a valid n"),
        ('">=0.24"', "newest", "fast.needs.version: expected versions such as >=0.24, found 'new"),
        ("equals: fast}\n", "equals: 5}\n", "fast.resolved[0].equals: input should be a valid str"),
        ("mode=(", "mode=((", "resolved[0]: expected a regular expression, found"),
        (
            "mode=(\\\\w+)",
            "mode=\\\\w+",
            "resolved[0]: expected one group in the pattern, for equal",
        ),
        (
            "{no_log: slow}",
            "{no_log: slow, log: fast}",
            "resolved[1]: expected one of log, no_log,",
        ),
        (
            "{no_log: slow}",
            "{}",
            "resolved[1]: expected one of log, no_log, metric and page, found",
        ),
        (', equals: "fast"}', "}", "fast.resolved[2]: expected equals with metric"),
        ("has: ", "no_log: ", "fast.resolved[3]: expected one of log, no_log, metric and page"),
        (', has: \'"mode": "fast"\'', "", "resolved[3]: expected has with page, and only there"),
        ("fast:\n", "Fast One:\n", "'Fast One': expected a name of lower-case letters"),
        ("fast:\n", "fast: {}\nfast:\n", "variants.yaml:2: expected plain YAML, found the key"),
    ],
)
def test_a_mistake_is_one_line_with_the_file_and_the_key(tmp_path, old, new, says):
    assert old in ENTRY
    found = refusal(tmp_path, ENTRY.replace(old, new, 1))
    assert found.startswith("variants.yaml:") and says in found, found


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "found an empty file"), ("[a]\n", "found a list"), ("a: 5\n", "a: input should be a")],
)
def test_a_file_of_another_form_is_refused(tmp_path, text, says):
    assert says in refusal(tmp_path, text)


def test_a_draft_model_needs_a_place_for_its_path(tmp_path):
    text = "a: {optimization: b, turns: on, draft: draft, source: https://c}\n"
    assert read(tmp_path, text)["a"].draft == "draft"
    (tmp_path / "variants.yaml").write_text(text)
    with pytest.raises(UserError, match=r"a\.draft: expected a variable DRAFT_MODEL in launch"):
        variants.read(tmp_path, ("MODE",))


def test_variants_that_agree_add_up():
    fast = declared(settings={"MODE": "fast", "LEVEL": 1})
    small = declared(settings={"LEVEL": "1"}, weights="w8a8")
    found = combined("fast+small", fast=fast, small=small)
    assert (list(found.parts), dict(found.settings)) == (
        ["fast", "small"],
        {"MODE": "fast", "LEVEL": "1"},
    )
    assert (found.weights, found.draft) == ("w8a8", None)


@pytest.mark.parametrize(
    ("names", "own", "says"),
    [
        ("slow", {}, "engine: a: this engine declares no variant 'slow'; known: fast, faster, w"),
        ("fasst", {}, "declares no variant 'fasst'; did you mean 'fast'?"),
        (
            "fast+faster",
            {},
            "fast sets MODE to 'fast' and faster to 'faster'; expected variants th",
        ),
        ("w8+w4", {}, "w8 sets weights to 'w8a8' and w4 to 'w4a16'"),
        ("fast", {"MODE": "slow"}, "fast sets MODE to 'fast' and its own settings to 'slow'"),
    ],
)
def test_variants_that_do_not_go_together_are_refused(names, own, says):
    known = {
        "fast": declared(settings={"MODE": "fast"}),
        "faster": declared(settings={"MODE": "faster"}),
        "w8": declared(weights="w8a8"),
        "w4": declared(weights="w4a16"),
    }
    with pytest.raises(UserError) as caught:
        combined(names, own, **known)
    assert says in caught.value.message


def test_the_path_of_a_draft_model_stands_in_the_settings_that_name_it():
    text = '{"model": "${DRAFT_MODEL}", "n": 3}'
    spec = declared(draft="draft", settings={"MODE": text, "LEVEL": 3})
    found = combined("spec", spec=spec)
    assert found.settings_with(Path("/m/draft")) == {
        "DRAFT_MODEL": "/m/draft",
        "MODE": '{"model": "/m/draft", "n": 3}',
        "LEVEL": 3,
    }
    assert combined("a", a=declared(settings={"MODE": "x"})).settings_with(None) == {"MODE": "x"}


def test_a_setting_that_a_variant_names_is_that_of_the_study_and_required():
    known = {"spec": declared(settings={"MODE": '{"head": "${HEAD}"}', "LEVEL": 3})}
    found = combined("spec", {"HEAD": "org/head"}, **known)
    assert dict(found.settings) == {"MODE": '{"head": "org/head"}', "LEVEL": 3}
    with pytest.raises(UserError) as caught:
        combined("spec", **known)
    assert caught.value.message == (
        "s.yaml: engines[0].engine: a: spec needs HEAD; expected it under settings of this entry, "
        "found none"
    )


def test_a_study_may_set_what_a_variant_of_this_repository_asks_for():
    assert "EAGLE_HEAD" in directory.load_engine(ROOT, "vllm").settings


@pytest.mark.parametrize(
    ("needs", "device", "capability", "version", "lack"),
    [
        ({}, "cpu", None, None, None),
        ({"device": "cuda"}, "cuda", None, None, None),
        ({"device": "cuda"}, "cpu", None, None, "needs the device cuda, this study runs on cpu"),
        ({"capability": 8.9}, "cpu", None, None, None),
        ({"capability": 8.9}, "cuda", 9.0, None, None),
        ({"capability": 8.9}, "cuda", None, None, None),
        ({"capability": 8.9}, "cuda", 8.0, None, "needs compute capability 8.9, the GPU has 8.0"),
        ({"capability": 8.9}, "cuda", 12.0, None, None),
        ({"version": ">=0.24"}, "cpu", None, "0.32.0", None),
        ({"version": ">=0.24"}, "cpu", None, None, None),
        ({"version": "<1.3"}, "cpu", None, "1.3.0", "the engine's version <1.3, it is 1.3.0"),
        ({"version": ">=0.24"}, "cpu", None, "0.9.1", "the engine's version >=0.24, it is 0.9.1"),
    ],
)
def test_what_is_needed_and_not_there_is_said(needs, device, capability, version, lack):
    number = None if version is None else Version(version)
    found = variants.unmet(Needs(**needs), device, capability, number)
    assert (found is None) if lack is None else lack in found


@pytest.mark.parametrize(
    ("device", "flags", "is_met"),
    [
        ("cpu", {"avx2"}, False),
        ("cpu", {"amx_tile"}, True),
        ("cpu", (), True),
        ("cuda", {"x"}, True),
    ],
)
def test_what_only_some_processors_can_do_is_asked_of_those_that_say_it(device, flags, is_met):
    found = variants.unmet(Needs(cpu_flag="amx_tile"), device, None, None, flags)
    assert found == (None if is_met else "needs processors with amx_tile, these have none")


OF_REPOSITORY = [
    (engine, name)
    for engine in directory.find_engines(ROOT)
    for name in directory.load_engine(ROOT, engine).declared
]


GIVEN = {"EAGLE_HEAD": "/e"}  # what a variant asks a study for


def resolved(engine, settings):
    values = {"MODEL": "/m", "DRAFT_MODEL": "/d"} | {n: as_text(v) for n, v in settings.items()}
    return [interpolate(text, values, "") for text in engine.interpolated]


#: A rung of a ladder needs a name, and so does what is to be checked.
NAMES_THE_DEFAULT = {("baseline", "naive"), ("vllm", "chunked-prefill")}


@pytest.mark.parametrize(("engine", "name"), OF_REPOSITORY)
def test_every_variant_of_this_repository_changes_what_is_started(engine, name):
    loaded = directory.load_engine(ROOT, engine)
    given = {key: GIVEN[key] for key in loaded.declared[name].asks}
    combined = variants.combine([name], loaded.declared, given, "")
    draft = Path("/d") if combined.draft else None
    settings = combined.settings_with(draft)
    assert settings or combined.weights
    if combined.settings:
        changed = resolved(loaded, settings) != resolved(loaded, {})
        assert changed or combined.weights or (engine, name) in NAMES_THE_DEFAULT


#: Optimization -> the variant that turns it, by the same name in every engine that has it.
NAMES = ("one-sequence", "eager", "no-chunked-prefill", "prefix-cache", "kv-fp8", "ngram")


@pytest.mark.parametrize("engine", ["tgi", "trtllm", "vllm"])
def test_the_same_optimization_has_the_same_name_in_every_engine(engine):
    assert set(NAMES) <= set(directory.load_engine(ROOT, engine).declared)

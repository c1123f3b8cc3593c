"""Studies of declared variants, against doubles: refused, applied, left out, without effect."""

import json
import sys
from types import SimpleNamespace

import pytest
import yaml
from project import (
    ROOT,
    add_engine,
    enginebench,
    make_project,
    metrics,
    problems,
    result,
    run_study,
    study,
    write_study,
)

from enginebench.engines.directory import load_engine
from enginebench.plan import models, study_file
from enginebench.record import reading
from enginebench.run import applied, prepare

SOURCE = "https://example.org"
DECLARED = {
    "bright": {
        "optimization": "brightness",
        "turns": "on",
        "settings": {"FEATURE": "bright"},
        "resolved": [
            {"log": r"feature=(\w+)", "equals": "bright"},
            {"metric": "double_info[feature]", "equals": "bright"},
            {"page": "/version", "has": '"version"'},
        ],
        "source": SOURCE,
    },
    "dark": {
        "optimization": "brightness",
        "turns": "off",
        "settings": {"FEATURE": "dark"},
        "source": SOURCE,
    },
    "on-gpu": {
        "optimization": "GPU",
        "turns": "on",
        "needs": {"device": "cuda"},
        "settings": {"FEATURE": "gpu"},
        "source": SOURCE,
    },
    "newer": {
        "optimization": "age",
        "turns": "on",
        "needs": {"version": ">=2"},
        "settings": {"FEATURE": "new"},
        "source": SOURCE,
    },
    "small": {"optimization": "size", "turns": "on", "weights": "w8a8", "source": SOURCE},
    "guess": {
        "optimization": "guessing",
        "turns": "on",
        "draft": "draft",
        "settings": {"FEATURE": "${DRAFT_MODEL}"},
        "source": SOURCE,
    },
}
ONE = [study()["workloads"][0]]


@pytest.fixture
def project(tmp_path):
    root = make_project(tmp_path, "alpha", "beta")
    (root / "alpha" / "variants.yaml").write_text(yaml.safe_dump(DECLARED))
    return root


def launch(project, label):
    (file,) = (result(project) / "raw").glob(f"trial1_{label.replace('/', '_')}/launch.json")
    return json.loads(file.read_text())


def refused(project, verb, *engines, **changes):
    write_study(project, study(*engines, **changes))
    done = enginebench(verb, "test", "--root", project, cwd=project)
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert not (project / "results").exists()
    return line


def test_a_declared_variant_is_applied_and_its_effect_is_on_record(project, cache):
    engines = ({"engine": "alpha"}, {"engine": "alpha@bright"})
    done = run_study(project, cache, study(*engines, workloads=ONE))
    assert done.returncode == 0, done.stderr
    assert {c["label"] for c in metrics(project)["cells"]} == {"alpha/default", "alpha/bright"}
    facts = launch(project, "alpha/bright")
    assert (facts["engine"], facts["variant"]) == ("alpha", "bright")
    assert (facts["declared"], facts["settings"]) == (["bright"], {"FEATURE": "bright"})
    assert "--feature=bright" in facts["command"]
    assert [(row["found"], row["holds"]) for row in facts["resolved"]] == [
        ("bright", True),
        ("bright", True),
        ('"version"', True),
    ]
    assert launch(project, "alpha/default")["resolved"] == []
    (_, variant) = reading.read_study(result(project)).study.engines
    assert (variant.engine, variant.declared) == ("alpha", ["bright"])
    report = (result(project) / "derived" / "report.md").read_text()
    assert "- *effect*: all that the variant turns on or off took effect" in report


def test_a_flag_that_is_accepted_and_ignored_makes_every_cell_of_that_start_invalid(project, cache):
    engines = (
        {"engine": "alpha@bright"},
        {"engine": "alpha@bright", "variant": "deaf", "settings": {"BEHAVIOUR": "ignores-flag"}},
    )
    done = run_study(project, cache, study(*engines))
    assert done.returncode == 1
    assert problems(project, "alpha", "bright") == [""] * 3
    texts = problems(project, "alpha", "deaf")
    assert len(texts) == 3
    for text in texts:
        assert (
            "bright (FEATURE=bright) did not take effect: expected 'feature=(\\\\w+)' in "
            "server.log to give 'bright', found none" in text
        ), text
        assert "expected the metric double_info[feature] to be 'bright', found none" in text
    assert "alpha/deaf: bright (FEATURE=bright) did not take effect" in done.stdout + done.stderr


@pytest.mark.parametrize("verb", ["plan", "study"])
@pytest.mark.parametrize(
    ("engine", "says"),
    [
        ("alpha@brigth", "engines[0].engine: alpha: this engine declares no variant 'brigth'; did"),
        ("beta@bright", "beta: this engine declares no variant 'bright'; it has no variants.yaml"),
        ("alpha@bright+dark", "bright sets FEATURE to 'bright' and dark to 'dark'"),
        ("alpha@", "engines[0]: expected engine@variant or engine@variant+variant, each variant"),
        ("alpha@dark+dark", "each variant once, found 'alpha@dark+dark'"),
        ("alpha@on-gpu", "alpha/on-gpu: on-gpu needs the device cuda, this study runs on cpu"),
    ],
)
def test_what_cannot_be_is_one_line_before_anything_starts(project, verb, engine, says):
    assert says in refused(project, verb, {"engine": engine})


def test_a_version_that_the_engine_has_not_is_refused_before_it_is_installed(project, tmp_path):
    file = project / "alpha" / "launch.yaml"
    pinned = [["--no-index", "double==1.9"]]  # pip would fail
    data = yaml.safe_load(file.read_text()) | {"x-version-of": ["double"]}
    data["x-native"]["environment"]["cpu"] = pinned
    file.write_text(yaml.safe_dump(data))
    line = refused(project, "study", {"engine": "alpha@newer"})
    assert "alpha/newer: newer needs the engine's version >=2, it is 1.9" in line
    assert "skip_unmet: true" in line


def test_what_this_machine_cannot_run_is_left_out_with_the_reason_where_the_study_says_so(
    project, cache
):
    only_in_containers = add_engine(project, "gamma") / "launch.yaml"
    data = yaml.safe_load(only_in_containers.read_text())
    del data["x-native"]
    only_in_containers.write_text(yaml.safe_dump(data))
    engines = ({"engine": "alpha@on-gpu"}, {"engine": "gamma"}, {"engine": "alpha@dark"})
    asked = study(*engines, workloads=ONE, skip_unmet=True)
    done = run_study(project, cache, asked)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("  left out")]
    assert lines[0].split(maxsplit=3)[2:] == [
        "alpha/on-gpu",
        "on-gpu needs the device cuda, this study runs on cpu",
    ]
    assert "gamma/default" in lines[1] and "no x-native key" in lines[1]
    recorded = reading.read_study(result(project))
    assert [left.label for left in recorded.left_out] == ["alpha/on-gpu", "gamma/default"]
    assert [variant.label for variant in recorded.study.engines] == ["alpha/dark"]
    report = (result(project) / "derived" / "report.md").read_text()
    assert "alpha/on-gpu was left out, as this machine cannot run it: on-gpu needs the" in report
    planned = enginebench("plan", "test", "--root", project, cwd=project).stdout
    assert "left out alpha/on-gpu" in planned and "left out gamma/default" in planned


def test_a_study_of_which_nothing_can_run_or_not_its_reference_is_refused(project):
    gpu = {"engine": "alpha@on-gpu"}
    line = refused(project, "plan", gpu, skip_unmet=True)
    assert "test: expected a variant that this machine can run, found none" in line
    changes = {"skip_unmet": True, "reference": "alpha/on-gpu"}
    line = refused(project, "plan", gpu, {"engine": "beta"}, **changes)
    assert "reference alpha/on-gpu: cannot run here: on-gpu needs the device cuda" in line


def test_engines_lists_the_declared_variants(project):
    out = enginebench("engines", "--root", project, cwd=project).stdout.splitlines()
    assert "  alpha@bright  brightness: on" in out


@pytest.fixture
def derived(monkeypatch, tmp_path):
    """Derived models are a copy of the model under another name; the kinds that were asked for."""
    asked = []

    def derive(model, kind, cache):
        asked.append(kind)
        copy = tmp_path / f"{model.name}-{kind}"
        copy.mkdir()
        for file in model.iterdir():
            if file.is_file():
                (copy / file.name).write_bytes(file.read_bytes())
        config = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps(config | {"made": kind}))
        return copy

    fake = SimpleNamespace(derive=derive)
    monkeypatch.setitem(sys.modules, "enginebench.plan.derived_models", fake)
    monkeypatch.setattr("enginebench.plan.derived_models", fake, raising=False)
    return asked


def of_variants(project, model, *engines, in_containers=False):
    asked = study_file.parse(study(*({"engine": name} for name in engines)), "s.yaml")
    loaded = {v.engine: load_engine(project, v.engine) for v in asked.engines}
    return applied.of_variants(asked, loaded, model, project, in_containers, lambda text: None)


def test_a_derived_copy_is_made_once_and_given_to_its_engine_only(project, derived, embedded_model):
    model = models.resolve(str(embedded_model), [], project)
    found = of_variants(project, model, "alpha", "alpha@small", "alpha@small+dark", "alpha@guess")
    assert derived == ["w8a8", "draft"]
    plain, small, both, guess = found.values()
    assert (plain.model_path, plain.model, plain.draft) == (model.path, None, None)
    assert small.model_path == both.model_path != model.path
    assert small.model.name == f"{model.name}+w8a8"
    assert small.model.config["made"] == "w8a8" and small.model.sha256 != model.sha256
    assert both.settings == {"FEATURE": "dark"}
    assert (guess.model_path, guess.model) == (model.path, None)
    path = str(guess.draft.path)
    assert guess.settings == {"DRAFT_MODEL": path, "FEATURE": path}


def test_a_container_finds_the_draft_inside_the_one_directory_that_it_sees(
    project, derived, embedded_model, tmp_path
):
    here = tmp_path / "model"
    here.mkdir()
    for file in embedded_model.iterdir():
        (here / file.name).write_bytes(file.read_bytes())
    model = models.resolve(str(here), [], project)
    (guess,) = of_variants(project, model, "alpha@guess", in_containers=True).values()
    inside = guess.model_path / "draft"
    assert guess.settings["DRAFT_MODEL"] == str(inside)
    assert json.loads((inside / "config.json").read_text())["made"] == "draft"
    assert (guess.model_path / "model.safetensors").samefile(here / "model.safetensors")
    assert guess.model_path != here and not (here / "draft").exists()


def test_every_engine_of_this_repository_is_read_with_its_variants():
    assert {"eager", "w8a8", "draft-model"} <= set(load_engine(ROOT, "vllm").declared)


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_study_of_this_repository_names_variants_that_are_there(path):
    found = study_file.load(path)
    engines = prepare.load_engines(found, ROOT, path.name)
    assert set(engines) == {variant.engine for variant in found.engines}

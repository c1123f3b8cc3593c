"""The named variants of an engine directory are of the form that a study reads."""

import re

import pytest
from project import ROOT

from enginebench.base import yaml_file
from enginebench.engines.directory import load_engine
from enginebench.plan.derived_models import KINDS

FILE = ROOT / "baseline" / "variants.yaml"
VARIANTS = yaml_file.parse(FILE.read_text(), str(FILE), "settings")


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_states_its_optimization_its_settings_and_how_it_shows(name):
    variant = VARIANTS[name]
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]*", name)
    allowed = {"optimization", "turns", "settings", "weights", "draft", "needs", "resolved"}
    assert set(variant) <= allowed | {"source"}
    assert variant["optimization"] and variant["turns"] in ("on", "off")
    assert variant["source"].startswith("https://")
    assert all(isinstance(value, str) for value in variant["settings"].values())
    assert {variant.get("weights", "easy"), variant.get("draft", "draft")} <= set(KINDS)
    assert variant["resolved"]
    for condition in variant["resolved"]:
        assert set(condition) in ({"log"}, {"no_log"}, {"metric", "equals"})


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_sets_only_what_the_engine_has(name):
    settings = set(VARIANTS[name]["settings"])
    if "draft" in VARIANTS[name]:
        settings.add("DRAFT_MODEL")
    assert settings <= load_engine(ROOT, "baseline").variables

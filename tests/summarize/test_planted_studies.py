"""The attribution finds what ``benchmarks/attributed_studies.py`` plants, in fewer studies."""

import importlib.util
import sys

import numpy as np
import pytest
from project import ROOT


@pytest.fixture
def planted():
    path = ROOT / "benchmarks" / "attributed_studies.py"
    spec = importlib.util.spec_from_file_location("attributed_studies", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def broken(planted, studies=40):
    """How many kinds of interval hold too rarely, or too often."""
    draw, ledger = np.random.default_rng(18), planted.Ledger()
    for trials, sd, is_missing in ((3, 0.03, True), (5, 0.10, False)):
        for _ in range(studies):
            planted.judge(ledger, *planted.study(planted.STEPS, trials, sd, is_missing, draw))
    for kind, shares in ledger.held.items():
        ledger.row(kind, shares, planted.BOUNDS[kind])
    assert ledger.held.keys() == planted.BOUNDS.keys()
    return ledger.broken


def test_intervals_hold_what_was_planted_as_often_as_they_say(planted):
    assert broken(planted) == 0


def test_a_step_that_is_not_what_was_planted_breaks_the_bounds(planted, monkeypatch):
    planted_study = planted.study

    def other(steps, *rest):  # a tenth more in the first step than judged by
        return planted_study([steps[0] + 0.1, *steps[1:]], *rest)

    monkeypatch.setattr(planted, "study", other)
    assert broken(planted) >= 3

"""Acceptance from an engine's counters: their growth over a cell."""

import pytest

from enginebench.metrics import metrics_page, speculation
from enginebench.metrics.speculation import Drafts

NAMES = {
    "drafts_total": ("made_drafts_total",),
    "draft_tokens_total": ("made_tokens_total",),
    "draft_tokens_accepted_total": ("made_accepted_total",),
}


def page(drafts, tokens, accepted):
    values = {"drafts": drafts, "tokens": tokens, "accepted": accepted}
    lines = [f"made_{name}_total {value}" for name, value in values.items() if value is not None]
    return metrics_page.read(200, "\n".join(lines) + "\n", NAMES)


def test_acceptance_is_of_the_cell_and_not_of_what_came_before():
    # In the cell: 20 drafts of 3 tokens, 24 of 60 accepted. 24 / 60 = 0.4; 1 + 24 / 20 = 2.2.
    found = speculation.figures(page(100, 300, 290), page(120, 360, 314))
    assert found == {
        "drafts": 20,
        "draft_tokens": 60,
        "draft_tokens_accepted": 24,
        "draft_acceptance": pytest.approx(0.4),
        "draft_step_tokens": pytest.approx(2.2),
    }


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (page(100, 300, 290), page(5, 15, 3)),  # started again in between
        (page(1, 3, 0), page(2, 6, None)),  # one counter is not there
        (page(None, None, None), page(None, None, None)),  # none is: it does not speculate
        (page(0, 0, 0), page(2, 6, 7)),  # more accepted than proposed
    ],
)
def test_counters_that_fell_are_missing_or_disagree_are_not_measured(first, last):
    found = speculation.figures(first, last)
    assert found["draft_acceptance"] is None
    assert found["draft_step_tokens"] is None


def test_no_draft_is_no_acceptance_of_0():
    found = speculation.figures(page(7, 21, 3), page(7, 21, 3))
    assert found["drafts"] == 0
    assert found["draft_acceptance"] is found["draft_step_tokens"] is None


def test_an_engine_without_such_counters_has_none_of_the_figures():
    assert speculation.figures({"output_tokens_total": 1.0}, {"output_tokens_total": 9.0}) == {}


def test_trials_are_added_up_and_one_that_was_not_measured_leaves_no_sum():
    one = speculation.figures(page(0, 0, 0), page(10, 30, 6))
    two = speculation.figures(page(0, 0, 0), page(30, 90, 54))
    assert speculation.together([one, two]) == Drafts(40, 120, 60)
    assert speculation.together([one, {"drafts": None}]) is None
    assert speculation.together([]) is None

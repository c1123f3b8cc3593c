"""What became of the tokens that speculative decoding proposed, by the engine's counters. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from enginebench.metrics import metrics_page
from enginebench.metrics.figures import Figures

#: A figure of a cell -> the counter whose growth it is.
COUNTERS = {
    "drafts": "drafts_total",
    "draft_tokens": "draft_tokens_total",
    "draft_tokens_accepted": "draft_tokens_accepted_total",
}


@dataclass(frozen=True, slots=True)
class Drafts:
    """The drafts that were checked, each in one step of one request."""

    drafts: float
    proposed: float  # tokens
    accepted: float  # tokens of these

    @property
    def acceptance(self) -> float | None:
        """Accepted over proposed tokens, 0 to 1; None: nothing was proposed."""
        return self.accepted / self.proposed if self.proposed else None

    @property
    def step_tokens(self) -> float | None:
        """Mean tokens of a step that checked a draft: the accepted ones, and the model's own.

        vLLM logs the same as its mean acceptance length (vllm/v1/spec_decode/metrics.py).
        """
        return 1 + self.accepted / self.drafts if self.drafts else None


def figures(first: Figures, last: Figures) -> dict[str, float | None]:
    """The figures of a cell between two metrics pages; None is "not measured".

    Empty where none of the counters is a metric of the engine.
    """
    if first.keys().isdisjoint(COUNTERS.values()):
        return {}
    grown = {
        name: metrics_page.difference(first, last, counter) for name, counter in COUNTERS.items()
    }
    found = of_figures(grown)
    return grown | {
        "draft_acceptance": found.acceptance if found else None,
        "draft_step_tokens": found.step_tokens if found else None,
    }


def of_figures(cell: Figures) -> Drafts | None:
    """The drafts of a cell by its figures; None: not measured, or counters that disagree."""
    drafts, proposed, accepted = (cell.get(name) for name in COUNTERS)
    if drafts is None or proposed is None or accepted is None or accepted > proposed:
        return None
    return Drafts(drafts, proposed, accepted)


def together(cells: Iterable[Figures]) -> Drafts | None:
    """The drafts of several cells; None: there is no cell, or those of one are not measured."""
    found = [of_figures(cell) for cell in cells]
    known = [drafts for drafts in found if drafts is not None]
    if not known or len(known) < len(found):
        return None
    return Drafts(
        sum(one.drafts for one in known),
        sum(one.proposed for one in known),
        sum(one.accepted for one in known),
    )

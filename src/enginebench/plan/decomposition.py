"""The decompositions of a study file: which variants show what each optimization gains."""

from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import Field, model_validator

from enginebench.plan.limits import Name
from enginebench.plan.section import Section

MOST_SWITCHES = 6  # 64 variants

Words = Annotated[str, Field(pattern=r"^\S(.*\S)?$", max_length=60)]  # a name as people read it


class Rung(Section):
    """One step of a ladder: the variant that has one change more than the rung before it."""

    name: Words  # of the change
    run: str  # engine/variant of this study


class Decomposition(Section):
    """A ladder of changes made one after another, switches in all combinations, or both."""

    name: Name
    title: str = ""
    ladder: list[Rung] = []
    switches: list[Words] = []
    runs: dict[str, list[Words]] = {}  # engine/variant -> the switches that are on there

    @property
    def labels(self) -> list[str]:
        """The variants that it names."""
        return list(dict.fromkeys((*(rung.run for rung in self.ladder), *self.runs)))

    @model_validator(mode="after")
    def _complete(self) -> "Decomposition":
        if not self.ladder and not self.switches and not self.runs:
            raise ValueError("expected a ladder, or switches and runs, found neither")
        if len(self.ladder) == 1:
            raise ValueError("expected at least two rungs on the ladder, found one")
        if bool(self.switches) != bool(self.runs):
            found = "switches" if self.switches else "runs"
            raise ValueError(f"expected switches and runs together, found {found} only")
        if len(self.switches) > MOST_SWITCHES:
            found = f"{len(self.switches)}"
            raise ValueError(f"expected at most {MOST_SWITCHES} switches, found {found}")
        for kind, names in (
            ("rung", [rung.name for rung in self.ladder]),
            ("run", [rung.run for rung in self.ladder]),
            ("switch", self.switches),
        ):
            if twice := _twice(names):
                raise ValueError(f"the {kind} {twice!r} appears twice; name each once")
        self._require_subsets()
        return self

    def _require_subsets(self) -> None:
        """Each combination of switches at most once, with that of none and that of all."""
        taken: dict[frozenset[str], str] = {}
        for label, on in self.runs.items():
            if unknown := [name for name in on if name not in self.switches]:
                raise ValueError(
                    f"{label} has {unknown[0]!r} on, which is none of the switches "
                    f"({', '.join(self.switches)})"
                )
            if twice := _twice(on):
                raise ValueError(f"{label} has {twice!r} on twice; name it once")
            if other := taken.get(frozenset(on)):
                names = ", ".join(on) or "nothing"
                raise ValueError(f"{other} and {label} both have {names} on; keep one of them")
            taken[frozenset(on)] = label
        if not self.switches:
            return
        for what, on in (("none", []), ("all", self.switches)):
            if frozenset(on) not in taken:
                raise ValueError(f"expected a run with {what} of the switches on, found none")


def require_known(decompositions: Sequence[Decomposition], labels: Sequence[str]) -> None:
    """Refuse names that are there twice, and runs that are no variant of the study.

    Raises:
        ValueError: says which.
    """
    if twice := _twice([found.name for found in decompositions]):
        raise ValueError(f"the decomposition {twice!r} appears twice; give each its own name")
    for name, label in _named(decompositions):
        if label not in labels:
            raise ValueError(
                f"the decomposition {name!r} names the run {label!r}, which is none of the "
                f"variants ({', '.join(labels)})"
            )


def _named(decompositions: Sequence[Decomposition]) -> Iterator[tuple[str, str]]:
    for found in decompositions:
        yield from ((found.name, label) for label in found.labels)


def _twice(names: Sequence[str]) -> str | None:
    return next((name for name in names if names.count(name) > 1), None)

"""Types of a study's decompositions, in ``study.json``: what tells which optimization gave what."""

from typing import Annotated

from msgspec import Meta, Struct

from enginebench.record.schema import IDENTIFIER, Identifier


class Rung(Struct, frozen=True, kw_only=True):
    """One step of a ladder: one change more than the rung before it."""

    name: Annotated[Identifier, Meta(description="of the change")]
    run: Annotated[Identifier, Meta(description="engine/variant")]


class Decomposition(Struct, frozen=True, kw_only=True):
    """A ladder of changes, switches in all combinations (or some), or both."""

    name: Identifier
    title: str = ""
    ladder: list[Rung] = []
    switches: Annotated[list[Identifier], Meta(max_length=6)] = []
    runs: Annotated[
        dict[str, list[str]],
        Meta(extra=IDENTIFIER, description="engine/variant -> the switches that are on there"),
    ] = {}

"""The figures of a cell by their names, as ``docs/method.md`` defines them."""

from collections.abc import Mapping

Figures = Mapping[str, float | None]  # SI units; None is "not measured"

"""Variables in the texts of a launch file, replaced as compose does."""

import re
from collections.abc import Mapping

from enginebench.base.errors import UserError

Setting = str | int | float | bool  # what a study may set a variable to

_VARIABLE = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<plain>[A-Za-z_]\w*)"
    r"|\{(?P<name>[A-Za-z_]\w*)(?:(?P<operator>:?[-?])(?P<word>[^}]*))?\})"
)


def variables(text: str) -> set[str]:
    """The names of the variables in a text."""
    matches = _VARIABLE.finditer(text)
    return {name for match in matches if (name := match["name"] or match["plain"])}


def as_text(value: Setting) -> str:
    """The value of a setting as the variable that it becomes."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def interpolate(text: str, values: Mapping[str, str], where: str) -> str:
    """Replace ``${NAME}``, ``${NAME:-default}``, ``${NAME:?message}`` and ``$$`` as compose does.

    Raises:
        UserError: a required variable is not set, or a form is none of these.
    """
    require_known_forms(text, where)

    def replace(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "$"
        name, operator = match["name"] or match["plain"], match["operator"] or ""
        value = values.get(name)
        is_set = value is not None and not (operator.startswith(":") and value == "")
        if is_set:
            return value or ""
        if operator.endswith("-"):
            return str(match["word"])
        if operator.endswith("?"):
            raise UserError(f"{where}: {name} must be set: {match['word']}")
        return ""

    return _VARIABLE.sub(replace, text)


def require_known_forms(text: str, where: str) -> None:
    """Refuse what compose would replace, or refuse, and ``interpolate`` would pass on as it is."""
    is_nested = any("$" in (found["word"] or "") for found in _VARIABLE.finditer(text))
    if is_nested or "$" in _VARIABLE.sub("", text):
        raise UserError(
            f"{where}: expected variables as ${{NAME}}, ${{NAME:-default}} or ${{NAME:?message}}, "
            f"not inside each other, and $$ for a dollar sign, found {text[:120]!r}; write it so"
        )

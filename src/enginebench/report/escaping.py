"""Text from outside (engines, other people's records and files) in a report, so that it stays text.

Every value that the Markdown template prints is escaped unless it is ``Raw``.
"""

import re
from collections.abc import Iterable

from enginebench.base.text import one_line, printable

_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Raw(str):
    """Markdown that is meant as it is."""

    __slots__ = ()


def markdown(value: object) -> Raw:
    """A value as text of one line: no tag, no new cell or row of a table, no link."""
    if isinstance(value, Raw):
        return value
    text = one_line(str(value)).replace("|", "\\|").replace("](", "]\\(")
    if text.count("`") % 2 or "``" in text:
        text = text.replace("`", "\\`")
    return Raw(_TAG.sub("&lt;", text))


def cells(row: Iterable[object]) -> Raw:
    """The cells of a table's row, without the bars at its ends."""
    return Raw(" | ".join(markdown(cell) for cell in row))


def code(text: str) -> Raw:
    """Inline code, whatever is in it."""
    text = one_line(str(text))
    fence = "`" * (_longest_run(text) + 1)
    pad = " " if "`" in text else ""
    return Raw(f"{fence}{pad}{text}{pad}{fence}")


def fenced(text: str, indent: int = 0) -> Raw:
    """A block of code whose fence is longer than any in it."""
    fence = "`" * max(_longest_run(text) + 1, 3)
    lines = [fence, *printable(text).split("\n"), fence]
    return Raw("\n".join(" " * indent + line for line in lines))


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def spreadsheet(text: str) -> str:
    """A text in a cell of a CSV file that no spreadsheet takes for a formula.

    An apostrophe before it makes it text (owasp.org, "CSV Injection").
    """
    return f"'{text}" if text.startswith(_FORMULA) else text


def html(value: object) -> object:
    """A value for a template that escapes tags itself: without control characters."""
    return printable(value) if type(value) is str else value

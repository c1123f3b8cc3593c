"""SVG figures: their values as text to point at, and their form inside a page. Pure."""

import re
from collections.abc import Sequence
from html import escape

_LINE = re.compile(r' d="[^"]*"')
_FINE = re.compile(r"(\d\.\d\d)\d+")

#: Colours of paper, ink and grid in the files -> what the page has for them, light or dark.
THEME = (
    ("fill: #ffffff", "fill: none"),
    ("fill: #000000", "fill: currentColor"),
    ("stroke: #000000", "stroke: currentColor"),
    ("stroke: #e4e4e4", "stroke: var(--line)"),
    ("#777777", "var(--soft)"),
    *((colour, f"var(--{colour[1:]}, {colour})") for colour in ("#0072b2", "#d55e00", "#009e73")),
)


def shortened(text: str) -> str:
    """An SVG whose lines are drawn to a hundredth of a point, as no eye sees more."""
    return _LINE.sub(lambda line: _FINE.sub(r"\1", line[0]), text)


def with_marks(text: str, marks: Sequence[tuple[float, float, str]]) -> str:
    """An SVG with an invisible circle at each mark; browsers show its title on hover.

    Args:
        marks: x and y in points from the upper left corner, and what to say.
    """
    circles = "".join(
        f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="5" fill="none" pointer-events="all">'
        f"<title>{escape(said, quote=False)}</title></circle>\n"
        for x, y, said in marks
    )
    head, end, tail = text.rpartition("</svg>")
    return f"{head}{circles}{end}{tail}"


def inline(text: str) -> str:
    """The SVG as it stands in a page: in the page's colours, without ids that nothing names."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<(metadata|style)\b.*?</\1>\s*", "", text, flags=re.DOTALL)
    used = set(re.findall(r"#([\w-]+)", text))
    text = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", text)
    for theirs, ours in THEME:
        text = text.replace(theirs, ours)
    return re.sub(r"'DejaVu Sans'[^;\"]*", "inherit", text)

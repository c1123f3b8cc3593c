"""How figures are written for people, and how text from outside is shown. Pure."""

import re

#: Whole escape sequences of terminals (ECMA-48: CSI, then OSC and its like, then two-byte ones).
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]{0,4096}(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]"
)
#: C0 and C1 but tab and newline, what turns the direction of writing, and halves of characters.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """A text that moves no cursor and changes no colour; its newlines and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    text = _ESCAPES.sub("", text.replace("\r\n", "\n"))
    return _CONTROLS.sub(lambda found: "\n" if found[0] == "\r" else "", text)


def one_line(text: str) -> str:
    """A text as one line that can be printed."""
    return " ".join(printable(text).split("\n")) if not text.isprintable() else text


def clock(seconds: float) -> str:
    """Seconds as people say them: ``45 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"

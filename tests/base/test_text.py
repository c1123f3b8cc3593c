import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginebench.base.text import one_line, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07a", "a"),
        ("\x1b]8;;http://x\x1b\\a", "a"),
        ("\x1bcreset", "reset"),
        ("\x1b[2J\x1b[Hgone", "gone"),
        ("\x9b31mred", "31mred"),
        ("a\rb", "a\nb"),
        ("a\r\nb\tc", "a\nb\tc"),
        ("bell\x07 back\x08 nul\x00 del\x7f", "bell back nul del"),
        ("\u202eabc\u2066", "abc"),
        ("half \ud83d", "half "),
        ("\x1b", ""),
        ("Grüße 你好 🙂", "Grüße 你好 🙂"),
    ],
)
def test_what_moves_a_cursor_or_changes_a_colour_is_not_shown(text, shown):
    assert printable(text) == shown


@given(st.text())
def test_any_text_becomes_one_line_without_escapes(text):
    found = one_line(text)
    assert not {"\n", "\r", "\x1b", "\x9b", "\x00"} & set(found)
    found.encode()

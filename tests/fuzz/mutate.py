"""Inputs for fuzzing: good ones with parts cut out, doubled, and replaced by what parsers stumble
over."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

LONGEST = 1 << 16  # bytes of an input
CORPUS = Path(__file__).resolve().parent / "corpus"

#: Pieces that some reader somewhere has stumbled over.
COMMON = [
    *(
        b"",
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\r",
        b"\n",
        b"\r\n",
        b"\r\n\r\n",
        b" ",
        b"\t",
        b":",
        b",",
    ),
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b"'",
        b"\\",
        b"\\ud83d",
        b"\\u0000",
        b"\xed\xa0\xbd",
        b"#",
        b"=",
    ),
    *(
        b"null",
        b"true",
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"-1",
        b"0",
        b"1.5",
        b"2147483648",
        b"1e30",
    ),
    *(b"9" * 25, b"1" + b"0" * 400, b"9" * 5000, b"[" * 2000, b'{"a":' * 1000, b"\\" * 300),
    *(
        "é".encode(),
        "😀".encode(),
        "\u2028".encode(),
        "\x85".encode(),
        "\u202e".encode(),
        b"\x1b[31m",
    ),
    *(
        b"<script>",
        b"|",
        b"=1+1",
        b"../../etc/passwd",
        b"%s",
        b"${A:-${B}}",
        b"*a",
        b"&a ",
        b"!!int ",
    ),
]


@st.composite
def mutated(draw: st.DrawFn, seeds: Sequence[bytes], tokens: Sequence[bytes] = ()) -> bytes:
    """A good input of these with a few edits, or any bytes at all."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.binary(max_size=200))
    data = draw(st.sampled_from(list(seeds)))
    pieces = st.one_of(
        st.sampled_from([*COMMON, *tokens]),
        st.sampled_from([*COMMON, *tokens]),
        st.binary(max_size=6),
    )
    # A place is a share of the input, so that an edit means the same while others shrink.
    edits = st.tuples(st.integers(0, 1000), st.integers(0, 40), pieces, st.integers(1, 3))
    for place, removed, piece, times in draw(st.lists(edits, max_size=6)):
        at = place * len(data) // 1000
        data = (data[:at] + piece * times + data[at + removed :])[:LONGEST]
    if draw(st.integers(0, 9)) == 0:
        data = data[: draw(st.integers(0, len(data)))]
    return data


@st.composite
def split(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> tuple[bytes, list[bytes]]:
    """Bytes, and the same in pieces."""
    data = draw(whole)
    if draw(st.integers(0, 9)) == 0 and len(data) < 4096:
        return data, [bytes([byte]) for byte in data]
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=6)))
    edges = [0, *cuts, len(data)]
    return data, [data[a:b] for a, b in itertools.pairwise(edges)]


def seeds(target: str, *paths: Path) -> list[bytes]:
    """The inputs to begin with: files of the tests, and what was found before."""
    found = [path.read_bytes()[:LONGEST] for path in paths]
    return found + [path.read_bytes() for path in sorted((CORPUS / target).glob("*"))]


@st.composite
def changed_json(draw: st.DrawFn, document: Any) -> Any:
    """A JSON value in which a few values at any depth are others, left out, or twice."""
    places = list(_places(document))
    for path in draw(st.lists(st.sampled_from(places), min_size=1, max_size=3)):
        document = _with(document, path, draw(ODD), draw(st.integers(0, 5)) == 0)
    return document


ODD = st.one_of(
    st.sampled_from(
        [
            *(None, True, False, 0, -1, 1.5, 2**31, 2**63, 2**64, 10**30, 1e300, -1e300, 5e-324),
            *("", "a", "\x1b[31m", "<b> | `\n# h", "\ud83d", "9" * 100, "../../x", "nan", "1e999"),
            *([], {}, [[]], [None], [1e300] * 3, {"a": {"b": 1}}, ["a"] * 3, [1, 2, 3], [-1.0]),
        ]
    ),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Any:
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _places(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value[:4]):
            yield from _places(item, (*path, index))


def _with(value: Any, path: tuple[Any, ...], new: Any, is_removed: bool) -> Any:
    """The value with another one at a path; nothing changes where the path is gone."""
    if not path:
        return new
    key, *rest = path
    if isinstance(value, dict) and key in value:
        if not rest and is_removed:
            return {name: item for name, item in value.items() if name != key}
        return value | {key: _with(value[key], tuple(rest), new, is_removed)}
    if isinstance(value, list) and isinstance(key, int) and key < len(value):
        inner = [] if not rest and is_removed else [_with(value[key], tuple(rest), new, is_removed)]
        return [*value[:key], *inner, *value[key + 1 :]]
    return value

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginebench.load.http1 import ResponseReader
from enginebench.load.sse import events, regular_events

STREAM = (
    ": hello\nid: 1\ndata: one\n\nevent: x\ndata: two\ndata: and more\n\n\ndata:  é\n\ndata: end"
)
DATA = ["one", "two\nand more", " é", "end"]


def read(*pieces):
    return [data for _, data in events(enumerate(pieces))]


def stamped(*pieces):
    return list(events((float(time_s), piece) for time_s, piece in enumerate(pieces)))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_may_end_in_lf_crlf_or_cr(end):
    raw = STREAM.replace("\n", end).encode()
    assert read(raw) == DATA
    assert read(*(bytes([byte]) for byte in raw)) == DATA
    for cut in range(len(raw) + 1):
        assert read(raw[:cut], raw[cut:]) == DATA, cut


@pytest.mark.parametrize(
    ("raw", "data"),
    [
        (b"", []),
        (b"\n\n\n", []),
        (b": only a comment\n\n", []),
        (b"event: ping\nid: 7\nretry: 9\n\n", []),
        (b"data:\n\n", []),  # a keep-alive: nothing that a reader could read
        (b"data: \n\ndata: x\n\n", ["x"]),
        (b"data\n\ndata:\ndata\n\n", []),
        (b"data\ndata: x\n\n", ["\nx"]),
        (b"data:  \t\n\n", []),
        (b"\xef\xbb\xbfdata: x\n\n", ["x"]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: x\n\ndata: y\n\n", ["y"]),  # one is not of the stream
        (b"data: \xef\xbb\xbfx\n\n", ["\ufeffx"]),
        (b": \xff\nevent\nid\nretry: x\ndata: x\n\n", ["x"]),
        (b"data:x\n\n", ["x"]),
        (b"data:   x \n\n", ["  x "]),
        (b"database: x\n\n", []),
        (b"data: a: b\n\n", ["a: b"]),
        (b"data: \xff\n\n", ["\ufffd"]),
    ],
)
def test_only_data_fields_make_events(raw, data):
    assert read(raw) == data


def test_an_event_is_stamped_with_the_piece_that_completed_it():
    assert stamped(b"data: a\n", b"\n") == [(1.0, "a")]
    assert stamped(b"da", b"ta: a\n\nda", b"ta: b", b"\n\n") == [(1.0, "a"), (3.0, "b")]


def test_events_that_come_together_have_the_same_time():
    assert stamped(b"", b"data: a\n\ndata: b\n\n") == [(1.0, "a"), (1.0, "b")]


def test_a_comment_after_an_event_does_not_move_its_time():
    assert stamped(b"data: a\n\n", b": ping\n\n") == [(0.0, "a")]


@pytest.mark.parametrize("tail", [b"", b"\n", b"\r\n"])
def test_a_last_event_without_its_empty_line_is_read(tail):
    assert stamped(b"data: a\n\n", b"data: b" + tail) == [(0.0, "a"), (1.0, "b")]


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=12)


@given(st.lists(text, max_size=5), st.sampled_from(["\n", "\r\n", "\r"]), st.data())
def test_any_events_in_any_pieces_are_read_back(data, end, more):
    raw = "".join(f"data: {value}{end}{end}" for value in data).encode()
    cuts = sorted(more.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    edges = [0, *cuts, len(raw)]
    assert read(*(raw[a:b] for a, b in itertools.pairwise(edges))) == [v for v in data if v.strip()]


@pytest.mark.parametrize("cut", range(6))
def test_a_byte_order_mark_may_come_in_pieces(cut):
    raw = b"\xef\xbb\xbfdata: x\n\n"
    assert read(raw[:cut], raw[cut:]) == ["x"]


LINES = st.sampled_from([
    b"", b"data", b"data:", b"data: ", b"data: {}", b"data: [DONE]", b"event: x", b"id",
    b"retry", b":", b": x", b"\xef\xbb\xbf", b"\xff", b"\x00", b"data: \xed\xa0\xbd", b"datadata:",
])  # fmt: skip


@given(st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r", b"\r\n"])), max_size=12), st.data())
def test_any_lines_are_the_same_events_wherever_they_are_cut(lines, more):
    raw = b"".join(line + end for line, end in lines)
    cuts = sorted(more.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    edges = [0, *cuts, len(raw)]
    found = read(*(raw[a:b] for a, b in itertools.pairwise(edges)))
    assert found == read(raw)
    assert all(data.strip() for data in found)


def chunked(*events_):
    return b"HEAD" + b"".join(b"%x\r\n%s\r\n" % (len(e), e) for e in events_) + b"0\r\n\r\n"


@given(
    st.lists(st.one_of(text, st.just("")), min_size=1, max_size=6),
    st.sampled_from(["data: ", "data:"]),
    st.data(),
)
def test_a_regular_body_gives_the_same_events_at_once_wherever_it_is_split(data, prefix, draw):
    raw = chunked(*(f"{prefix}{value}\n\n".encode() for value in data))
    cuts = sorted(draw.draw(st.lists(st.integers(4, len(raw)), max_size=5)))
    edges = [0, *cuts, len(raw)]
    pieces = [raw[a:b] for a, b in itertools.pairwise(edges)]
    times = [float(k) for k in range(len(pieces))]
    found = regular_events(raw, 4, times, [len(piece) for piece in pieces])
    bodies = []
    reader = ResponseReader()
    reader.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for time_s, piece in zip(times, [pieces[0][4:], *pieces[1:]], strict=True):
        bodies += [(time_s, body) for body in reader.feed(piece)]
    slow = list(events(bodies))
    if found is not None:  # "data:" before text that begins with a space is left to the slow way
        assert found == slow
    elif prefix == "data: ":
        raise AssertionError("a regular body was not taken as one")


@pytest.mark.parametrize(
    "raw",
    [
        chunked(b"data: a\n\ndata: b\n\n"),  # two events in a chunk
        chunked(b"data: a\n", b"\n"),  # an event in two chunks
        chunked(b"data: a\ndata: b\n\n"),
        chunked(b": ping\n\n", b"data: a\n\n"),
        chunked(b"data: a\r\n\r\n"),
        chunked(b"data: a\n\n")[:-1],
        chunked(b"data: a\n\n") + b"x",
        chunked(b"data: a\n\n").replace(b"9\r\n", b"a\r\n"),
        chunked(b"data: a\n\n").replace(b"9\r\n", b"9;x=y\r\n"),
        chunked(b"data: a\n\n").replace(b"9\r\n", b"+9\r\n"),
        chunked(),
        b"HEAD",
    ],
)
def test_a_body_of_another_form_is_left_to_the_slow_way(raw):
    assert regular_events(raw, 4, [1.0], [len(raw)]) is None


@pytest.mark.parametrize("size", [1, 8, 4096])
def test_a_long_line_in_many_pieces_is_read_without_looking_at_it_again_and_again(size):
    """Each byte once: looked at again with every piece, these 2 MiB would take an hour."""
    text = "x" * (2 << 20)
    raw = f"data: {text}\r\n\r\n".encode()
    assert read(*(raw[k : k + size] for k in range(0, len(raw), size))) == [text]

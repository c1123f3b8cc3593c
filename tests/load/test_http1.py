import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginebench.load.http1 import MAX_HEAD_BYTES, ProtocolError, ResponseReader, is_one_chunk

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
RESPONSES = {
    "chunked": (CHUNKED + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world"),
    "upper-case size": (CHUNKED + b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    "extension": (CHUNKED + b'3;name="v;w"\r\nabc\r\n0;last\r\n\r\n', b"abc"),
    "trailers": (CHUNKED + b"3\r\nabc\r\n0\r\nExpires: never\r\nX: y\r\n\r\n", b"abc"),
    "line ends in a chunk": (CHUNKED + b"6\r\na\r\n\r\nb\r\n0\r\n\r\n", b"a\r\n\r\nb"),
    "no chunk": (CHUNKED + b"0\r\n\r\n", b""),
    "content-length": (b"HTTP/1.1 200 OK\r\ncontent-LENGTH:  5 \r\n\r\nhello", b"hello"),
    "empty": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "no reason phrase": (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "interim": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"ok",
    ),
}
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nServer: old\r\n\r\nall of it"


def read(*pieces):
    reader = ResponseReader()
    body = b"".join(part for piece in pieces for part in reader.feed(piece))
    return reader, body


@pytest.mark.parametrize("name", RESPONSES)
def test_the_end_of_a_response_is_known_without_the_connection_closing(name):
    raw, body = RESPONSES[name]
    reader, found = read(raw)
    assert (found, reader.done, reader.keep_alive, reader.trailing) == (body, True, True, b"")
    assert reader.status == (204 if name == "no content" else 200)


@pytest.mark.parametrize("name", RESPONSES)
def test_a_response_is_not_done_one_byte_before_its_end(name):
    reader, _ = read(RESPONSES[name][0][:-1])
    assert not reader.done
    assert not reader.close()


@pytest.mark.parametrize("name", RESPONSES)
def test_where_the_bytes_are_split_changes_nothing(name):
    raw, body = RESPONSES[name]
    for cut in range(len(raw) + 1):
        reader, found = read(raw[:cut], raw[cut:])
        assert (found, reader.done, reader.trailing) == (body, True, b""), cut
    reader, found = read(*(bytes([byte]) for byte in raw))
    assert (found, reader.done) == (body, True)


def test_pieces_of_a_body_come_out_as_they_came_in():
    reader = ResponseReader()
    assert reader.feed(CHUNKED + b"5\r\nhe") == [b"he"]
    assert reader.feed(b"l") == [b"l"]
    assert reader.feed(b"lo\r\n1\r\n!\r\n0\r\n\r\n") == [b"lo", b"!"]


def test_a_body_without_a_length_ends_with_the_connection():
    for cut in range(len(UNTIL_CLOSE) + 1):
        reader, body = read(UNTIL_CLOSE[:cut], UNTIL_CLOSE[cut:])
        assert (body, reader.done, reader.keep_alive) == (b"all of it", False, False)
        assert reader.close() and reader.done


@pytest.mark.parametrize(
    ("raw", "keep_alive"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Keep-Alive\r\n\r\n", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
    ],
)
def test_whether_the_connection_can_be_used_again(raw, keep_alive):
    reader, _ = read(raw)
    assert reader.done
    assert reader.keep_alive is keep_alive


def test_bytes_after_the_end_are_kept_apart_from_the_body():
    raw, body = RESPONSES["chunked"]
    for cut in range(len(raw), len(raw) + 4):
        reader, found = read((raw + b"more")[:cut], (raw + b"more")[cut:])
        assert (found, reader.trailing) == (body, b"more")


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"SSH-2.0", "not an HTTP/1.1 response"),
        (b"HTTP/2 200 OK\r\n\r\n", "not an HTTP/1.1 status line"),
        (b"HTTP/1.1 OK\r\n\r\n", "not an HTTP/1.1 status line"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n", "content-length is not a number"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "content-length is not a number"),
        (CHUNKED + b"xyz\r\n", "not a chunk size"),
        (CHUNKED + b"\r\n", "not a chunk size"),
        (CHUNKED + b"3\r\nabcdef\r\n", "a chunk is longer than its size"),
        (CHUNKED + b"3;" + b"x" * 5000, "a framing line is longer than"),
    ],
)
def test_what_is_not_http_is_refused_with_what_was_found(raw, says):
    with pytest.raises(ProtocolError, match=says):
        read(raw)


@pytest.mark.parametrize(
    "raw",
    [
        CHUNKED + b"-5\r\n",  # with bytes after it, feed() never returns
        CHUNKED + b"1_0\r\n",
        b"HTTP/1.1 \xb2\xb2\xb2 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"1" * 5000 + b"\r\n\r\n",
    ],
    ids=["negative", "underscore", "status", "length", "long length"],
)
def test_only_plain_digits_are_numbers(raw):
    with pytest.raises(ProtocolError):
        read(raw)


def test_headers_without_an_end_are_refused():
    reader = ResponseReader()
    reader.feed(b"HTTP/1.1 200 OK\r\nX: ")
    with pytest.raises(ProtocolError, match="no end of the headers"):
        reader.feed(b"x" * MAX_HEAD_BYTES)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.data())
def test_any_chunks_in_any_pieces_give_the_body(chunks, data):
    raw = CHUNKED + b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in chunks) + b"0\r\n\r\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    edges = [0, *cuts, len(raw)]
    reader, body = read(*(raw[a:b] for a, b in itertools.pairwise(edges)))
    assert (body, reader.done) == (b"".join(chunks), True)


REASON = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)


@given(st.sampled_from(["HTTP/1.0", "HTTP/1.1"]), st.integers(200, 999), REASON)
def test_any_status_of_three_digits_is_read_whatever_its_reason(version, status, reason):
    reader, _ = read(f"{version} {status} {reason}\r\n\r\n".encode())
    assert reader.status == status


@given(
    st.one_of(
        st.integers(0, 99).map(str),  # too short
        st.integers(0, 999).map("0{:03}".format),
        st.integers(1000).map(str),  # too long
        REASON.filter(lambda text: text[:1] not in "123456789"),  # no number, or none at all
    )
)
def test_a_status_of_any_other_form_is_refused(status):
    with pytest.raises(ProtocolError, match=r"not an HTTP/1\.1 status line"):
        read(f"HTTP/1.1 {status}\r\n\r\n".encode())


@pytest.mark.parametrize("data", [b"a", b"x" * 300, b"line\r\nline\r\n", b"0\r\n"])
def test_one_whole_chunk_is_known_without_the_reader(data):
    whole = b"%x\r\n%s\r\n" % (len(data), data)
    assert is_one_chunk(whole)
    for other in (whole[:-1], whole + b"1", whole + whole, whole[1:], b"0\r\n\r\n", b"\r\n", b""):
        assert not is_one_chunk(other), other


def test_a_head_of_sixty_thousand_bytes_is_read_byte_by_byte():
    raw = b"HTTP/1.1 200 OK\r\nX: " + b"y" * 60_000 + b"\r\nContent-Length: 2\r\n\r\nok"
    reader, body = read(*(raw[k : k + 1] for k in range(len(raw))))
    assert (body, reader.done, len(reader.headers["x"])) == (b"ok", True, 60_000)

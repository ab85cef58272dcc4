"""The multipart reader, in pieces of every size (RFC 2046 §5.1)."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archive.errors import InvalidRequestError
from dicomweb.multipart import MultipartReader, PartBegin, PartData, PartEnd

_CONTENT = st.lists(
    st.sampled_from(
        [b"\r", b"\n", b"-", b"--", b"\r\n", b"\r\n--", b"BX", b"B", b"\0", b"text"]
    ),
    max_size=8,
).map(b"".join)


def read(body: bytes, size: int, boundary: str = "B") -> list[tuple[dict, bytes]]:
    reader = MultipartReader(boundary)
    parts: list[list] = []
    ended = 0
    for at in range(0, len(body), size):
        for event in reader.feed(body[at : at + size]):
            match event:
                case PartBegin():
                    parts.append([event.headers, b""])
                case PartData():
                    parts[-1][1] += event.data
                case PartEnd():
                    ended += 1
    ended += len(reader.close())
    assert ended == len(parts)
    return [(headers, content) for headers, content in parts]


_BOUNDARY = st.text("0123456789ABCabc'()+_,-./:=? ", min_size=1, max_size=70).filter(
    lambda text: text == text.rstrip()
)


@settings(max_examples=400, deadline=None)
@given(
    boundary=_BOUNDARY,
    contents=st.lists(st.one_of(_CONTENT, st.binary(max_size=64)), min_size=1, max_size=4),
    size=st.sampled_from([1, 2, 3, 7, 64, 10_000]),
    preamble=st.sampled_from([b"", b"\r\n", b"an explanation\r\n", b"--\r\n"]),
    padding=st.sampled_from([b"", b" ", b"\t  "]),
    epilogue=st.sampled_from([b"", b"\r\n", b"\r\nanything", b" \r\n--B\r\n"]),
    line_end=st.sampled_from([b"\r\n", b"\n"]),
    lookalike=st.booleans(),
)
def test_parts_are_the_same_in_pieces_of_any_size(
    boundary, contents, size, preamble, padding, epilogue, line_end, lookalike
):
    line = b"--" + boundary.encode()
    if lookalike:  # all but a delimiter: other characters follow, or no line begins there
        contents = [
            line_end + line + b"x" + content + line + line_end + line + b"--x"
            for content in contents
        ]
    if any(delimits(content, line, line_end) for content in contents):
        return  # a delimiter inside: no sender may choose such a boundary
    body = preamble.replace(b"\r\n", line_end)
    for content in contents:
        headers = b"Content-Type: application/dicom" + 2 * line_end
        body += line + padding + line_end + headers + content + line_end
    body += line + b"--" + epilogue
    assert [content for _, content in read(body, size, boundary)] == contents


def delimits(content: bytes, line: bytes, line_end: bytes) -> bool:
    pattern = re.escape(line_end + line) + rb"(--[ \t\r\n]|--$|-?$|[ \t]*(\r?\n|\r?$))"
    return re.search(pattern, line_end + content + line_end) is not None


@settings(max_examples=400, deadline=None)
@given(
    body=st.one_of(st.binary(max_size=400), _CONTENT),
    size=st.sampled_from([1, 3, 50]),
    boundary=st.sampled_from(["B", "BX", "-", "--"]),
)
def test_random_bytes_neither_hang_nor_gather(body, size, boundary):
    reader = MultipartReader(boundary)
    try:
        for at in range(0, len(body), size):
            list(reader.feed(body[at : at + size]))
        reader.close()
    except InvalidRequestError:
        return


def test_content_does_not_gather_while_it_looks_like_a_delimiter():
    reader = MultipartReader("B")
    list(reader.feed(b"--B\r\n\r\n"))
    for _ in range(2000):
        list(reader.feed(b"\r\n--B" + b" " * 3000 + b"x"))
        assert len(reader._buffer) < 8192


def test_a_preamble_is_not_kept():
    reader = MultipartReader("B")
    for _ in range(2000):
        list(reader.feed(b"-" * 1000))
        assert len(reader._buffer) < 2048


def test_a_bare_line_feed_is_content_where_lines_end_in_both():
    body = b"--B\r\n\r\none\n--B\nstill\r\n--B--\r\n"
    assert read(body, 4) == [({}, b"one\n--B\nstill")]


def test_headers_are_unfolded_and_the_first_of_two_counts():
    body = b"--B\r\nA: x;\r\n  y\r\nno header\r\na: z\r\n\r\none\r\n--B--"
    assert read(body, 1) == [({"a": "x; y"}, b"one")]


def test_line_ends_may_be_bare():
    body = b"--B\nContent-Type: x\n\none\n--B\nX: y\n\ntwo\n--B--\n"
    assert read(body, 5) == [({"content-type": "x"}, b"one"), ({"x": "y"}, b"two")]


@pytest.mark.parametrize("boundary", ["'()+_,-./:=?", "a b", "x" * 70, "x" * 200])
def test_every_boundary_character_works(boundary):
    line = boundary.encode()
    body = b"--" + line + b"\r\n\r\ncontent\r\n--" + line + b"--"
    assert read(body, 3, boundary) == [({}, b"content")]


@pytest.mark.parametrize("body", [b"", b"--B\r\n\r\nhalf", b"--B\r\nX: y", b"nothing of it"])
def test_a_body_that_breaks_off_is_an_error(body):
    with pytest.raises(InvalidRequestError, match="truncated"):
        read(body, 4)


def test_headers_without_an_end_are_refused_early():
    reader = MultipartReader("B")
    with pytest.raises(InvalidRequestError, match="too long"):
        list(reader.feed(b"--B\r\n" + b"X: y\r\n" * 10_000))

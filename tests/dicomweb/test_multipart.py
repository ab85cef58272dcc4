"""The multipart reader, in pieces of every size (RFC 2046 §5.1)."""

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
    reader.close()
    return [(headers, content) for headers, content in parts]


@settings(max_examples=300, deadline=None)
@given(
    contents=st.lists(_CONTENT, min_size=1, max_size=3),
    size=st.sampled_from([1, 2, 3, 7, 64, 10_000]),
    preamble=st.sampled_from([b"", b"\r\n", b"an explanation\r\n"]),
    epilogue=st.sampled_from([b"", b"\r\n", b"\r\nanything"]),
)
def test_parts_are_the_same_in_pieces_of_any_size(contents, size, preamble, epilogue):
    body = preamble
    for content in contents:
        body += b"--B\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n"
    body += b"--B--" + epilogue
    if any(b"\n--B" in b"\n" + content for content in contents):
        return  # a delimiter inside: no sender may choose such a boundary
    assert [content for _, content in read(body, size)] == contents


def test_line_ends_may_be_bare():
    body = b"--B\nContent-Type: x\n\none\n--B\nX: y\n\ntwo\n--B--\n"
    assert read(body, 5) == [({"content-type": "x"}, b"one"), ({"x": "y"}, b"two")]


@pytest.mark.parametrize("boundary", ["'()+_,-./:=?", "a b", "x" * 70])
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

"""XML, JSON and the headers of images and films: anything may be sent, nothing may crash."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from archive.dicom.codestream import codestream_span, read_image_header, split_frames
from archive.dicom.film import read_film_header
from archive.dicom.frame_ends import split_deflated, split_rle
from archive.dicom.json_reader import read_json
from archive.dicom.raster import decode_raster
from archive.dicom.xml_reader import read_xml
from archive.errors import InvalidRequestError

_FRAGMENTS = [
    b"<NativeDicomModel>", b"</NativeDicomModel>", b"<Item>", b"</Item>", b"</DicomAttribute>",
    b'<DicomAttribute tag="00100010" vr="PN">', b'<DicomAttribute tag="00081140" vr="SQ">',
    b'<Value number="2">x</Value>', b"<PersonName>", b"</PersonName>", b"<Alphabetic>a",
    b"</Alphabetic>", b'<BulkData uri="u"/>', b"<InlineBinary>AA==</InlineBinary>", b"&amp;",
    b"&x;", b"\xff", b"<!-- -->", b"<![CDATA[x]]>", b"\0",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(_FRAGMENTS), max_size=12).map(b"".join))
def test_xml_is_read_or_refused(document):
    with contextlib.suppress(InvalidRequestError):
        read_xml(document)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=60), st.text('[]{}",:0 1ea\\u', max_size=40)))
def test_json_is_read_or_refused(document):
    raw = document if isinstance(document, bytes) else document.encode()
    with contextlib.suppress(InvalidRequestError):
        assert all(isinstance(dataset, dict) for dataset in read_json(raw))


def streams() -> list[bytes]:
    grey = Image.fromarray(np.arange(240, dtype=np.uint8).reshape(12, 20))
    made = []
    for kind, options in (("JPEG", {}), ("JPEG2000", {}), ("JPEG2000", {"no_jp2": True})):
        buffer = io.BytesIO()
        grey.save(buffer, kind, **options)
        made.append(buffer.getvalue())
    return made


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(
        [*streams(), b"", b"\0\0\0\x18ftypisom\0\0\0\0", b"\0\0\1\xb3" + bytes(20)]
    ),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6),
    st.integers(0, 500),
)
def test_broken_streams_are_refused_and_never_crash(stream, changes, cut):
    broken = bytearray(stream)
    for position, byte in changes:
        if position < len(broken):
            broken[position] = byte
    data = bytes(broken[: len(broken) - cut % (len(broken) + 1)])
    for reader in (
        lambda: read_image_header(data, "image/jpeg"),
        lambda: read_film_header(data),
        lambda: codestream_span(data),
        lambda: split_frames(data),
        lambda: split_rle(data, 240),
        lambda: split_deflated(data),
        lambda: decode_raster(data, lambda _frame: None),
    ):
        with contextlib.suppress(ValueError):
            reader()


@pytest.mark.parametrize("stream", streams())
def test_frames_one_behind_the_other_are_told_apart(stream):
    start, end = codestream_span(stream)
    frame = stream[start:end]
    padded = frame + b"\0" * (len(frame) % 2)
    assert split_frames(padded * 3) == [
        (len(padded) * n, len(padded) * n + len(frame)) for n in range(3)
    ]

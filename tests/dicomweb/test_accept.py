"""Media types as clients write them (RFC 9110 §12.5.1, PS3.18 §8.7)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomweb.accept import parse_accept, parse_media_type


@pytest.mark.parametrize(
    "text",
    [
        'multipart/related; type="application/octet-stream"; transfer-syntax=*',
        "multipart/related;type=application/octet-stream;transfer-syntax=*",
        'Multipart/Related ; TYPE = "application/octet-stream" ; transfer-syntax="*"; x=y',
    ],
)
def test_quotes_blanks_case_and_order_do_not_matter(text):
    (media_type,) = parse_accept([text])
    assert media_type.name == "multipart/related"
    assert media_type.part_type == "application/octet-stream"
    assert media_type.transfer_syntax == "*"


def test_the_most_wanted_comes_first_and_what_is_refused_is_left_out():
    accepted = parse_accept(["a/a;q=0.1, b/b, c/c;q=0", "d/d;q=0.5"])
    assert [media_type.name for media_type in accepted] == ["b/b", "d/d", "a/a"]


def test_no_header_accepts_everything():
    assert [m.name for m in parse_accept([])] == ["*/*"]
    assert [m.name for m in parse_accept([""])] == ["*/*"]


def test_ranges_cover_what_is_in_them():
    assert parse_media_type("image/*").covers("image/jpeg")
    assert not parse_media_type("image/*").covers("video/mp4")
    assert parse_media_type("*/*").covers("application/dicom")


@given(st.text(max_size=200))
def test_no_text_whatever_is_an_error(text):
    parse_accept([text])
    parse_media_type(text)

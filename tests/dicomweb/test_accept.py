"""Media types as clients write them (RFC 9110 §12.5.1, PS3.18 §8.7)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomweb.accept import parse_accept, parse_media_type

ODD = st.text(alphabet=st.sampled_from('a/*;,="\\ \tq.0-\r\n\0é'), max_size=300)


@pytest.mark.parametrize(
    "text",
    [
        'multipart/related; type="application/octet-stream"; transfer-syntax=*',
        "multipart/related;type=application/octet-stream;transfer-syntax=*",
        'Multipart/Related ; TYPE = "application/octet-stream" ; transfer-syntax="*"; x=y',
        'multipart/related; type="application/octet-stream;transfer-syntax=*"',
        'multipart/related; type="application\\/octet-stream"; transfer-syntax=*',
        ";;, multipart/related;; type=application/octet-stream; ;transfer-syntax=*",
        'multipart/related; type="application/octet-stream"; transfer-syntax=*; a="x,y;z"',
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


def test_of_the_same_weight_the_more_specific_comes_first():
    accepted = parse_accept(["*/*, image/*, image/png, text/*;q=0.5, text/a;q=0.5"])
    names = [media_type.name for media_type in accepted]
    assert names == ["image/png", "image/*", "*/*", "text/a", "text/*"]


@pytest.mark.parametrize(
    ("text", "name", "covered"),
    [
        ("*/*, image/png;q=0", "image/png", False),
        ("*/*, image/png;q=0", "image/jpeg", True),
        ("*/*, image/*;q=0", "image/png", False),
        ("image/*;q=0, image/png", "image/png", True),
        ("image/*, */*;q=0", "image/png", True),
    ],
)
def test_what_is_refused_is_taken_out_of_what_says_less(text, name, covered):
    assert any(range_.covers(name) for range_ in parse_accept([text])) is covered


def test_no_header_accepts_everything():
    for headers in ([], [""], ["nonsense"], [" , ;"]):
        assert [range_.name for range_ in parse_accept(headers)] == ["*/*"]


def test_who_refuses_everything_accepts_nothing():
    for text in ("*/*;q=0", "image/png;q=0", "image/png;q=0.0, */*;q=0"):
        assert not any(range_.covers("image/png") for range_ in parse_accept([text]))


def test_several_transfer_syntaxes_are_all_read():
    for text in (
        "a/b; transfer-syntax=1.2; transfer-syntax=1.3",
        'a/b; transfer-syntax="1.2,1.3"',
        'a/b; transfer-syntax="1.2 1.3"',
    ):
        assert parse_media_type(text).transfer_syntaxes == ("1.2", "1.3")


@pytest.mark.parametrize(("text", "quality"), [("0.5", 0.5), ("1", 1), ("0", 0), ("5", 1),
                                               ("x", 1), ("", 1), ("nan", 1), ("-1", 1),
                                               ("0.333", 0.333), (".5", 0.5)])  # fmt: skip
def test_a_weight_that_is_none_is_1(text, quality):
    assert parse_media_type(f"a/b; q={text}").quality == quality


def test_ranges_cover_what_is_in_them():
    assert parse_media_type("image/*").covers("image/jpeg")
    assert not parse_media_type("image/*").covers("video/mp4")
    assert parse_media_type("*/*").covers("application/dicom")


@settings(max_examples=300)
@given(st.lists(st.one_of(st.text(max_size=200), ODD), max_size=4))
def test_no_text_whatever_is_an_error(headers):
    for range_ in parse_accept(headers):
        assert 0 < range_.quality <= 1
        assert isinstance(range_.covers("image/jpeg", "a/b", "1.2"), bool)
    for text in headers:
        media_type = parse_media_type(text)
        assert media_type.name == "" or media_type.name.count("/") == 1
        assert media_type.precision >= (0, 0, 0)


@settings(max_examples=200)
@given(
    st.sampled_from(["image/jp2", "application/dicom", "multipart/related"]),
    st.dictionaries(
        st.text("abcdefgh-", min_size=1, max_size=8).filter(lambda name: name != "q"),
        st.text(
            st.characters(codec="ascii", categories=["L", "N", "P", "Z", "S"]), max_size=20
        ),
        max_size=4,
    ),
)
def test_quoted_parameters_are_read_as_they_were_written(name, parameters):
    escaped = {
        key: value.replace("\\", "\\\\").replace('"', '\\"')
        for key, value in parameters.items()
    }
    text = "".join(f'; {key}="{value}"' for key, value in escaped.items())
    media_type = parse_media_type(name + text)
    assert media_type.name == name
    assert media_type.parameters == {key: value.strip() for key, value in parameters.items()}


@pytest.mark.parametrize(
    "unit",
    ['"', '"\\', "\\", ";", ",", ";a=", 'a/b;a="', "a/b;q=0,", " ", 'a/b;type="', "*/*,", "é"],
)
def test_a_text_of_any_length_gives_a_bounded_number_of_ranges(unit):
    # pytest's time limit tells what is quadratic: ten million characters, sixteen pieces.
    ranges = parse_accept([unit * (10_000_000 // len(unit))] * 16)
    assert 1 <= len(ranges) <= 64
    assert all(len(range_.refused) <= 64 for range_ in ranges)

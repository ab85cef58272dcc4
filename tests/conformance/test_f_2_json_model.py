"""The DICOM JSON Model, value by value (PS3.18 Annex F; PS3.5 §6.1 and §6.2)."""

import base64
import io
import json
import random
import struct
import warnings

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archive.dicom.parse import parse_instance
from archive.dicom.part10 import build_file_meta, read_file_meta
from archive.errors import InvalidInstanceError
from tests.conformance.conftest import storable_files
from tests.conftest import wheel_file

LITTLE, BIG, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2"
_LONG = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"}
_IDENTITY = {
    "00080016": ("UI", b"1.2.840.10008.5.1.4.1.1.7\0"),
    "00080018": ("UI", b"1.2.3.4\0"),
    "0020000D": ("UI", b"1.2.3\0"),
    "0020000E": ("UI", b"1.2.3.1\0"),
}


def element(tag: str, vr: str, value: bytes, order: str = "<") -> bytes:
    group, number = int(tag[:4], 16), int(tag[4:], 16)
    if vr in _LONG:
        return struct.pack(order + "HH2sHI", group, number, vr.encode(), 0, len(value)) + value
    return struct.pack(order + "HH2sH", group, number, vr.encode(), len(value)) + value


def part10(elements: dict[str, tuple[str, bytes]], syntax: str = LITTLE) -> bytes:
    order = ">" if syntax == BIG else "<"
    whole = dict(sorted((_IDENTITY | elements).items()))
    body = b"".join(element(tag, *value, order) for tag, value in whole.items())
    meta = build_file_meta(
        sop_class_uid="1.2.3", sop_instance_uid="1.2.3.4", transfer_syntax_uid=syntax
    )
    return meta + body


def model(body: bytes) -> dict:
    """What metadata says of an object: read back from the JSON that is sent."""
    parsed = parse_instance(body, read_file_meta(body))
    parsed.json.decode("utf-8")
    return json.loads(parsed.json, parse_constant=pytest.fail)


def value_of(tag: str, vr: str, raw: bytes, **more) -> dict:
    return model(part10({tag: (vr, raw)}, **more))[tag]


# -- against pydicom ---------------------------------------------------------------------------


def _differences(mine: dict, theirs: dict, path: str = "") -> list[str]:
    """Where the two differ beyond the six ways that are meant.

    Group lengths are left out (§F.2.2); the character set is that of the JSON; Pixel Data is
    always bulk data; an empty value among values is null (§F.2.5), not ""; blanks that pad one
    of several values are no part of it (PS3.5 §6.2); what pydicom cannot convert it leaves out.
    """
    found = []
    for tag, other in theirs.items():
        one = mine.get(tag)
        if tag.endswith("0000") or tag == "00080005" or one == other:
            continue
        if one is None or one["vr"] != other["vr"]:
            found.append(path + tag)
        elif one["vr"] == "SQ":
            items = list(zip(one.get("Value", []), other.get("Value", []), strict=True))
            for index, pair in enumerate(items):
                found += _differences(*pair, path=f"{path}{tag}/{index}/")
        elif "BulkDataURI" in one or "BulkDataURI" in other:
            # pydicom counts the letters of base64, we count bytes.
            size = len(base64.b64decode(one.get("InlineBinary", other.get("InlineBinary", ""))))
            if tag != "7FE00010" and size > 1024:
                found.append(path + tag)
        elif one.get("Value", []) != [_trimmed(value) for value in other.get("Value", [])]:
            found.append(path + tag)
    return found


def _trimmed(value):
    return (value.rstrip(" ") or None) if isinstance(value, str) else value


def _by_pydicom(path) -> dict | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return pydicom.dcmread(path).to_json_dict(
                bulk_data_threshold=1024,
                bulk_data_element_handler=lambda _: "x",
                suppress_invalid_tags=True,
            )
        except Exception:
            return None  # it cannot be read, or not be converted


@pytest.mark.parametrize("path", storable_files(), ids=lambda path: path.name)
def test_every_file_of_the_wheel_has_exactly_pydicoms_content(path):
    theirs = _by_pydicom(path)
    if theirs is not None:
        assert _differences(model(path.read_bytes()), json.loads(json.dumps(theirs))) == []


def test_every_file_of_the_collection_has_exactly_pydicoms_content(shared_dicom):
    compared = 0
    for path in sorted((shared_dicom / "valid").glob("*.dcm")):
        theirs = _by_pydicom(path)
        if theirs is not None:
            mine = model(path.read_bytes())
            assert _differences(mine, json.loads(json.dumps(theirs))) == [], path.name
            compared += 1
    assert compared > 150


# -- values (§F.2.3, §F.2.4, §F.2.5) -----------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "vr", "raw", "expected"),
    [
        ("00080054", "AE", b"ONE\\TWO ", ["ONE", "TWO"]),
        ("00101010", "AS", b"045Y", ["045Y"]),
        ("00280009", "AT", b"\x18\x00\x63\x10\x18\x00\x65\x10", ["00181063", "00181065"]),
        ("00080008", "CS", b"ORIGINAL\\PRIMARY\\", ["ORIGINAL", "PRIMARY", None]),
        ("00080020", "DA", b"20240131", ["20240131"]),
        ("00280030", "DS", b"0.5\\1e1 ", [0.5, 10.0]),
        ("00280030", "DS", b" 1.25\\2 ", [1.25, 2.0]),
        ("00281053", "DS", b"1e400 ", ["1e400"]),
        ("00281053", "DS", b"1,5 ", ["1,5"]),
        ("00281053", "DS", b"1_0 ", ["1_0"]),
        ("00281053", "DS", b"0x10", ["0x10"]),
        ("00200037", "DS", b"1\\\\0 ", [1.0, None, 0.0]),
        ("0008002A", "DT", b"20240131120000.000000+0100", ["20240131120000.000000+0100"]),
        ("00720074", "FD", struct.pack("<d", 0.1), [0.1]),
        ("00081196", "FL", struct.pack("<f", 0.5), [0.5]),
        ("00200013", "IS", b"+12 ", [12]),
        ("00200013", "IS", b"1.0 ", [1]),
        ("00200013", "IS", b"1.5 ", ["1.5"]),
        ("00200013", "IS", b"\\2\\", [None, 2, None]),
        ("00081030", "LO", b"a\\b ", ["a", "b"]),
        ("00081030", "LO", b" lead", [" lead"]),
        ("00204000", "LT", b"a\\b\r\n ", ["a\\b\r\n"]),
        ("00080050", "SH", b"A\\ ", ["A", None]),
        ("0040A162", "SL", struct.pack("<2i", -5, 7), [-5, 7]),
        ("00280106", "SS", struct.pack("<h", -2), [-2]),
        ("00080081", "ST", b"a\\b ", ["a\\b"]),
        ("00720082", "SV", struct.pack("<q", -(2**63)), ["-9223372036854775808"]),
        ("00720082", "SV", struct.pack("<q", -5), [-5]),
        ("00080030", "TM", b"120000.5", ["120000.5"]),
        ("00080119", "UC", b"a\\b ", ["a", "b"]),
        ("00080014", "UI", b"1.2.3\\1.2\0", ["1.2.3", "1.2"]),
        ("00720078", "UL", struct.pack("<I", 2**32 - 1), [2**32 - 1]),
        ("00081190", "UR", b"http://a/b\\c  ", ["http://a/b\\c"]),
        ("00280010", "US", struct.pack("<H", 65535), [65535]),
        ("0040A160", "UT", b"a\\b ", ["a\\b"]),
        ("00720083", "UV", struct.pack("<Q", 2**64 - 1), ["18446744073709551615"]),
        ("00720083", "UV", struct.pack("<Q", 2**53), [2**53]),
        (
            "00720074",
            "FD",
            struct.pack("<3d", float("nan"), float("inf"), -float("inf")),
            ["NaN", "inf", "-inf"],
        ),
    ],
)
def test_values_have_the_json_type_of_their_vr(tag, vr, raw, expected):
    assert value_of(tag, vr, raw) == {"vr": vr, "Value": expected}


@pytest.mark.parametrize("vr", ["OB", "OW", "OL", "OF", "OD", "OV", "UN"])
def test_other_values_are_inline_when_small_and_bulk_data_when_not(vr):
    # §F.2.6, §F.2.7; never in Value.
    small, large = bytes(range(16)), bytes(2048)
    inline = value_of("00091001", vr, small)
    assert inline == {"vr": vr, "InlineBinary": base64.b64encode(small).decode()}
    assert value_of("00091001", vr, large) == {"vr": vr, "BulkDataURI": "bulkdata/00091001"}


@pytest.mark.parametrize(
    ("vr", "size"),
    [("OB", 1), ("UN", 1), ("OW", 2), ("OL", 4), ("OF", 4), ("OD", 8), ("OV", 8)],
)
def test_inline_binary_of_a_big_endian_instance_is_little_endian(vr, size):
    little = bytes(range(16))
    big = b"".join(little[n : n + size][::-1] for n in range(0, 16, size))
    found = value_of("00091001", vr, big, syntax=BIG)
    assert base64.b64decode(found["InlineBinary"]) == little


@pytest.mark.parametrize("vr", sorted(_LONG - {"SQ"} | {"PN", "CS", "DS", "US", "AT", "UI"}))
def test_an_empty_value_is_kept_as_an_attribute_without_a_value(vr):
    assert value_of("00091001", vr, b"") == {"vr": vr}


def test_sequences_items_and_what_is_empty_in_them():
    item = b"\xfe\xff\x00\xe0"
    items = item + struct.pack("<I", 0) + item + struct.pack("<I", 8)
    items += element("00080100", "SH", b"")
    assert value_of("00081140", "SQ", items)["Value"] == [{}, {"00080100": {"vr": "SH"}}]
    assert value_of("00081140", "SQ", b"") == {"vr": "SQ"}


def test_a_bulk_value_in_an_item_names_its_place():
    inner = element("00420011", "OB", bytes(2000))
    items = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(inner)) + inner
    found = value_of("00081140", "SQ", items)["Value"][0]["00420011"]
    assert found == {"vr": "OB", "BulkDataURI": "bulkdata/00081140/0/00420011"}


def test_group_lengths_and_file_meta_are_left_out_and_tags_ascend():
    found = model(part10({"00080000": ("UL", bytes(4)), "00091001": ("LO", b"x ")}))
    assert list(found) == sorted(found)
    assert not any(tag.endswith("0000") or tag.startswith("0002") for tag in found)
    assert all(tag == tag.upper() and len(tag) == 8 for tag in found)


def test_pixel_data_is_always_bulk_data():
    assert value_of("7FE00010", "OW", bytes(2)) == {
        "vr": "OW",
        "BulkDataURI": "bulkdata/7FE00010",
    }


# -- names (§F.2.2) ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"Doe^John ", [{"Alphabetic": "Doe^John"}]),
        (b"A=B=C ", [{"Alphabetic": "A", "Ideographic": "B", "Phonetic": "C"}]),
        (b"=B", [{"Ideographic": "B"}]),
        (b"==C ", [{"Phonetic": "C"}]),
        (b"A==C", [{"Alphabetic": "A", "Phonetic": "C"}]),
        (b"A=", [{"Alphabetic": "A"}]),
        (b"A\\\\B", [{"Alphabetic": "A"}, None, {"Alphabetic": "B"}]),
        (b"\\B ", [None, {"Alphabetic": "B"}]),
        (b"Doe^John^^^", [{"Alphabetic": "Doe^John^^^"}]),
        (b"== ", None),
        (b"\\ ", None),
    ],
)
def test_names_are_objects_of_their_component_groups(raw, expected):
    found = value_of("00100010", "PN", raw + b" " * (len(raw) % 2))
    assert found.get("Value") == expected


# -- character sets (PS3.3 §C.12.1.1.2) --------------------------------------------------------

_FAMILIES = [
    ("ISO_IR 6", "ascii", "Buc^Jerome"),
    ("ISO_IR 100", "latin_1", "Buc^Jérôme"),
    ("ISO_IR 101", "iso8859_2", "Dvořák^Šárka"),
    ("ISO_IR 109", "iso8859_3", "Ĉapelo^Ĵaŭdo"),
    ("ISO_IR 110", "iso8859_4", "Bērziņš^Ēķis"),
    ("ISO_IR 144", "iso8859_5", "Люкceмбypг"),
    ("ISO_IR 127", "iso8859_6", "قباني^لنزار"),
    ("ISO_IR 126", "iso8859_7", "Διονυσιος"),
    ("ISO_IR 138", "iso8859_8", "שרון^דבורה"),
    ("ISO_IR 148", "iso8859_9", "Çavuşoğlu^İbrahim"),
    ("ISO_IR 203", "iso8859_15", "Œuvre^Šimon€"),
    ("ISO_IR 13", "shift_jis", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
    ("ISO_IR 166", "tis_620", "นามสกุล^ชื่อ"),
    ("ISO_IR 192", "utf_8", "Wang^XiaoDong=王^小东=🙂"),
    ("GB18030", "gb18030", "Wang^XiaoDong=王^小东=𠀀"),
    ("GBK", "gbk", "Wang^XiaoDong=王^小东="),
    ("ISO 2022 IR 149", "euc_kr", "Hong^Gildong=洪^吉洞=홍^길동"),
    ("ISO 2022 IR 58", "gb2312", "Zhang^XiaoDong=张^小东="),
]


def _text(charset: str, raw: bytes, vr: str = "LO", tag: str = "00081030") -> list:
    elements = {"00080005": ("CS", charset.encode() + b" " * (len(charset) % 2))}
    elements[tag] = (vr, raw + b" " * (len(raw) % 2))
    found = model(part10(elements))
    assert found["00080005"] == {"vr": "CS", "Value": ["ISO_IR 192"]}
    return found[tag]["Value"]


@pytest.mark.parametrize("vr", ["SH", "LO", "UC", "ST", "LT", "UT"])
@pytest.mark.parametrize(("charset", "codec", "text"), _FAMILIES, ids=str)
def test_text_of_every_character_set_becomes_utf8(charset, codec, text, vr):
    assert _text(charset, text.encode(codec), vr) == [text]


@pytest.mark.parametrize(("charset", "codec", "text"), _FAMILIES, ids=str)
def test_names_of_every_character_set_become_utf8(charset, codec, text):
    (name,) = _text(charset, text.encode(codec), "PN", "00100010")
    assert "=".join(name.values()) == text.rstrip("=")


_KANJI = "山田^太郎".encode("iso2022_jp")
_EXTENDED = [
    # PS3.5 §H.3.1: names in three scripts.
    ("\\ISO 2022 IR 87", b"Yamada^Tarou=" + _KANJI, "Yamada^Tarou=山田^太郎"),
    (
        "ISO 2022 IR 13\\ISO 2022 IR 87",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=".encode("shift_jis") + _KANJI.replace(b"\x1b(B", b"\x1b(J"),
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎",
    ),
    (
        "\\ISO 2022 IR 149",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7",
        "Hong^Gildong=洪^吉洞",
    ),
    (
        "\\ISO 2022 IR 58",
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab",
        "Zhang^XiaoDong=张^小东",
    ),
    # What G1 holds stays when G0 is set again (ISO/IEC 2022).
    ("ISO 2022 IR 13\\ISO 2022 IR 87", b"\x1b(B\xd4\xcf\xc0\xde", "ﾔﾏﾀﾞ"),
    ("\\ISO 2022 IR 149", b"\x1b$)C\xfb\xf3\x1b(B\xd1\xce", "洪吉"),
    # Greek and Cyrillic beside Latin, each by its own designation.
    (
        "ISO 2022 IR 100\\ISO 2022 IR 126\\ISO 2022 IR 144",
        "é".encode("latin_1")
        + b"\x1b-F"
        + "Δι".encode("iso8859_7")
        + b"\x1b-L"
        + "Лю".encode("iso8859_5"),
        "éΔιЛю",
    ),
    # JIS X 0212 (PS3.3 Table C.12-4).
    ("\\ISO 2022 IR 159", "鷗".encode("iso2022_jp_2"), "鷗"),
    # Half-width katakana by its own designation.
    ("\\ISO 2022 IR 13", b"\x1b)I\xd4\xcf", "ﾔﾏ"),
]


@pytest.mark.parametrize(("charset", "raw", "text"), _EXTENDED, ids=repr)
def test_escape_sequences_choose_the_characters(charset, raw, text):
    (name,) = _text(charset, raw, "PN", "00100010")
    assert "=".join(name.values()) == text


def test_a_delimiter_ends_the_reach_of_an_escape_sequence():
    # PS3.5 §6.1.2.5.3: each value begins in what the first term says.
    raw = b"\x1b-F\xc4\\\xe9"
    assert _text("ISO 2022 IR 100\\ISO 2022 IR 126", raw) == ["Δ", "é"]
    assert _text(
        "ISO 2022 IR 100\\ISO 2022 IR 126", b"\x1b-F\xc4\r\n\xe9", "LT", "00204000"
    ) == ["Δ\r\né"]


def test_a_byte_of_a_wide_character_that_looks_like_a_backslash_does_not_split():
    # The second byte of these is 5C.
    assert _text("GBK", "燶".encode("gbk")) == ["燶"]
    assert _text("\\ISO 2022 IR 87", "構成".encode("iso2022_jp")) == ["構成"]


def test_the_character_set_of_an_item_wins_inside_it():
    inner = element("00080005", "CS", b"ISO_IR 144")
    inner += element("00081030", "LO", "Люк ".encode("iso8859_5"))
    items = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(inner)) + inner
    found = model(
        part10(
            {
                "00080005": ("CS", b"ISO_IR 100"),
                "00081030": ("LO", "é ".encode("latin_1")),
                "00081140": ("SQ", items),
            }
        )
    )
    assert found["00081030"]["Value"] == ["é"]
    assert found["00081140"]["Value"][0]["00081030"]["Value"] == ["Люк"]


@pytest.mark.parametrize(
    ("charset", "raw", "expected"),
    [
        ("", "Jérôme".encode(), ["Jérôme"]),
        ("", "Jérôm".encode("latin_1"), ["Jérôm"]),
        ("ISO_IR 192", b"J\xe9r\xf4", ["J\ufffdr\ufffd"]),
        ("ISO_IR 999", "Jérôme".encode(), ["Jérôme"]),
        ("ISO-IR 100", "é ".encode("latin_1"), ["é"]),
        ("ISO_IR_100", "é ".encode("latin_1"), ["é"]),
        ("ISO 2022 IR 87", b"\x1b$B\x7f", ["\ufffd"]),
        ("ISO_IR 100", b"\x1b[31m", ["\x1b[31m"]),
    ],
)
def test_text_that_does_not_fit_its_character_set_is_still_utf8(charset, raw, expected):
    elements = {"00081030": ("LO", raw + b" " * (len(raw) % 2))}
    if charset:
        elements["00080005"] = ("CS", charset.encode() + b" " * (len(charset) % 2))
    found = model(part10(elements))["00081030"]["Value"]
    assert [value.rstrip("\ufffd") for value in found] == [
        value.rstrip("\ufffd") for value in expected
    ]


_TERMS = st.lists(
    st.sampled_from([term for term, _, _ in _FAMILIES] + ["", "ISO 2022 IR 87", "nonsense"]),
    min_size=1,
    max_size=3,
)


@settings(max_examples=300, deadline=None)
@given(terms=_TERMS, raw=st.binary(max_size=40), vr=st.sampled_from(["LO", "PN", "LT", "CS"]))
def test_no_bytes_in_any_character_set_give_anything_but_utf8_without_nul(terms, raw, vr):
    raw += b" " * (len(raw) % 2)
    charset = "\\".join(terms).encode()
    charset += b" " * (len(charset) % 2)
    found = model(part10({"00080005": ("CS", charset), "00091001": (vr, raw)}))
    text = json.dumps(found, ensure_ascii=False)
    text.encode("utf-8")
    assert "\\u0000" not in text


# -- hostile input -----------------------------------------------------------------------------


def _mutated(body: bytes, chance: random.Random) -> bytes:
    changed = bytearray(body)
    for _ in range(chance.choice((1, 2, 8, 40))):
        at = chance.randrange(132, len(changed))
        match chance.randrange(4):
            case 0:
                changed[at] ^= 1 << chance.randrange(8)
            case 1:
                changed[at : at + 4] = chance.choice(
                    (b"\xff\xff\xff\xff", bytes(4), b"\xfe\xff\xdd\xe0")
                )
            case 2:
                del changed[at : at + chance.randrange(1, 9)]
            case _:
                changed[at:at] = changed[at - chance.randrange(1, 60) : at]
        if len(changed) < 200:
            break
    return bytes(changed)


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",
        "MR_small_RLE.dcm",
        "MR_small_bigendian.dcm",
        "rtplan.dcm",
        "reportsi.dcm",
        "chrH32.dcm",
        "chrI2.dcm",
        "image_dfl.dcm",
        "SC_rgb_rle_2frame.dcm",
    ],
)
def test_a_damaged_file_is_refused_or_has_valid_metadata(name):
    body = wheel_file(name).read_bytes()[:16_000]
    chance = random.Random(name)
    outcomes = set()
    for _ in range(150):
        damaged = _mutated(body, chance)
        try:
            model(damaged)
        except InvalidInstanceError as refusal:
            assert str(refusal)
            outcomes.add("refused")
        else:
            outcomes.add("kept")
    assert "refused" in outcomes


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([LITTLE, BIG, IMPLICIT]))
def test_any_bytes_behind_a_header_are_refused_or_read(rest, syntax):
    body = part10({}, LITTLE if syntax == IMPLICIT else syntax) + rest
    try:
        model(body)
    except InvalidInstanceError as refusal:
        assert str(refusal)


def test_io_is_not_needed_to_read_an_object_held_in_a_view():
    body = wheel_file("CT_small.dcm").read_bytes()
    assert parse_instance(memoryview(body), read_file_meta(memoryview(body))).json == (
        parse_instance(body, read_file_meta(io.BytesIO(body).read())).json
    )

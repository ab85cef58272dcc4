"""Identifiers as devices write them, and answers as they can read them; no network."""

import io
import struct
import zlib

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from archive.errors import InvalidInstanceError, InvalidRequestError
from archive.query.request import Level, SearchKey
from dimse.answers import Answers, is_fully_supported
from dimse.data_sets import DataSetEncoder
from dimse.identifiers import Identifier, level_of, read_identifier, search_request, unique_keys
from dimse.negotiation import QueryOptions

FIND_PATIENT, FIND_STUDY, FIND_ONLY = (f"1.2.840.10008.5.1.4.1.2.{n}.1" for n in (1, 2, 3))
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
DEFLATED, BIG = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
NAMES = {
    ("ISO_IR 100",): "Müller^Jürg",
    ("ISO_IR 101",): "Wałęsa^Lech",
    ("ISO_IR 109",): "Ĵono^Ĉu",
    ("ISO_IR 110",): "Āra^Ģir",
    ("ISO_IR 144",): "Люкceмбypг",
    ("ISO_IR 127",): "قباني^لنزار",
    ("ISO_IR 126",): "Διονυσιος",
    ("ISO_IR 138",): "שרון^דבורה",
    ("ISO_IR 148",): "Çavuşoğlu^Ağa",
    ("ISO_IR 166",): "นามสกุล^ชื่อ",
    ("ISO_IR 13",): "ﾔﾏﾀﾞ^ﾀﾛｳ",
    ("", "ISO 2022 IR 87"): "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ("ISO 2022 IR 13", "ISO 2022 IR 87"): "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    ("", "ISO 2022 IR 87", "ISO 2022 IR 159"): "A^B=丂^山田",
    ("", "ISO 2022 IR 149"): "Hong^Gildong=洪^吉洞=홍^길동",
    ("", "ISO 2022 IR 58"): "Zhang^XiaoDong=张^小东",
    ("ISO 2022 IR 100", "ISO 2022 IR 144"): "Люк^Müller",
    ("GB18030",): "Wang^XiaoDong=王^小东",
    ("GBK",): "Wang^XiaoDong=王^小东",
    ("ISO_IR 192",): "Wang^XiaoDong=王^小东",
}


def element(tag: int, vr: str, value: bytes) -> bytes:
    """An explicit little endian element, to the byte: nothing is padded or put right."""
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    if vr in ("OB", "OW", "SQ", "UN", "UT"):
        return head + struct.pack("<HI", 0, len(value)) + value
    return head + struct.pack("<H", len(value)) + value


LEVEL = element(0x00080052, "CS", b"STUDY ")


def search(raw: bytes, sop_class: str = FIND_STUDY, syntax: str = EXPLICIT, **agreed):
    identifier = read_identifier(io.BytesIO(raw), syntax)
    return search_request(identifier, sop_class, QueryOptions(**agreed))


def keys(raw: bytes, **more) -> dict[str, str]:
    return {".".join(key.path): key.value for key in search(raw, **more).keys}


# -- what devices write ------------------------------------------------------------------------


def test_group_lengths_padding_and_old_elements_are_no_keys():
    raw = (
        element(0x00080000, "UL", struct.pack("<I", 999))
        + element(0x00080001, "UL", struct.pack("<I", 999))
        + element(0x00080010, "SH", b"ACR-NEMA 2.0")
        + LEVEL
        + element(0x00100000, "UL", struct.pack("<I", 4))
        + element(0x00100020, "LO", b"4711  ")
        + element(0xFFFCFFFC, "OB", bytes(64))
        + bytes(32)
    )
    assert keys(raw) == {"00100020": "4711"}
    assert search(raw).fields == {"00100020"}


def test_odd_lengths_and_nul_padding_are_read_as_meant():
    raw = LEVEL + element(0x00100020, "LO", b"471") + element(0x0020000D, "UI", b"1.2.3\0\0")
    assert keys(raw) == {"00100020": "471", "0020000D": "1.2.3"}


@pytest.mark.parametrize("level", [b"study", b" Study ", b"STUDY\0", b"STUDY"])
def test_a_level_is_known_however_it_is_written(level):
    assert search(element(0x00080052, "CS", level)).level is Level.STUDY


def test_a_key_of_vr_un_or_of_a_wrong_one_is_the_text_it_holds():
    raw = (
        LEVEL
        + element(0x00080020, "UN", b"20200101")
        + element(0x00080050, "OB", b"A-1 ")
        + element(0x00100010, "LO", b"Doe^*")
        + element(0x0020000D, "LO", b"1.2.3 ")
    )
    assert keys(raw) == {
        "00080020": "20200101",
        "00080050": "A-1",
        "00100010": "Doe^*",
        "0020000D": "1.2.3",
    }


def test_implicit_vr_in_a_context_of_explicit_vr_is_seen():
    raw = struct.pack("<HHI", 0x0008, 0x0052, 6) + b"STUDY "
    raw += struct.pack("<HHI", 0x0010, 0x0020, 4) + b"4711"
    assert keys(raw) == {"00100020": "4711"}


@pytest.mark.parametrize("undefined", [True, False])
@pytest.mark.parametrize("vr", ["SQ", "UN"])
def test_sequences_of_any_length_and_as_un(undefined, vr):
    implicit = vr == "UN"  # PS3.5 §6.2.2: what lies in UN is implicit VR
    key = element(0x00400009, "SH", b"SPS1")
    if implicit:
        key = struct.pack("<HHI", 0x0040, 0x0009, 4) + b"SPS1"
    length = 0xFFFFFFFF if undefined else len(key)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, length) + key
    if undefined:
        item += struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
        item += struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    head = struct.pack("<HH2sHI", 0x0040, 0x0275, vr.encode(), 0, length)
    sequence = head + item if undefined else element(0x00400275, vr, item)
    assert keys(LEVEL + sequence) == {"00400275.00400009": "SPS1"}


def test_an_empty_sequence_and_an_empty_item_ask_for_all_of_it():
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    for value in (b"", item):
        found = search(LEVEL + element(0x00400275, "SQ", value))
        assert found.keys == ()
        assert found.fields == {"00400275"}


def test_two_items_in_a_key_are_refused_and_the_element_named():
    one = struct.pack("<HHI", 0xFFFE, 0xE000, 12) + element(0x00400009, "SH", b"SPS1")
    with pytest.raises(InvalidRequestError, match="2 items") as caught:
        search(LEVEL + element(0x00400275, "SQ", one + one))
    assert caught.value.tag == "00400275"


def test_a_list_of_uids_may_be_longer_than_64_kib():
    uids = [f"1.2.826.0.1.3680043.{n}" for n in range(5000)]
    value = "\\".join(uids).encode()
    raw = struct.pack("<HHI", 0x0008, 0x0052, 6) + b"STUDY "
    raw += struct.pack("<HHI", 0x0020, 0x000D, len(value) + len(value) % 2) + value
    raw += b"\0" * (len(value) % 2)
    assert keys(raw, syntax=IMPLICIT)["0020000D"].split("\\") == uids


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, DEFLATED, BIG])
def test_every_syntax_is_read(syntax):
    dataset = Dataset()
    dataset.QueryRetrieveLevel = "IMAGE"
    dataset.PatientName = "Doe^J*"
    dataset.Rows = 512
    dataset.StudyInstanceUID = ["1.2", "3.4"]
    stream = DicomBytesIO()
    stream.is_implicit_VR, stream.is_little_endian = syntax == IMPLICIT, syntax != BIG
    write_dataset(stream, dataset)
    raw = stream.getvalue()
    if syntax == DEFLATED:
        deflater = zlib.compressobj(wbits=-15)
        raw = deflater.compress(raw) + deflater.flush()
    assert keys(raw, syntax=syntax) == {
        "00100010": "Doe^J*",
        "0020000D": "1.2\\3.4",
        "00280010": "512",
    }


def test_what_is_no_data_set_is_said_to_be_none():
    for raw in (b"\x08\x00\x52\x00CS\xff\xffSTUDY", b"x", LEVEL + b"\x10\x00\x20"):
        with pytest.raises((InvalidInstanceError, InvalidRequestError)):
            search(raw)
    with pytest.raises(InvalidInstanceError):
        search(b"no deflated data set", syntax=DEFLATED)


@pytest.mark.parametrize("raw", [b"", None])
def test_without_an_identifier_the_level_is_missing(raw):
    identifier = read_identifier(raw, EXPLICIT)
    with pytest.raises(InvalidRequestError, match="is missing: expected STUDY") as caught:
        level_of(identifier, FIND_STUDY)
    assert caught.value.tag == "00080052"


def test_each_model_has_its_levels():
    def levels(sop_class):
        known = []
        for level in ("PATIENT", "STUDY", "SERIES", "IMAGE", "WORKLIST"):
            identifier = Identifier({"00080052": {"vr": "CS", "Value": [level]}})
            try:
                known.append(level_of(identifier, sop_class).value)
            except InvalidRequestError:
                continue
        return known

    assert levels(FIND_PATIENT) == ["PATIENT", "STUDY", "SERIES", "IMAGE"]
    assert levels(FIND_STUDY) == ["STUDY", "SERIES", "IMAGE"]
    assert levels(FIND_ONLY) == ["PATIENT", "STUDY"]


@pytest.mark.parametrize(("terms", "name"), NAMES.items(), ids=lambda value: str(value)[:24])
def test_names_in_every_character_set_go_in_and_out_unharmed(terms, name):
    written = DataSetEncoder(EXPLICIT, terms).encode([("00100010", pn(name))])
    dataset = read_dataset(io.BytesIO(written), False, True)
    said = dataset.SpecificCharacterSet
    assert [said] if isinstance(said, str) else list(said) == list(terms)
    identifier = read_identifier(written, EXPLICIT)
    assert identifier.character_set == terms
    assert identifier.texts("00100010") == [name]
    dataset.decode()
    if "ISO 2022 IR 58" not in terms:
        assert str(dataset.PatientName) == name  # pydicom reads the same


def test_wildcards_are_read_in_extended_character_sets():
    raw = LEVEL + element(0x00100010, "PN", b"*\x1b$B;3ED\x1b(B*")
    raw = element(0x00080005, "CS", b"\\ISO 2022 IR 87 ") + raw
    assert keys(raw) == {"00100010": "*山田*"}


def test_an_unknown_character_set_is_read_as_far_as_it_can_be():
    raw = element(0x00080005, "CS", b"KLINGON ") + LEVEL
    assert keys(raw + element(0x00100010, "PN", b"M\xfcller"))["00100010"] == "Müller"
    assert keys(raw + element(0x00100010, "PN", "Müller".encode()))["00100010"] == "Müller"


def test_a_private_creator_alone_filters_nothing_where_its_block_is_only_asked_for():
    creator = element(0x00090010, "LO", b"ACME")
    assert keys(LEVEL + creator + element(0x00091001, "LO", b"")) == {}
    with_value = LEVEL + creator + element(0x00091001, "LO", b"x ")
    assert keys(with_value) == {"00090010": "ACME", "00091001": "x"}
    assert keys(LEVEL + creator) == {"00090010": "ACME"}


def test_a_time_zone_is_heeded_only_where_it_was_agreed():
    raw = LEVEL + element(0x00080201, "SH", b"+0530 ")
    assert search(raw).zone is None
    assert search(raw, zone=True).zone == 330
    with pytest.raises(InvalidRequestError) as caught:
        search(LEVEL + element(0x00080201, "SH", b"CET "), zone=True)
    assert caught.value.tag == "00080201"


def test_a_retrieve_names_what_it_wants_by_unique_keys_alone():
    raw = LEVEL + element(0x00100010, "PN", b"Doe ") + element(0x0020000D, "UI", b"1.2\\1.3 ")
    request = unique_keys(read_identifier(raw, EXPLICIT), FIND_STUDY)
    assert request.keys == (SearchKey(("0020000D",), "1.2", ("1.3",)),)
    with pytest.raises(InvalidRequestError, match="needs a value of") as caught:
        unique_keys(read_identifier(LEVEL, EXPLICIT), FIND_STUDY)
    assert caught.value.tag == "0020000D"


# -- what they can read ------------------------------------------------------------------------


def pn(name: str) -> dict:
    groups = zip(("Alphabetic", "Ideographic", "Phonetic"), name.split("="), strict=False)
    return {"vr": "PN", "Value": [{key: group for key, group in groups if group}]}


def answered(match, asked: bytes, syntax: str = EXPLICIT, **agreed) -> Dataset:
    identifier = read_identifier(asked, syntax)
    request = search_request(identifier, FIND_STUDY, QueryOptions(**agreed))
    answers = Answers(identifier, request, ae_title="FILEROOM", transfer_syntax_uid=syntax)
    raw = answers.encode(match)
    assert len(raw) % 2 == 0
    if syntax == DEFLATED:
        raw = zlib.decompress(raw, -15)
    dataset = read_dataset(io.BytesIO(raw), syntax == IMPLICIT, syntax != BIG)
    tags = list(map(int, dataset.keys()))
    assert tags == sorted(tags)
    for one in dataset.iterall():
        _ = one.value
    return dataset


STUDY = {
    "00080020": {"vr": "DA", "Value": ["20200101"]},
    "00080030": {"vr": "TM", "Value": ["233000"]},
    "00080061": {"vr": "CS", "Value": ["CT", "SR"]},
    "00080201": {"vr": "SH", "Value": ["+0100"]},
    "00100010": pn("Müller^Jürg"),
    "00100020": {"vr": "LO", "Value": ["4711"]},
    "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
    "00201208": {"vr": "IS", "Value": [2]},
}


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, DEFLATED, BIG])
def test_an_answer_holds_what_was_asked_and_where_to_retrieve_it(syntax):
    asked = DataSetEncoder(syntax).encode(
        [("00080052", {"vr": "CS", "Value": ["STUDY"]})]
        + [(tag, {"vr": STUDY[tag]["vr"]}) for tag in STUDY if tag != "00080201"]
        + [("00104000", {"vr": "LT"})]
    )
    found = answered(STUDY, asked, syntax)
    assert found.QueryRetrieveLevel == "STUDY"
    assert found.RetrieveAETitle == "FILEROOM"
    assert found.InstanceAvailability == "ONLINE"
    assert found.SpecificCharacterSet == "ISO_IR 192"
    assert found.PatientName == "Müller^Jürg"
    assert list(found.ModalitiesInStudy) == ["CT", "SR"]
    assert found.NumberOfStudyRelatedInstances == 2
    assert found.TimezoneOffsetFromUTC == "+0100"  # the answer has times
    assert found.PatientComments == ""  # asked for, and not there
    assert len(found) == len(STUDY) + 5


def test_nothing_is_answered_that_was_not_asked():
    found = answered(STUDY, LEVEL + element(0x00100020, "LO", b""))
    tags = set(map(int, found.keys()))
    assert tags == {0x00080052, 0x00080054, 0x00080056, 0x00100020}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (b"", "ISO_IR 192"),
        (b"ISO_IR 100", "ISO_IR 100"),
        (b"ISO_IR 144", "ISO_IR 192"),  # Cyrillic has no umlaut
        (b"GB18030 ", "GB18030"),
        (b"KLINGON ", "ISO_IR 192"),
    ],
)
def test_the_character_set_of_the_request_is_kept_where_nothing_is_lost(asked, said):
    raw = (element(0x00080005, "CS", asked) if asked else b"") + LEVEL
    found = answered(STUDY, raw + element(0x00100010, "PN", b""))
    assert found.SpecificCharacterSet == said
    assert found.PatientName == "Müller^Jürg"


def test_an_answer_in_ascii_names_no_character_set():
    raw = element(0x00080005, "CS", b"ISO_IR 100") + LEVEL + element(0x00100020, "LO", b"")
    assert "SpecificCharacterSet" not in answered(STUDY, raw)


def test_times_are_answered_in_the_zone_that_was_agreed():
    raw = LEVEL + element(0x00080020, "DA", b"") + element(0x00080030, "TM", b"")
    raw = raw + element(0x00080201, "SH", b"+0530 ")
    found = answered(STUDY, raw, zone=True)
    assert (found.StudyDate, found.StudyTime) == ("20200102", "040000")
    assert found.TimezoneOffsetFromUTC == "+0530"
    as_stored = answered(STUDY, raw)
    assert (as_stored.StudyDate, as_stored.StudyTime) == ("20200101", "233000")
    assert as_stored.TimezoneOffsetFromUTC == "+0100"


def test_only_matching_items_and_only_what_was_asked_of_them():
    def item(name, **more):
        return {"00400009": {"vr": "SH", "Value": [name]}, **more}

    code = {"00080100": {"vr": "SH", "Value": ["C1"]}, "00080104": {"vr": "LO", "Value": ["M"]}}
    match = {
        "00400275": {
            "vr": "SQ",
            "Value": [
                item("SPS1", **{"00321064": {"vr": "SQ", "Value": [code]}}),
                item("SPS2", **{"00400007": {"vr": "LO", "Value": ["second"]}}),
                item("OTHER"),
            ],
        }
    }
    inner = element(0x00400007, "LO", b"") + element(0x00400009, "SH", b"SPS*")
    key = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner
    found = answered(match, LEVEL + element(0x00400275, "SQ", key))
    # at study level this one is no key of the model, so the level is that of the series
    assert "RequestAttributesSequence" not in found
    series = element(0x00080052, "CS", b"SERIES") + element(0x00400275, "SQ", key)
    found = answered(match, series)
    items = found.RequestAttributesSequence
    assert [one.ScheduledProcedureStepID for one in items] == ["SPS1", "SPS2"]
    assert [one.ScheduledProcedureStepDescription for one in items] == ["", "second"]
    assert all(len(one) == 2 for one in items)
    whole = answered(
        match, element(0x00080052, "CS", b"SERIES") + element(0x00400275, "SQ", b"")
    )
    assert len(whole.RequestAttributesSequence) == 3
    assert (
        whole.RequestAttributesSequence[0].RequestedProcedureCodeSequence[0].CodeValue == "C1"
    )


def test_private_attributes_are_answered_for_the_creator_that_was_asked():
    match = {
        "00090010": {"vr": "LO", "Value": ["ACME"]},
        "00091001": {"vr": "DS", "Value": [1.5]},
    }
    block = element(0x00091001, "DS", b"")
    mine = LEVEL + element(0x00090010, "LO", b"ACME") + block
    assert answered(match, mine)[0x00091001].value == 1.5
    other = LEVEL + element(0x00090010, "LO", b"OTHER ") + block
    assert 0x00091001 not in answered(match, other)
    assert 0x00090010 not in answered({}, mine)


def test_values_without_room_or_sense_do_not_break_an_answer():
    long = "x" * 70_000
    match = {
        "00081030": {"vr": "LO", "Value": [long]},
        "00100020": {"vr": "LO", "Value": [None, "b"]},
        "00101020": {"vr": "DS", "Value": ["tall"]},
        "00101030": {"vr": "DS", "Value": [71.5]},
    }
    raw = LEVEL + element(0x00081030, "LO", b"") + element(0x00100020, "LO", b"")
    raw += element(0x00101020, "DS", b"") + element(0x00101030, "DS", b"")
    found = answered(match, raw)
    assert found[0x00081030].value == long.encode()  # as UN (PS3.5 §6.2.2)
    assert list(found.PatientID) == ["", "b"]
    assert found.PatientWeight == 71.5


# -- what is not supported ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "supported"),
    [
        (element(0x00100020, "LO", b"4711"), True),
        (element(0x00104000, "LT", b""), True),
        (element(0x00091001, "LO", b"x "), True),
        (element(0x00080061, "CS", b"CT"), True),
        (element(0x00080056, "CS", b"ONLINE"), True),
        (element(0x00080060, "CS", b"CT"), False),  # of the series
        (element(0x00280010, "US", b""), False),  # of the instance
        (element(0x7FE00010, "OW", b""), False),
        (element(0x00080054, "AE", b"OTHER "), False),
        (element(0x00080054, "AE", b""), True),
        (element(0x00080201, "SH", b"+0100 "), False),  # not agreed
        (element(0x00080053, "CS", b"ENHANCED"), False),
        (element(0x00083001, "SQ", b""), False),
        (element(0x00201200, "IS", b""), False),
    ],
)
def test_what_is_not_supported_is_known(key, supported):
    identifier = read_identifier(LEVEL + key, EXPLICIT)
    request = search_request(identifier, FIND_STUDY)
    assert is_fully_supported(identifier, request, ()) is supported


def test_a_key_that_takes_no_part_in_matching_is_not_supported():
    identifier = read_identifier(LEVEL, EXPLICIT)
    request = search_request(identifier, FIND_STUDY)
    assert not is_fully_supported(identifier, request, ("7FE00010",))

"""SOP Class Extended Negotiation, byte by byte, and which contexts are accepted."""

import pytest
from pynetdicom import AE
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation
from pynetdicom.presentation import build_context

from archive.dicom.sop_class import is_storage
from dimse.contexts import FIND_CLASSES, RETRIEVE_CLASSES
from dimse.negotiation import QueryOptions, answer

CT = "1.2.840.10008.5.1.4.1.1.2"
FIND, MOVE, GET = (f"1.2.840.10008.5.1.4.1.2.2.{n}" for n in (1, 2, 3))
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
DEFLATED, BIG = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("01", "01"),
        ("00", "00"),
        ("0101", "0101"),
        ("010101", "010101"),
        ("01010101", "01010101"),
        ("0101010101", "0101010100"),  # no enhanced multi-frame conversion
        ("01010101010101", "01010101000101"),
        ("00000000000000", "00000000000000"),
        ("01000100000001", "01000100000001"),
        ("0101010101010101", "01010101000101"),  # a byte that no edition knows
        ("0203", "0000"),  # neither 0 nor 1
        ("", ""),
    ],
)
def test_a_query_is_answered_byte_by_byte(asked, answered):
    for sop_class in FIND_CLASSES:
        assert answer(sop_class, bytes.fromhex(asked)).hex() == answered


@pytest.mark.parametrize(
    ("asked", "answered"), [("01", "01"), ("00", "00"), ("0101", "0100"), ("010101", "0100")]
)
def test_a_retrieval_is_answered_byte_by_byte(asked, answered):
    for sop_class in RETRIEVE_CLASSES:
        assert answer(sop_class, bytes.fromhex(asked)).hex() == answered


def test_storage_is_level_2_to_the_bit_and_coerces_nothing():
    assert answer(CT, bytes.fromhex("030000000200")).hex() == "020003000000"
    assert answer(CT, bytes.fromhex("03")).hex() == "02"
    assert answer("1.2.3.4.5.6.7", bytes.fromhex("0300000002")).hex() == "0200030000"


def test_what_is_not_served_is_not_answered():
    assert answer("1.2.840.10008.5.1.4.31", b"\1\1\1") == b""
    assert answer("1.2.840.10008.1.1", b"\1") == b""


def test_missing_bytes_agree_to_nothing():
    assert QueryOptions.of(b"\1") == QueryOptions(relational=True)
    assert QueryOptions.of(b"") == QueryOptions()
    everything = QueryOptions.of(bytes.fromhex("01010101000101"))
    assert everything == QueryOptions(True, True, True, True, True, True)


def associate(dicom, contexts, extended=()):
    items = []
    for uid, information in extended:
        item = SOPClassExtendedNegotiation()
        item.sop_class_uid = uid
        item.service_class_application_information = information
        items.append(item)
    built = [build_context(uid, list(syntaxes)) for uid, syntaxes in contexts]
    return AE("TEST").associate(
        "127.0.0.1", dicom.port, contexts=built, ae_title="FILEROOM", ext_neg=items
    )


def test_the_answer_is_in_the_acceptance_and_holds_on_that_association_only(dicom):
    asked = [(FIND, b"\1\1\1\1\1\1\1"), (MOVE, b"\1\1"), (CT, b"\3\0\0\0\2\0"), (GET, b"\1")]
    contexts = [(FIND, [EXPLICIT]), (MOVE, [EXPLICIT]), (CT, [EXPLICIT])]
    association = associate(dicom, contexts, asked)
    answered = {
        str(uid): bytes(info) for uid, info in association.acceptor.sop_class_extended.items()
    }
    assert answered == {  # C-GET was not proposed in a context
        FIND: b"\1\1\1\1\0\1\1",
        MOVE: b"\1\0",
        CT: b"\2\0\3\0\0\0",
    }
    association.release()
    plain = associate(dicom, contexts)
    assert plain.acceptor.sop_class_extended == {}
    plain.release()


def test_every_model_is_accepted_the_retired_one_too(dicom):
    classes = sorted(FIND_CLASSES | RETRIEVE_CLASSES)
    association = associate(dicom, [(uid, [IMPLICIT]) for uid in classes])
    accepted = [str(context.abstract_syntax) for context in association.accepted_contexts]
    assert accepted == classes
    assert len(classes) == 9
    association.release()


@pytest.mark.parametrize(
    ("proposed", "chosen"),
    [
        ([IMPLICIT, EXPLICIT], EXPLICIT),
        ([BIG, DEFLATED, IMPLICIT], IMPLICIT),
        ([BIG, DEFLATED], DEFLATED),
        ([BIG], BIG),
    ],
)
def test_the_syntax_that_says_most_is_chosen_for_identifiers(dicom, proposed, chosen):
    association = associate(dicom, [(FIND, proposed)])
    (context,) = association.accepted_contexts
    assert context.transfer_syntax == [chosen]
    association.release()


@pytest.mark.parametrize(
    "uid",
    [
        "1.2.840.10008.5.1.4.31",  # modality worklist
        "1.2.840.10008.3.1.2.3.3",  # performed procedure step
        "1.2.840.10008.5.1.1.9",  # printing
        "1.2.840.10008.5.1.4.1.2.4.2",  # composite instance root
        "1.2.840.10008.5.1.4.34.6.1",  # unified procedure step
        "1.2.840.10008.5.1.4.1.1.201.5",  # inventory query
    ],
)
def test_a_service_that_is_not_ours_is_refused_in_its_context(dicom, uid):
    association = associate(dicom, [(CT, [EXPLICIT]), (uid, [EXPLICIT])])
    assert [str(context.abstract_syntax) for context in association.accepted_contexts] == [CT]
    (rejected,) = association.rejected_contexts
    assert rejected.result == 0x03
    association.release()


def test_storage_is_told_from_the_rest():
    assert is_storage(CT)
    assert is_storage("1.2.3.4.5")
    assert is_storage("1.2.840.10008.5.1.4.1.1.999.1")  # of an edition to come
    assert not is_storage("1.2.840.10008.1.20.1")  # storage commitment
    assert not is_storage("1.2.840.10008.1.3.10")  # a media directory
    assert not is_storage("1.2.840.10008.5.1.4.99")

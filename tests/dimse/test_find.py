"""C-FIND over real sockets, on both engines: what is asked, and how it is answered."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation
from pynetdicom.presentation import build_context

from archive.config import DimseSection
from archive.query import evaluation
from archive.query.evaluation import Evaluation
from dimse.contexts import FIND_CLASSES
from dimse.server import DicomServer
from tests.builders import dataset, item, part10
from tests.conftest import listening_socket, make_config, running_archive, store, wait_until

PATIENT_ROOT, STUDY_ROOT, STUDY_ONLY = (f"1.2.840.10008.5.1.4.1.2.{n}.1" for n in (1, 2, 3))
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
DEFLATED, BIG = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
MANY = 300


def fill(archive) -> None:
    """Three studies of two patients, and one patient with many."""
    common = {"PatientID": "P1", "PatientName": "Müller^Jürg", "PatientBirthDate": "19700101"}
    common["SpecificCharacterSet"] = "ISO_IR 192"
    requested = item(ScheduledProcedureStepID="SPS1", RequestedProcedureID="RP1")
    for series, instance in itertools.product((1, 2), (1, 2)):
        made = dataset(
            "1.2.3.1", f"1.2.3.1.{series}", f"1.2.3.1.{series}.{instance}", **common,
            StudyDate="20200105", StudyTime="233000", StudyDescription="CT chest",
            AccessionNumber="A1", Rows=512 * series, TimezoneOffsetFromUTC="+0100",
            SeriesNumber=series, InstanceNumber=instance, PatientComments="of the study",
            RequestAttributesSequence=[requested],
        )  # fmt: skip
        made.Modality = "CT" if series == 1 else "SR"
        made.add_new(0x00090010, "LO", "ACME")
        made.add_new(0x00091001, "LO", f"secret {series}")
        store(archive, part10(made))
    made = dataset(
        "1.2.3.2", "1.2.3.2.1", "1.2.3.2.1.1", **common, StudyDate="20200107",
        StudyTime="080000", StudyDescription="MR head", AccessionNumber="",
    )  # fmt: skip
    store(archive, part10(made))
    made = dataset("1.2.3.3", "1.2.3.3.1", "1.2.3.3.1.1", SpecificCharacterSet="ISO_IR 192")
    made.PatientID, made.PatientName = "P2", "Yamada^Tarou=山田^太郎=やまだ^たろう"
    made.StudyDate, made.StudyTime = "20200106", "120000"
    store(archive, part10(made))
    bodies = [
        part10(dataset(f"1.2.4.{n}", f"1.2.4.{n}.1", f"1.2.4.{n}.1.1", PatientID="MANY"))
        for n in range(MANY)
    ]
    with ThreadPoolExecutor(32) as pool:  # which share commits
        list(pool.map(lambda body: store(archive, body), bodies))


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    config = make_config(tmp_path_factory.mktemp("find") / "data")
    with running_archive(config) as archive:
        fill(archive)
        yield archive


@pytest.fixture(params=["direct", "stock"])
def asked(request, stored):
    """A server of either engine over one archive; nobody may change what it holds."""
    settings = DimseSection(port=0, engine=request.param, network_timeout_s=20)
    config = stored.config.model_copy(update={"dimse": settings})
    listening = listening_socket()
    server = DicomServer(replace(stored, config=config), listening)
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield server
    server.stop()
    thread.join()
    listening.close()


def extended(sop_class: str, information: bytes) -> SOPClassExtendedNegotiation:
    made = SOPClassExtendedNegotiation()
    made.sop_class_uid = sop_class
    made.service_class_application_information = information
    return made


def associate(server, sop_class=STUDY_ROOT, syntax=EXPLICIT, agreed=b"", longest_pdu=16382):
    entity = AE("TEST")
    association = entity.associate(
        "127.0.0.1", server.port, ae_title="FILEROOM", max_pdu=longest_pdu,
        contexts=[build_context(sop_class, [syntax])],
        ext_neg=[extended(sop_class, agreed)] if agreed else [],
    )  # fmt: skip
    assert association.is_established
    return association


def identifier(level="STUDY", **keys) -> Dataset:
    made = Dataset()
    made.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(made, keyword, value)
    return made


def find(server, wanted: Dataset, sop_class=STUDY_ROOT, **how):
    """Every response: status and identifier."""
    association = associate(server, sop_class, **how)
    answers = list(association.send_c_find(wanted, sop_class))
    association.release()
    return answers


def matches(server, wanted: Dataset, sop_class=STUDY_ROOT, **how) -> list[Dataset]:
    *pending, (final, nothing) = find(server, wanted, sop_class, **how)
    assert final.Status == 0, final
    assert nothing is None
    assert {status.Status for status, _ in pending} <= {0xFF00, 0xFF01}
    return [found for _, found in pending]


def studies(server, agreed=b"", **keys) -> list[str]:
    wanted = identifier(StudyInstanceUID="", **keys)
    found = [str(one.StudyInstanceUID) for one in matches(server, wanted, agreed=agreed)]
    return sorted(uid for uid in found if uid.startswith("1.2.3."))


# -- levels and models -------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, DEFLATED, BIG])
def test_every_model_answers_in_every_syntax(asked, syntax):
    for sop_class in FIND_CLASSES:
        wanted = identifier(PatientID="P1", StudyInstanceUID="", StudyDescription="*chest")
        (found,) = matches(asked, wanted, sop_class, syntax=syntax)
        assert found.StudyInstanceUID == "1.2.3.1"
        assert found.StudyDescription == "CT chest"
        assert found.RetrieveAETitle == "FILEROOM"


def test_each_level_is_answered_with_what_is_its_own_and_above(asked):
    keys = {"PatientID": "P1", "PatientComments": "", "StudyInstanceUID": "1.2.3.1"}
    keys |= {"SeriesInstanceUID": "", "SOPInstanceUID": "", "Modality": "", "Rows": None}

    def answered(level):
        return matches(asked, identifier(level, **keys), PATIENT_ROOT)

    (patient,) = answered("PATIENT")
    assert patient.PatientID == "P1"
    assert "StudyInstanceUID" not in patient
    (study,) = answered("STUDY")
    assert (study.StudyInstanceUID, study.PatientComments) == ("1.2.3.1", "of the study")
    assert "Modality" not in study
    series = answered("SERIES")
    assert [(one.SeriesInstanceUID, one.Modality) for one in series] == [
        ("1.2.3.1.1", "CT"),
        ("1.2.3.1.2", "SR"),
    ]
    assert {one.PatientComments for one in series} == {"of the study"}
    images = answered("IMAGE")
    assert [(one.SOPInstanceUID, one.Rows) for one in images] == [
        ("1.2.3.1.1.1", 512), ("1.2.3.1.1.2", 512), ("1.2.3.1.2.1", 1024), ("1.2.3.1.2.2", 1024)
    ]  # fmt: skip


def test_keys_of_lower_levels_match_but_are_not_answered(asked):
    wanted = identifier(StudyInstanceUID="", Modality="SR", Rows=1024)
    (pending, found), (final, _) = find(asked, wanted)
    assert (pending.Status, final.Status) == (0xFF01, 0)
    assert found.StudyInstanceUID == "1.2.3.1"
    assert "Modality" not in found
    assert "Rows" not in found


def test_computed_attributes_are_answered_where_they_are_asked(asked):
    wanted = identifier(
        "PATIENT", PatientID="P1", NumberOfPatientRelatedStudies="",
        NumberOfPatientRelatedSeries="", NumberOfPatientRelatedInstances="",
    )  # fmt: skip
    (patient,) = matches(asked, wanted, PATIENT_ROOT)
    assert patient.NumberOfPatientRelatedStudies == 2
    assert patient.NumberOfPatientRelatedSeries == 3
    assert patient.NumberOfPatientRelatedInstances == 5
    computed = {
        "StudyInstanceUID": "1.2.3.1",
        "ModalitiesInStudy": "",
        "SOPClassesInStudy": "",
        "NumberOfStudyRelatedSeries": "",
        "NumberOfStudyRelatedInstances": "",
    }
    for level in ("STUDY", "SERIES", "IMAGE"):
        for found in matches(asked, identifier(level, **computed)):
            assert list(found.ModalitiesInStudy) == ["CT", "SR"]
            assert found.SOPClassesInStudy == "1.2.840.10008.5.1.4.1.1.7"
            assert found.NumberOfStudyRelatedSeries == 2
            assert found.NumberOfStudyRelatedInstances == 4
            assert found.InstanceAvailability == "ONLINE"
    wanted = identifier(
        "IMAGE", SOPInstanceUID="1.2.3.1.1.1", NumberOfSeriesRelatedInstances="",
        AvailableTransferSyntaxUID="", AlternateRepresentationSequence=[],
    )  # fmt: skip
    (found,) = matches(asked, wanted)
    assert found.NumberOfSeriesRelatedInstances == 2
    assert found.AvailableTransferSyntaxUID == EXPLICIT
    assert "AlternateRepresentationSequence" not in found


def test_lists_wildcards_ranges_and_sequences(asked):
    assert studies(asked) == ["1.2.3.1", "1.2.3.2", "1.2.3.3"]
    wanted = identifier(StudyInstanceUID=["1.2.3.1", "1.2.3.3", "9.9"])
    assert len(matches(asked, wanted)) == 2
    assert studies(asked, PatientName="*ller*") == ["1.2.3.1", "1.2.3.2"]
    assert studies(asked, PatientName="yamada^*") == ["1.2.3.3"]
    assert studies(asked, StudyDescription="?? chest") == ["1.2.3.1"]
    assert studies(asked, StudyDate="20200106-") == ["1.2.3.2", "1.2.3.3"]
    assert studies(asked, StudyDate="-20200105", StudyTime="2300-2359") == ["1.2.3.1"]
    requested = [item(ScheduledProcedureStepID="SPS?", RequestedProcedureID="")]
    wanted = identifier("SERIES", SeriesInstanceUID="", RequestAttributesSequence=requested)
    found = matches(asked, wanted)
    assert len(found) == 2
    (answered,) = found[0].RequestAttributesSequence
    assert answered.RequestedProcedureID == "RP1"


def test_private_attributes_match_and_are_answered(asked):
    wanted = identifier("SERIES", SeriesInstanceUID="")
    wanted.add_new(0x00090010, "LO", "ACME")
    wanted.add_new(0x00091001, "LO", "secret 2")
    (found,) = matches(asked, wanted)
    assert found.SeriesInstanceUID == "1.2.3.1.2"
    assert found[0x00091001].value == "secret 2"
    wanted[0x00091001].value = ""
    everything = matches(asked, wanted)
    assert len(everything) > 2
    assert sum(0x00091001 in one for one in everything) == 2


def test_a_required_key_without_a_value_is_answered_empty(asked):
    wanted = identifier(StudyInstanceUID="1.2.3.2", AccessionNumber="", PatientSex="")
    (found,) = matches(asked, wanted)
    assert found.AccessionNumber == ""
    assert found.PatientSex == ""


# -- what was agreed ---------------------------------------------------------------------------


def test_a_range_of_days_and_one_of_hours_are_two_unless_agreed(asked):
    both = {"StudyDate": "20200105-20200106", "StudyTime": "1800-2000"}
    assert studies(asked, **both) == []
    assert studies(asked, b"\0\1", **both) == ["1.2.3.1", "1.2.3.3"]


def test_names_match_by_sound_only_where_that_was_agreed(asked):
    assert studies(asked, PatientName="Mueler^Juerg") == []
    assert studies(asked, b"\0\0\1", PatientName="Mueler^Juerg") == ["1.2.3.1", "1.2.3.2"]


def test_times_are_in_the_zone_that_is_named_where_that_was_agreed(asked):
    keys = {"StudyInstanceUID": "1.2.3.1", "StudyDate": "20200106", "StudyTime": ""}
    keys["TimezoneOffsetFromUTC"] = "+0530"
    (found,) = matches(asked, identifier(**keys), agreed=b"\0\0\0\1")
    assert (found.StudyDate, found.StudyTime) == ("20200106", "040000")
    assert found.TimezoneOffsetFromUTC == "+0530"
    assert matches(asked, identifier(**keys)) == []
    keys["StudyDate"] = "20200105"
    (pending, found), _ = find(asked, identifier(**keys))
    assert pending.Status == 0xFF01  # the zone was not agreed, and is not heeded
    assert found.TimezoneOffsetFromUTC == "+0100"


def test_empty_values_are_asked_for_by_quotation_marks_where_that_was_agreed(asked):
    agreed = b"\0\0\0\0\0\1"
    keys = {"AccessionNumber": '""', "PatientID": "P?"}
    assert studies(asked, agreed, **keys) == ["1.2.3.2", "1.2.3.3"]
    assert studies(asked, **keys) == []


def test_every_value_of_a_list_must_match_where_that_was_agreed(asked):
    agreed = b"\0\0\0\0\0\0\1"
    both, one_more = ["CT", "SR"], ["CT", "US"]
    assert studies(asked, agreed, ModalitiesInStudy=both) == ["1.2.3.1"]
    assert studies(asked, agreed, ModalitiesInStudy=one_more) == []
    assert studies(asked, ModalitiesInStudy=one_more) == ["1.2.3.1"]


# -- character sets ----------------------------------------------------------------------------


def test_names_are_asked_and_answered_in_the_character_set_of_the_peer(asked):
    for terms, name, other in (
        (["", "ISO 2022 IR 87"], "*山田*", "ISO_IR 192"),
        ("ISO_IR 192", "山田^太郎", "ISO_IR 192"),
        ("GB18030", "*山田*", "GB18030"),
        ("ISO_IR 100", "MÜLLER*", "ISO_IR 100"),
    ):
        wanted = identifier(StudyInstanceUID="", SpecificCharacterSet=terms, PatientName=name)
        found = matches(asked, wanted)
        assert found, terms
        if "山" in name:
            assert "山田^太郎" in str(found[0].PatientName)
        said = found[0].SpecificCharacterSet
        assert said in (other, terms) or list(said) == terms
    (found,) = matches(asked, identifier(PatientID="P2", PatientName=""))
    assert found.SpecificCharacterSet == "ISO_IR 192"
    (found,) = matches(asked, identifier(PatientID="P2", StudyInstanceUID=""))
    assert "SpecificCharacterSet" not in found


# -- statuses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "keys", "sop_class", "element"),
    [
        ("", {}, STUDY_ROOT, 0x00080052),
        ("PATIENT", {}, STUDY_ROOT, 0x00080052),
        ("SERIES", {}, STUDY_ONLY, 0x00080052),
        ("WORKLIST", {}, PATIENT_ROOT, 0x00080052),
        ("STUDY", {"StudyDate": "yesterday"}, STUDY_ROOT, 0x00080020),
        ("STUDY", {"StudyInstanceUID": "no uid"}, STUDY_ROOT, 0x0020000D),
        ("STUDY", {"RequestAttributesSequence": [item(StudyDate="x")] * 2}, STUDY_ROOT,
         0x00400275),
    ],
)  # fmt: skip
def test_a_wrong_identifier_is_a900_and_the_element_is_named(
    asked, level, keys, sop_class, element
):
    ((final, nothing),) = find(asked, identifier(level, **keys), sop_class)
    assert final.Status == 0xA900
    assert final.OffendingElement == element
    assert 0 < len(final.ErrorComment) <= 64
    assert nothing is None


def test_an_association_goes_on_after_a_failure(asked):
    association = associate(asked)
    for _ in range(2):
        ((final, _),) = association.send_c_find(identifier("NONE"), STUDY_ROOT)
        assert final.Status == 0xA900
        answers = list(association.send_c_find(identifier(PatientID="P2"), STUDY_ROOT))
        assert [status.Status for status, _ in answers] == [0xFF00, 0]
    association.release()


def test_what_cannot_be_decoded_is_c000(asked):
    association = associate(asked)
    broken = Dataset()
    broken.add_new(0x00091001, "OB", b"")
    from dimse import identifiers

    with pytest.MonkeyPatch.context() as patch:
        raw = b"\x08\x00\x52\x00CS\xf0\xffSTUDY"
        read = identifiers.read_identifier
        patch.setattr(identifiers, "read_identifier", lambda _, syntax: read(raw, syntax))
        ((final, _),) = association.send_c_find(identifier(), STUDY_ROOT)
    assert final.Status == 0xC000
    association.release()


def test_a_peer_that_may_not_ask_is_told_so(asked):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dimse.association.ServedAssociation.permits", lambda *_: False)
        ((final, _),) = find(asked, identifier())
    assert final.Status == 0x0124


def limited(server, most: int) -> None:
    settings = server._archive.config.dimse.model_copy(update={"max_matches": most})
    config = server._archive.config.model_copy(update={"dimse": settings})
    server._archive = replace(server._archive, config=config)


def test_more_matches_than_the_limit_end_with_a_warning(asked):
    limited(asked, 10)
    *pending, (final, _) = find(asked, identifier(PatientID="MANY", StudyInstanceUID=""))
    assert (len(pending), final.Status) == (10, 0xB001)
    assert "10 matches" in final.ErrorComment
    limited(asked, MANY)
    *pending, (final, _) = find(asked, identifier(PatientID="MANY"))
    assert (len(pending), final.Status) == (MANY, 0)
    limited(asked, 0)
    assert len(matches(asked, identifier())) == MANY + 3


def test_a_search_that_takes_too_long_says_what_it_found(asked, monkeypatch):
    wanted = identifier("SERIES", SeriesInstanceUID="")
    wanted.add_new(0x00091001, "LO", "secret*")  # what the index has no column for
    keys = Evaluation.keys

    def late(self):
        yield next(keys(self))
        monkeypatch.setattr(evaluation, "_LONGEST_S", -1.0)
        yield from keys(self)

    monkeypatch.setattr(Evaluation, "keys", late)
    *pending, (final, _) = find(asked, wanted)
    assert (len(pending), final.Status) == (1, 0xB001)
    assert "not all matches" in final.ErrorComment
    monkeypatch.setattr(Evaluation, "keys", keys)
    ((final, _),) = find(asked, wanted)
    assert final.Status == 0xA700
    assert "took longer" in final.ErrorComment


# -- cancelling, and peers that go -------------------------------------------------------------


class Slow:
    """Has every search wait, after ``ready`` matches, until it is stopped."""

    def __init__(self, patch, ready: int = 0) -> None:
        from archive.query.service import QueryService

        self.began = threading.Event()
        self.ended = threading.Event()
        search = QueryService.search

        def slow(service, principal, request, *, stop=None, plan=None):
            found = search(service, principal, request, stop=stop, plan=plan)
            yield from itertools.islice(found, ready)
            self.began.set()
            end = threading.Event()
            while not stop.is_set:
                end.wait(0.01)
            self.ended.set()

        patch.setattr(QueryService, "search", slow)


def test_a_cancel_is_obeyed_while_nothing_is_found(asked, monkeypatch):
    slow = Slow(monkeypatch)
    association = associate(asked)
    cancelling = threading.Thread(
        target=lambda: (
            slow.began.wait(20) and association.send_c_cancel(5, query_model=STUDY_ROOT)
        )
    )
    cancelling.start()
    ((final, _),) = association.send_c_find(identifier(), STUDY_ROOT, msg_id=5)
    cancelling.join()
    assert final.Status == 0xFE00
    assert slow.ended.wait(20)
    monkeypatch.undo()
    answers = list(association.send_c_find(identifier(PatientID="P2"), STUDY_ROOT, msg_id=5))
    assert [status.Status for status, _ in answers] == [0xFF00, 0]
    association.release()


def test_what_was_found_before_a_cancel_is_answered_and_no_more(asked, monkeypatch):
    Slow(monkeypatch, ready=20)
    association = associate(asked)
    statuses = []
    for status, _ in association.send_c_find(identifier(), STUDY_ROOT, msg_id=7):
        statuses.append(status.Status)
        if len(statuses) == 8:
            association.send_c_cancel(7, query_model=STUDY_ROOT)
    assert statuses[-1] == 0xFE00
    assert 8 <= len(statuses) - 1 <= 20
    association.release()


def test_a_cancel_of_another_message_changes_nothing(asked):
    association = associate(asked)
    statuses = []
    for status, _ in association.send_c_find(
        identifier(PatientID="MANY"), STUDY_ROOT, msg_id=7
    ):
        if not statuses:
            association.send_c_cancel(9, query_model=STUDY_ROOT)
        statuses.append(status.Status)
    assert statuses == [0xFF00] * MANY + [0]
    association.release()


def test_a_search_ends_when_its_peer_has_gone(asked, monkeypatch):
    slow = Slow(monkeypatch)
    association = associate(asked)
    association.dimse_timeout = 1
    asking = threading.Thread(
        target=lambda: list(association.send_c_find(identifier(), STUDY_ROOT))
    )
    asking.start()
    assert slow.began.wait(20)
    association.abort()
    assert slow.ended.wait(20)
    asking.join()
    wait_until(
        lambda: not any(t.name == "search" for t in threading.enumerate()), what="its end"
    )


# -- large and small ---------------------------------------------------------------------------


@pytest.mark.parametrize("longest_pdu", [128, 4096, 0])
def test_large_identifiers_keep_to_the_longest_pdu_of_the_peer(asked, longest_pdu, monkeypatch):
    from pynetdicom import dul

    longest = []
    decode = dul.DULServiceProvider._decode_pdu

    def measured(self, raw):
        if not self.assoc.is_acceptor:
            longest.append(len(raw) - 6)
        return decode(self, raw)

    monkeypatch.setattr(dul.DULServiceProvider, "_decode_pdu", measured)
    uids = [f"1.2.826.0.1.3680043.8.498.{n:030}" for n in range(1, 200)]
    wanted = identifier("STUDY", StudyInstanceUID=["1.2.3.1", *uids], PatientName="")
    (found,) = matches(asked, wanted, longest_pdu=longest_pdu)
    assert found.StudyInstanceUID == "1.2.3.1"
    assert not longest_pdu or max(longest[1:]) <= longest_pdu

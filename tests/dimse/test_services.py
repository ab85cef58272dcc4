"""C-ECHO, C-STORE, C-FIND, C-GET and C-MOVE over real sockets, on both engines."""

import gc
import io
import socket
import struct
import threading
import warnings

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_role, evt
from pynetdicom.presentation import build_context

from archive.auth.principal import OPERATOR
from archive.identity import StudyRef
from dimse.messages import pdu
from tests.conftest import fill_up, store, wait_until, wheel_file

CT = "1.2.840.10008.5.1.4.1.1.2"
FIND, MOVE, GET = (f"1.2.840.10008.5.1.4.1.2.2.{n}" for n in (1, 2, 3))


def associate(dicom, *contexts, calling="TEST", roles=(), handlers=()):
    entity = AE(calling)
    return entity.associate(
        "127.0.0.1",
        dicom.port,
        contexts=[build_context(*context) for context in contexts],
        ae_title="FILEROOM",
        ext_neg=list(roles),
        evt_handlers=list(handlers),
    )


def read(name: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(wheel_file(name))


def send(dicom, *names: str, calling="TEST") -> list[int]:
    datasets = [read(name) for name in names]
    contexts = {(d.SOPClassUID, d.file_meta.TransferSyntaxUID) for d in datasets}
    association = associate(dicom, *((c, [t]) for c, t in contexts), calling=calling)
    assert association.is_established
    statuses = [association.send_c_store(dataset) for dataset in datasets]
    association.release()
    return [status.Status for status in statuses]


def stored_bodies(dicom) -> list[bytes]:
    archive = dicom._archive
    totals = archive.query.search(OPERATOR, _all_studies())
    refs = [StudyRef(match["0020000D"]["Value"][0]) for match in totals]
    found = archive.retrieve.instances(OPERATOR, refs)
    return [b"".join(archive.retrieve.iter_chunks(one)) for one in found]


def _all_studies():
    from archive.query.request import Level, SearchRequest

    return SearchRequest(Level.STUDY)


def data_set(body: bytes) -> bytes:
    (length,) = struct.unpack_from("<I", body, 140)
    return body[144 + length :]


def test_echo_is_answered(dicom):
    association = associate(dicom, ("1.2.840.10008.1.1",))
    assert association.send_c_echo().Status == 0
    association.release()


def test_what_is_sent_is_kept_to_the_byte_in_every_syntax(dicom):
    names = ["CT_small.dcm", "MR_small_implicit.dcm", "MR_small_RLE.dcm", "693_J2KI.dcm",
             "ExplVR_BigEnd.dcm", "image_dfl.dcm", "examples_ybr_color.dcm"]  # fmt: skip
    names = [name for name in names if list(wheel_file("CT_small.dcm").parent.glob(name))]
    statuses = send(dicom, *names)
    assert set(statuses) <= {0, 0xC001}
    sent = {data_set(wheel_file(name).read_bytes()) for name in names}
    kept = stored_bodies(dicom)
    assert len(kept) == statuses.count(0)
    for body in kept:
        assert body[128:132] == b"DICM"
        # pynetdicom rewrites what it sends; a byte comparison needs DCMTK (tests/interop).
        assert pydicom.dcmread(io.BytesIO(body)).SOPInstanceUID
    assert sent


def test_a_private_class_in_a_private_syntax_is_accepted(dicom):
    association = associate(
        dicom, ("1.2.3.4.5.6.7", ["1.2.3.4.5.8"]), (CT, ["1.2.840.10008.1.2.4.203"])
    )
    assert len(association.accepted_contexts) == 2
    association.release()


def test_duplicates_conflicts_and_refusals_have_their_statuses(dicom):
    dataset = read("CT_small.dcm")
    association = associate(dicom, (CT, [ExplicitVRLittleEndian]))
    assert association.send_c_store(dataset).Status == 0
    assert association.send_c_store(dataset).Status == 0
    dataset.PatientComments = "another"
    assert association.send_c_store(dataset).Status == 0xC001
    dataset.StudyInstanceUID = ""
    refused = association.send_c_store(dataset)
    assert refused.Status == 0xA900
    assert "Study Instance UID" in refused.ErrorComment
    dataset = read("CT_small.dcm")
    dataset.SeriesInstanceUID = "1.2.3.4.5"
    elsewhere = association.send_c_store(dataset)
    assert elsewhere.Status == 0xB007
    association.release()
    totals = dicom._archive.changes.totals(OPERATOR)
    assert (totals.instances, totals.held, totals.duplicates, totals.elsewhere) == (2, 1, 1, 1)


def test_the_sender_decides_the_site(dicom):
    send(dicom, "CT_small.dcm", calling="NORTH")
    (change,) = dicom._archive.changes.since(OPERATOR, 0)
    assert (change.site, change.principal) == ("north", "ae:NORTH")


def test_a_full_archive_answers_a700_and_goes_on_answering(dicom):
    fill_up(dicom._archive)
    assert send(dicom, "CT_small.dcm", "MR_small_RLE.dcm") == [0xA700, 0xA700]
    fill_up(dicom._archive, 0)
    assert send(dicom, "CT_small.dcm") == [0]


def test_an_instance_beyond_the_threshold_is_spooled_and_whole(dicom):
    dataset = read("CT_small.dcm")
    dataset.NumberOfFrames = 300
    dataset.PixelData = bytes(range(256)) * 128 * 300
    association = associate(dicom, (CT, [ExplicitVRLittleEndian]))
    assert association.send_c_store(dataset).Status == 0
    association.release()
    (body,) = stored_bodies(dicom)
    assert pydicom.dcmread(io.BytesIO(body)).PixelData == dataset.PixelData
    data_dir = dicom._archive.config.archive.data_dir
    assert not list((data_dir / "incoming").iterdir())


# -- find --------------------------------------------------------------------------------------


@pytest.fixture
def loaded(dicom, wheel_files):
    for path in wheel_files:
        try:
            store(dicom._archive, path)
        except Exception:
            continue
    return dicom


def find(dicom, sop_class=FIND, **keys) -> list[Dataset]:
    identifier = Dataset()
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    association = associate(dicom, (sop_class, [ImplicitVRLittleEndian]))
    answers = list(association.send_c_find(identifier, sop_class))
    association.release()
    assert answers[-1][0].Status == 0, answers[-1]
    return [identifier for status, identifier in answers[:-1]]


def test_find_answers_at_every_level_of_both_models(loaded):
    patient_root = "1.2.840.10008.5.1.4.1.2.1.1"
    for sop_class, level in (
        (patient_root, "PATIENT"), (patient_root, "STUDY"), (patient_root, "IMAGE"),
        (FIND, "STUDY"), (FIND, "SERIES"), (FIND, "IMAGE"),
    ):  # fmt: skip
        found = find(
            loaded, sop_class, QueryRetrieveLevel=level, PatientID="1CT1", PatientName=""
        )
        assert len(found) == 1, (sop_class, level)
        assert found[0].PatientName == "CompressedSamples^CT1"
        assert found[0].QueryRetrieveLevel == level
        assert found[0].RetrieveAETitle == "FILEROOM"


def test_find_and_qido_give_the_same_studies(loaded):
    from archive.query.request import Level, SearchKey, SearchRequest

    for tag, keyword, value in (
        ("00100010", "PatientName", "*a*"),
        ("00080020", "StudyDate", "19970101-20041231"),
        ("00080061", "ModalitiesInStudy", "MR"),
        ("00100020", "PatientID", "*1*"),
        ("00081030", "StudyDescription", "*e*"),
    ):
        request = SearchRequest(Level.STUDY, keys=(SearchKey((tag,), value),))
        expected = [
            match["0020000D"]["Value"][0]
            for match in loaded._archive.query.search(OPERATOR, request)
        ]
        found = find(
            loaded, QueryRetrieveLevel="STUDY", StudyInstanceUID="", **{keyword: value}
        )
        assert [one.StudyInstanceUID for one in found] == expected, keyword


def test_names_beyond_ascii_come_back_in_utf8(loaded):
    found = find(loaded, QueryRetrieveLevel="STUDY", PatientID="H32EXAMPLE", PatientName="")
    assert found[0].SpecificCharacterSet == "ISO_IR 192"
    assert "山田^太郎" in str(found[0].PatientName)


def test_a_find_without_a_level_is_refused(loaded):
    association = associate(loaded, (FIND,))
    identifier = Dataset()
    identifier.PatientName = "*"
    ((status, _),) = association.send_c_find(identifier, FIND)
    association.release()
    assert status.Status == 0xA900


def test_a_find_is_cancelled_when_asked(loaded):
    association = associate(loaded, (FIND,))
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = ""
    answers = []
    for status, _ in association.send_c_find(identifier, FIND, msg_id=7):
        if not answers:
            association.send_c_cancel(7, query_model=FIND)
        answers.append(status.Status)
    association.release()
    assert answers[-1] in (0xFE00, 0x0000)


# -- get and move ------------------------------------------------------------------------------


def ct_study() -> str:
    return str(read("CT_small.dcm").StudyInstanceUID)


def retrieve_identifier(**keys) -> Dataset:
    identifier = Dataset()
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    return identifier


def test_get_sends_what_was_stored_on_the_same_association(loaded):
    got = []

    def on_store(event):
        got.append((event.request.AffectedSOPInstanceUID, event.encoded_dataset(False)))
        return 0

    association = associate(
        loaded,
        (GET,),
        (CT, [ExplicitVRLittleEndian]),
        roles=[build_role(CT, scp_role=True)],
        handlers=[(evt.EVT_C_STORE, on_store)],
    )
    answers = [
        status
        for status, _ in association.send_c_get(
            retrieve_identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID=ct_study()), GET
        )
    ]
    association.release()
    final = answers[-1]
    assert final.Status == 0
    assert (final.NumberOfCompletedSuboperations, final.NumberOfFailedSuboperations) == (1, 0)
    ((uid, body),) = got
    assert uid == read("CT_small.dcm").SOPInstanceUID
    assert body == data_set(wheel_file("CT_small.dcm").read_bytes())


def test_get_counts_what_no_context_takes_as_failed_and_names_it(loaded):
    association = associate(loaded, (GET,), (CT, [ExplicitVRLittleEndian]))
    answers = list(
        association.send_c_get(
            retrieve_identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID=ct_study()), GET
        )
    )
    association.release()
    status, identifier = answers[-1]
    assert status.Status == 0xA702
    assert status.NumberOfFailedSuboperations == 1
    assert identifier.FailedSOPInstanceUIDList == read("CT_small.dcm").SOPInstanceUID


def test_get_makes_uncompressed_what_the_peer_takes_only_so(loaded):
    dataset = read("693_J2KI.dcm")
    got = []

    def on_store(event):
        got.append(event.dataset)
        return 0

    association = associate(
        loaded,
        (GET,),
        (CT, [ImplicitVRLittleEndian]),
        roles=[build_role(CT, scp_role=True)],
        handlers=[(evt.EVT_C_STORE, on_store)],
    )
    identifier = retrieve_identifier(
        QueryRetrieveLevel="STUDY", StudyInstanceUID=dataset.StudyInstanceUID
    )
    answers = list(association.send_c_get(identifier, GET))
    association.release()
    assert answers[-1][0].Status == 0
    assert got[0].SOPInstanceUID == dataset.SOPInstanceUID
    assert got[0].PixelData == dataset.pixel_array.tobytes()


@pytest.fixture
def sink(sink_port):
    """A Storage SCP that C-MOVE sends to."""
    got = []

    def on_store(event):
        request = event.request
        got.append(
            (
                request.AffectedSOPInstanceUID,
                request.MoveOriginatorApplicationEntityTitle,
                request.MoveOriginatorMessageID,
                event.encoded_dataset(False),
            )
        )
        return 0

    entity = AE("SINK")
    for sop_class in (CT, "1.2.840.10008.5.1.4.1.1.4"):
        entity.add_supported_context(
            sop_class, [ExplicitVRLittleEndian, "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.5"]
        )
    server = entity.start_server(
        ("127.0.0.1", sink_port), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)]
    )
    yield got
    server.shutdown()


def move(dicom, destination: str, **keys):
    association = associate(dicom, (MOVE,))
    answers = list(
        association.send_c_move(retrieve_identifier(**keys), destination, MOVE, msg_id=9)
    )
    association.release()
    return answers


def test_move_sends_to_the_destination_and_names_its_originator(loaded, sink):
    answers = move(loaded, "SINK", QueryRetrieveLevel="STUDY", StudyInstanceUID=ct_study())
    final = answers[-1][0]
    assert (final.Status, final.NumberOfCompletedSuboperations) == (0, 1)
    ((uid, originator, message_id, body),) = sink
    assert (uid, originator, message_id) == (read("CT_small.dcm").SOPInstanceUID, "TEST", 9)
    assert body == data_set(wheel_file("CT_small.dcm").read_bytes())


def test_move_takes_lists_of_unique_keys_at_every_level(loaded, sink):
    ct, mr = read("CT_small.dcm"), read("MR_small_RLE.dcm")
    move(
        loaded,
        "SINK",
        QueryRetrieveLevel="STUDY",
        StudyInstanceUID=[ct.StudyInstanceUID, mr.StudyInstanceUID],
    )
    assert len(sink) == 2
    for level, keys in (
        ("SERIES", {"SeriesInstanceUID": ct.SeriesInstanceUID}),
        (
            "IMAGE",
            {"SeriesInstanceUID": ct.SeriesInstanceUID, "SOPInstanceUID": ct.SOPInstanceUID},
        ),
    ):
        sink.clear()
        move(
            loaded,
            "SINK",
            QueryRetrieveLevel=level,
            StudyInstanceUID=ct.StudyInstanceUID,
            **keys,
        )
        assert [one[0] for one in sink] == [ct.SOPInstanceUID], level


def test_move_to_nobody_known_is_a801(loaded):
    answers = move(loaded, "NOBODY", QueryRetrieveLevel="STUDY", StudyInstanceUID=ct_study())
    assert answers[-1][0].Status == 0xA801


def test_move_without_its_unique_key_never_moves_the_archive(loaded, sink):
    answers = move(loaded, "SINK", QueryRetrieveLevel="STUDY", StudyInstanceUID="")
    assert answers[-1][0].Status == 0xA900
    assert sink == []


# pynetdicom does not close the socket of a connection that was refused.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_move_to_a_destination_that_is_down_reports_every_suboperation_failed(loaded):
    answers = move(loaded, "SINK", QueryRetrieveLevel="STUDY", StudyInstanceUID=ct_study())
    final, identifier = answers[-1]
    assert (final.Status, final.NumberOfFailedSuboperations) == (0xA702, 1)
    assert identifier.FailedSOPInstanceUIDList
    gc.collect()  # here, and not in a test that is not told to expect it


# -- rude peers --------------------------------------------------------------------------------


def leaves_nothing(dicom) -> bool:
    data_dir, objects = dicom._archive.config.archive.data_dir, dicom._archive.objects
    return not any((data_dir / "incoming").iterdir()) and not any(objects.walk("objects"))


def test_a_sender_that_vanishes_mid_instance_leaves_nothing(dicom):
    association = associate(dicom, (CT, [ExplicitVRLittleEndian]))
    context = association.accepted_contexts[0].context_id
    from dimse.messages import store_request

    command = store_request(sop_class_uid=CT, sop_instance_uid="1.2.3", message_id=1)
    raw = association.dul.socket.socket
    raw.sendall(pdu(context, 3, command) + pdu(context, 0, b"x" * 50_000))
    raw.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: not any(one.is_alive() for one in dicom._associations), what="the end")
    association.abort()
    assert leaves_nothing(dicom)
    assert send(dicom, "CT_small.dcm") == [0]


@pytest.mark.parametrize(
    "rubbish",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x01\x00\xff\xff\xff\xff" + b"x" * 100,
        b"\x04\0\0\0\0\x10",
        bytes(500),
    ],
)
def test_rubbish_ends_its_own_connection_only(dicom, rubbish):
    with socket.create_connection(("127.0.0.1", dicom.port)) as connection:
        connection.sendall(rubbish)
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(15)
        while connection.recv(4096):
            pass
    association = associate(dicom, ("1.2.840.10008.1.1",))
    assert association.send_c_echo().Status == 0
    association.release()


def test_several_senders_at_once_are_all_stored(dicom):
    def one(number: int) -> None:
        dataset = read("MR_small_RLE.dcm")
        dataset.SeriesInstanceUID = f"1.2.3.{number}"
        association = associate(
            dicom, (dataset.SOPClassUID, [dataset.file_meta.TransferSyntaxUID])
        )
        for instance in range(5):
            dataset.SOPInstanceUID = f"1.2.3.{number}.{instance}"
            statuses.append(association.send_c_store(dataset).Status)
        association.release()

    statuses: list[int] = []
    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [0] * 30
    assert dicom._archive.changes.totals(OPERATOR).instances == 30

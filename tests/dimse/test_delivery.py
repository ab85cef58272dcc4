"""Stored instances sent to a peer: in which form, over how many associations, at what cost."""

import io
import time
import tracemalloc
import warnings

import pydicom
import pytest
from pynetdicom import AE, _config, evt

from archive.auth.principal import OPERATOR
from archive.config import DimseSection, Peer
from archive.errors import PeerError
from archive.identity import StudyRef
from dimse.outgoing import deliver
from tests.builders import dataset, part10
from tests.conftest import free_port, make_config, running_archive, spoil, store, wheel_file
from tests.dimse.raw_receiver import RawReceiver, store_response

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
JPEG, JPEG_LOSSLESS = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.70"
JPEG_LS, JPEG_2000 = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"
RLE, DEFLATED = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.1.99"
CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture
def archive(engine, tmp_path):
    section = DimseSection(
        port=0, engine=engine, network_timeout_s=10, spool_threshold_bytes=100_000
    )
    with running_archive(make_config(tmp_path / "data", dimse=section)) as opened:
        yield opened


class Receiver:
    """A Storage SCP that takes what it is told to, and keeps it as it came."""

    def __init__(self, classes, syntaxes, **settings) -> None:
        self.got, self.associations = [], 0
        entity = AE("SINK")
        for name, value in settings.items():
            setattr(entity, name, value)
        for sop_class in classes:
            entity.add_supported_context(sop_class, list(syntaxes))
        self.port = free_port()
        self._server = entity.start_server(
            ("127.0.0.1", self.port),
            block=False,
            evt_handlers=[(evt.EVT_C_STORE, self._store), (evt.EVT_ACCEPTED, self._accepted)],
        )

    def peer(self, *preferred: str) -> Peer:
        return Peer(
            ae_title="SINK", host="127.0.0.1", port=self.port, transfer_syntaxes=preferred
        )

    def _accepted(self, event) -> None:
        self.associations += 1

    def _store(self, event) -> int:
        self.got.append(
            (
                str(event.request.AffectedSOPInstanceUID),
                str(event.context.transfer_syntax),
                event.encoded_dataset(),
            )
        )
        return 0

    def __enter__(self) -> "Receiver":
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()


@pytest.fixture(autouse=True)
def strict(monkeypatch):
    """Let pynetdicom's SCPs accept what they support, and nothing else."""
    monkeypatch.setattr(_config, "UNRESTRICTED_STORAGE_SERVICE", False)


def send(archive, peer, study: str, **more):
    """What became of every instance of a study."""
    outcomes = []
    listing = archive.retrieve.listing(OPERATOR, [StudyRef(study)])
    deliver(
        archive,
        OPERATOR,
        peer,
        listing,
        on_each=lambda one, status, why: outcomes.append((one.sop_instance_uid, status, why)),
        **more,
    )
    return outcomes


def read(raw) -> pydicom.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(io.BytesIO(raw), force=True)


def original(archive, name: str) -> pydicom.Dataset:
    store(archive, wheel_file(name))
    return pydicom.dcmread(wheel_file(name))


def data_set(name: str) -> bytes:
    body = wheel_file(name).read_bytes()
    return body[144 + int.from_bytes(body[140:144], "little") :]


@pytest.mark.parametrize(
    ("name", "syntax"),
    [
        ("CT_small.dcm", EXPLICIT),
        ("MR_small_implicit.dcm", IMPLICIT),
        ("MR_small_RLE.dcm", RLE),
        ("image_dfl.dcm", DEFLATED),
    ],
)
def test_every_byte_arrives_as_it_was_stored_where_the_peer_takes_it_so(archive, name, syntax):
    stored = original(archive, name)
    with Receiver([stored.SOPClassUID], [syntax], maximum_pdu_size=0) as receiver:
        assert send(archive, receiver.peer(), stored.StudyInstanceUID)[0][1] == 0
    ((_, arrived_as, body),) = receiver.got
    assert arrived_as == syntax
    assert body.endswith(data_set(name))


@pytest.mark.parametrize("preferred", [RLE, JPEG_LS, JPEG_2000, IMPLICIT])
def test_a_peer_is_sent_what_it_prefers_and_no_pixel_is_lost(archive, preferred):
    stored = original(archive, "CT_small.dcm")
    with Receiver([CT], [preferred, EXPLICIT]) as receiver:
        ((uid, status, _),) = send(
            archive, receiver.peer(preferred), str(stored.StudyInstanceUID)
        )
    ((arrived_uid, arrived_as, body),) = receiver.got
    assert (uid, status, arrived_as) == (stored.SOPInstanceUID, 0, preferred)
    assert arrived_uid == stored.SOPInstanceUID
    assert (read(body).pixel_array == stored.pixel_array).all()


def test_the_next_best_is_sent_where_the_peer_does_not_take_the_best(archive):
    stored = original(archive, "CT_small.dcm")
    with Receiver([CT], [RLE, EXPLICIT]) as receiver:
        send(archive, receiver.peer(JPEG_2000, RLE), str(stored.StudyInstanceUID))
    assert receiver.got[0][1] == RLE


def test_what_has_no_pixels_is_sent_uncompressed_whatever_is_preferred(archive):
    made = dataset("1.1", "1.1.1", "1.1.1.1")
    store(archive, part10(made))
    with Receiver([made.SOPClassUID], [JPEG_2000, EXPLICIT]) as receiver:
        ((_, status, _),) = send(archive, receiver.peer(JPEG_2000), "1.1")
    assert (status, receiver.got[0][1]) == (0, EXPLICIT)


def test_what_loses_something_is_sent_only_to_who_asks_and_as_another_instance(archive):
    name = "examples_rgb_color.dcm"
    stored = original(archive, name)
    uid, study = str(stored.SOPInstanceUID), str(stored.StudyInstanceUID)
    with Receiver([stored.SOPClassUID], [JPEG]) as receiver:
        ((_, status, why),) = send(archive, receiver.peer(), study)
        assert status is None
        assert "accepts none of the presentation contexts" in why
        ((told, status, _),) = send(archive, receiver.peer(JPEG), study)
    assert (told, status) == (uid, 0)
    ((arrived_uid, arrived_as, body),) = receiver.got
    assert arrived_as == JPEG
    arrived = read(body)
    assert arrived_uid == arrived.SOPInstanceUID != uid
    assert arrived.LossyImageCompression == "01"


def test_what_cannot_be_decoded_fails_alone_and_says_why(archive):
    made = original(archive, "CT_small.dcm")
    broken = pydicom.dcmread(wheel_file("693_J2KI.dcm"))
    broken.StudyInstanceUID, broken.SeriesInstanceUID = made.StudyInstanceUID, "1.2.3"
    broken.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"  # a video
    path = archive.config.archive.data_dir / "broken.dcm"
    broken.save_as(path)
    store(archive, path)
    with Receiver([CT], [EXPLICIT]) as receiver:
        outcomes = send(archive, receiver.peer(), str(made.StudyInstanceUID))
    by_uid = {uid: (status, why) for uid, status, why in outcomes}
    assert by_uid[made.SOPInstanceUID] == (0, "")
    status, why = by_uid[broken.SOPInstanceUID]
    assert status is None
    assert "not decoded" in why


def test_an_object_that_ends_early_costs_itself_alone(archive):
    for number in (1, 2, 3):
        made = dataset("1.1", "1.1.1", f"1.1.1.{number}", InstanceNumber=number)
        made.PatientComments = "x" * 1_000_000
        store(archive, part10(made))
    entries = archive.retrieve.listing(OPERATOR, [StudyRef("1.1")])
    second = archive.retrieve.instances(OPERATOR, [StudyRef("1.1")])
    key = next(one.object_key for one in second if one.sop_instance_uid == "1.1.1.2")
    spoil(archive, key, lambda body: body[:600_000])
    with Receiver([made.SOPClassUID], [EXPLICIT]) as receiver:
        outcomes = send(archive, receiver.peer(), "1.1")
    assert [(uid, status) for uid, status, _ in outcomes] == [
        ("1.1.1.1", 0), ("1.1.1.2", None), ("1.1.1.3", 0),
    ]  # fmt: skip
    assert "ends" in outcomes[1][2]
    assert [uid for uid, _, _ in receiver.got] == ["1.1.1.1", "1.1.1.3"]
    assert len(entries) == 3


def test_more_classes_than_an_association_has_room_for_go_over_several(archive):
    classes = [f"1.2.840.10008.5.1.4.1.1.{number}" for number in range(1000, 1070)]
    for number, sop_class in enumerate(classes):
        made = dataset("1.1", "1.1.1", f"1.1.1.{number}", InstanceNumber=number)
        made.SOPClassUID = sop_class
        store(archive, part10(made))
    with RawReceiver(EXPLICIT) as receiver:
        outcomes = send(archive, receiver.peer, "1.1")
    assert [status for _, status, _ in outcomes] == [0] * 70
    assert len({uid for uid, _, _ in outcomes}) == 70
    assert receiver.associations == 2


def test_what_is_transcoded_is_never_whole_in_memory(archive):
    # 48 MB in implicit VR, made explicit; the threshold of this archive is 100 KB.
    made = dataset("1.1", "1.1.1", "1.1.1.1")
    made.SOPClassUID = CT
    made.Rows = made.Columns = 1000
    made.NumberOfFrames, made.SamplesPerPixel = 24, 1
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.PixelRepresentation = 15, 0
    made.PhotometricInterpretation = "MONOCHROME2"
    made.PixelData = bytes(48_000_000)
    made["PixelData"].VR = "OW"
    store(archive, part10(made))
    with RawReceiver(IMPLICIT) as receiver:
        tracemalloc.start()
        try:
            ((_, status, why),) = send(archive, receiver.peer, "1.1")
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (status, why) == (0, "")
    assert receiver.received > 48_000_000
    assert most < 24_000_000  # the stock engine queues up to 16 MB of what it sends
    assert not list(archive.config.archive.data_dir.glob("tmp*"))


# -- peers that misbehave ----------------------------------------------------------------------


@pytest.fixture
def three(archive) -> list[str]:
    uids = [f"1.1.1.{number}" for number in (1, 2, 3)]
    for number, uid in enumerate(uids):
        store(archive, part10(dataset("1.1", "1.1.1", uid, InstanceNumber=number)))
    return uids


@pytest.mark.parametrize("longest", [0, 8, 128, 1000, 4096, 1_000_000])
def test_no_pdu_is_longer_than_the_peer_takes(archive, three, longest):
    with RawReceiver(maximum=longest) as receiver:
        outcomes = send(archive, receiver.peer, "1.1")
    assert [status for _, status, _ in outcomes] == [0, 0, 0]
    assert receiver.longest <= (longest or 131072)


def test_answers_to_other_messages_are_not_taken_for_ours(archive, three):
    def answer(message_id: int) -> list[bytes]:
        return [store_response(message_id + 5, 0xA700), store_response(message_id)]

    with RawReceiver(answer=answer) as receiver:
        outcomes = send(archive, receiver.peer, "1.1")
    assert [status for _, status, _ in outcomes] == [0, 0, 0]


def test_a_peer_that_hangs_up_each_time_still_gets_the_rest(archive, three):
    served = []

    def answer(message_id: int) -> list[bytes] | None:
        served.append(message_id)
        return None if len(served) == 2 else [store_response(message_id)]

    with RawReceiver(answer=answer) as receiver:
        outcomes = send(archive, receiver.peer, "1.1")
    assert [status for _, status, _ in outcomes] == [0, None, 0]
    assert "the association is lost" in outcomes[1][2]
    assert receiver.associations == 2


def test_a_peer_that_always_hangs_up_is_given_up_at_once(archive, three):
    with (
        RawReceiver(answer=lambda _: None) as receiver,
        pytest.raises(PeerError, match="the association is lost"),
    ):
        send(archive, receiver.peer, "1.1")
    assert receiver.associations == 1


def test_a_peer_that_does_not_read_is_given_up(engine, tmp_path):
    section = DimseSection(port=0, engine=engine, network_timeout_s=1)
    with running_archive(make_config(tmp_path / "data", dimse=section)) as archive:
        made = dataset("1.1", "1.1.1", "1.1.1.1", PatientComments="x" * 20_000_000)
        store(archive, part10(made))
        started = time.monotonic()
        with (
            RawReceiver("1.2.840.10008.1.2.1", reads=False) as receiver,
            pytest.raises(PeerError, match="the association is lost"),
        ):
            send(archive, receiver.peer, "1.1")
        assert time.monotonic() - started < 20


def test_who_cancels_gets_what_was_under_way(archive, three):
    outcomes = []
    with RawReceiver() as receiver:
        deliver(
            archive,
            OPERATOR,
            receiver.peer,
            archive.retrieve.listing(OPERATOR, [StudyRef("1.1")]),
            on_each=lambda one, status, why: outcomes.append(status),
            cancelled=lambda: len(outcomes) == 2,
        )
    assert outcomes == [0, 0]


def test_a_few_known_instances_may_be_given_instead_of_a_listing(archive, three):
    outcomes = []
    with RawReceiver() as receiver:
        deliver(
            archive,
            OPERATOR,
            receiver.peer,
            list(archive.retrieve.instances(OPERATOR, [StudyRef("1.1")]))[1:],
            on_each=lambda one, status, why: outcomes.append((one.sop_instance_uid, status)),
        )
    assert outcomes == [(three[1], 0), (three[2], 0)]

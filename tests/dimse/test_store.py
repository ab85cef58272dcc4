"""C-STORE as senders really send it, byte by byte, on both engines (PS3.4 Annex B)."""

import contextlib
import io
import itertools
import struct
import threading
import warnings
import zlib

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.filewriter import write_dataset

from archive.auth.principal import OPERATOR
from archive.identity import InstanceRef
from archive.query.request import Level, SearchKey, SearchRequest
from dimse import messages
from dimse.server import DicomServer
from tests.conftest import (
    listening_socket,
    make_config,
    running_archive,
    wait_until,
    wheel_file,
)
from tests.dimse.raw import CT, EXPLICIT, IMPLICIT, RawSender, request

BIG, DEFLATED, JPEG = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.50"
CT_UID = "1.3.6.1.4.1.5962.1.1.1.1.1.20040119072730.12322"
WORKLIST = "1.2.840.10008.5.1.4.31"
_numbers = itertools.count(30000)


@pytest.fixture(scope="module", params=["direct", "stock"])
def running(request, tmp_path_factory):
    """A server that the tests of this file share; each sends an instance of its own."""
    with serving(request.param, tmp_path_factory.mktemp(request.param)) as server:
        yield server


def new_uid() -> str:
    """A SOP Instance UID of the length of CT_small.dcm's own."""
    return CT_UID[:-5] + f"{next(_numbers):05}"


def whole_file(uid: str = CT_UID) -> bytes:
    """A real file, but for its SOP Instance UID."""
    return wheel_file("CT_small.dcm").read_bytes().replace(CT_UID.encode(), uid.encode())


def body(uid: str = CT_UID) -> bytes:
    """Its data set, as it lies there."""
    raw = whole_file(uid)
    (length,) = struct.unpack_from("<I", raw, 140)
    return raw[144 + length :]


def encoded(dataset: Dataset, *, implicit: bool = False, big: bool = False) -> bytes:
    buffer = pydicom.filebase.DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = implicit, not big
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def ct(uid: str = CT_UID, **changes) -> Dataset:
    dataset = read(whole_file(uid))
    for keyword, value in changes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


def element(tag: int, vr: str, value: bytes) -> bytes:
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), len(value)) + value


def status(answer) -> int | None:
    return None if answer is None else messages.number(answer, messages.STATUS)


def comment(answer) -> str:
    return messages.text(answer, messages.ERROR_COMMENT)


def offending(answer) -> list[int]:
    raw = answer.get(messages.OFFENDING_ELEMENT, b"")
    pairs = struct.iter_unpack("<HH", raw)
    return [group << 16 | number for group, number in pairs]


def stored(dicom, uid: str = CT_UID) -> bytes | None:
    """The object that is stored under a SOP Instance UID, whole."""
    archive = dicom._archive
    search = SearchRequest(Level.INSTANCE, keys=(SearchKey(("00080018",), uid),))
    matches = list(archive.query.search(OPERATOR, search))
    if not matches:
        return None
    study, series = (matches[0][tag]["Value"][0] for tag in ("0020000D", "0020000E"))
    (instance,) = archive.retrieve.instances(OPERATOR, [InstanceRef(study, series, uid)])
    whole = b"".join(archive.retrieve.iter_chunks(instance))
    assert read(whole).file_meta.TransferSyntaxUID == instance.transfer_syntax_uid
    return whole


def read(whole: bytes) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(io.BytesIO(whole))


# -- what is refused, with which status --------------------------------------------------------

MWL_COMMAND = request(sop_class_uid=WORKLIST)
LONG_UID = "1.2." + "3" * 70


def cases() -> dict[str, tuple[bytes | None, bytes, int, list[int], str]]:
    """Data set, command, status, offending elements, a word of the comment."""
    good = body()
    return {
        "good": (good, request(), 0, [], ""),
        "again": (good, request(), 0, [], ""),
        "other content": (
            encoded(ct(PatientComments="x")), request(), 0xC001, [], "held aside",
        ),
        "no study": (
            encoded(ct(StudyInstanceUID="")), request(), 0xA900, [0x0020000D], "Study",
        ),
        "no series": (encoded(ct(SeriesInstanceUID=None)), request(), 0xA900, [0x0020000E], ""),
        "bad UID": (encoded(ct(StudyInstanceUID="x1")), request(), 0xA900, [0x0020000D], ""),
        "no instance": (
            encoded(ct(SOPInstanceUID=None)), request(), 0xA900, [0x00080018], "SOP Instance",
        ),
        "no instance at all": (
            encoded(ct(SOPInstanceUID=None)), request(""), 0xA900, [0x00080018], "SOP Instance",
        ),
        "empty": (b"", request(), 0xC000, [], "empty"),
        "rubbish": (b"\xff" * 5000, request(), 0xC000, [0xFFFFFFFF], ""),
        "truncated": (good[:-1000], request(), 0xC000, [0x7FE00010], "past the end"),
        "cut in a header": (good[:5], request(), 0xC000, [], ""),
        "no data set": (
            None, request().replace(b"\0\x08\x02\0\0\0\x01\0", b"\0\x08\x02\0\0\0\x01\x01"),
            0xC000, [0x00000800], "no data set",
        ),
        "worklist": (good, MWL_COMMAND, 0x0122, [], WORKLIST),
        "another class": (
            good, request(sop_class_uid="1.2.840.10008.5.1.4.1.1.4"), 0xB007, [0x00080016], "",
        ),
        "another instance": (good, request("1.2.3"), 0xB007, [0x00080018], "data set"),
        "no instance in the command": (good, request(""), 0xB007, [0x00080018], "without"),
        "too long a UID in the command": (good, request(LONG_UID), 0xB007, [0x00080018], ""),
        "no class in the command": (good, request(sop_class_uid=""), 0, [], ""),
        "blanks about the UID": (good, request(CT_UID + " \0 "), 0, [], ""),
        "elsewhere": (
            encoded(ct(SeriesInstanceUID="1.2.3.4.5")), request(), 0xB007, [0x00080018], "also",
        ),
    }  # fmt: skip


def outcomes(dicom) -> dict[str, messages.Command | None]:
    with RawSender(dicom) as sender:
        answers = {name: sender.store(data, cmd) for name, (data, cmd, *_) in cases().items()}
        assert sender.release()
    return answers


def test_every_refusal_has_its_status_its_elements_and_its_words(dicom):
    answers = outcomes(dicom)
    for name, (_, _, code, elements, word) in cases().items():
        answer = answers[name]
        assert answer is not None, name
        assert f"{status(answer):04X}" == f"{code:04X}", (name, comment(answer))
        assert offending(answer) == elements, name
        assert word in comment(answer), (name, comment(answer))
        assert bool(comment(answer)) == (code != 0), name
        assert messages.number(answer, messages.COMMAND_FIELD) == messages.C_STORE_RSP
    totals = dicom._archive.changes.totals(OPERATOR)
    assert (totals.instances, totals.held) == (2, 1)


@contextlib.contextmanager
def serving(engine: str, folder, **settings):
    config = make_config(folder)
    told = {"engine": engine, "network_timeout_s": 10, **settings}
    dimse = config.dimse.model_copy(update=told)
    with running_archive(config.model_copy(update={"dimse": dimse})) as archive:
        listening = listening_socket()
        server = DicomServer(archive, listening)
        thread = threading.Thread(target=server.serve)
        thread.start()
        yield server
        server.stop()
        thread.join()
        listening.close()


def test_both_engines_answer_with_the_same_elements(tmp_path):
    answers = []
    for engine in ("direct", "stock"):
        with serving(engine, tmp_path / engine) as server:
            answers.append(outcomes(server))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("engine", ["direct", "stock"])
def test_a_peer_without_the_right_to_store_is_answered_0124(tmp_path, engine):
    with (
        serving(engine, tmp_path, strangers=("find",)) as server,
        RawSender(server) as sender,
    ):
        answer = sender.store(body())
        assert status(answer) == 0x0124
        assert "may not store" in comment(answer)
        assert sender.release()


# -- commands ----------------------------------------------------------------------------------


def command(*elements: tuple[int, bytes], length: int | None = None) -> bytes:
    raw = b"".join(struct.pack("<HHI", 0, number, len(v)) + v for number, v in elements)
    return struct.pack("<HHII", 0, 0, 4, len(raw) if length is None else length) + raw


def plain(**changes: bytes | None) -> tuple[tuple[int, bytes], ...]:
    """The elements of a C-STORE-RQ; as keywords what is other, or missing."""
    known = {
        "e0002": CT.encode() + b"\0",
        "e0100": b"\x01\0",
        "e0110": b"\x07\0",
        "e0700": b"\0\0",
        "e0800": b"\x01\0",
        "e1000": CT_UID.encode() + b"\0",
    }
    return tuple((int(n[1:], 16), v) for n, v in (known | changes).items() if v is not None)


@pytest.mark.parametrize(
    "raw",
    [
        command(*plain()),
        command(*plain(), length=0),
        command(*plain(), length=123456),
        command(*plain(e1030=b"MOVER   ", e1031=b"\xff\xff")),
        command(*plain(e1030=bytes(16), e1031=b"")),
        command(*plain(e5555=b"whatever")),
        command((0x0001, b"old "), *plain()),
        command(*plain(e0700=None)),
        command(*plain(e0002=CT.encode(), e1000=CT_UID.encode())),
        command(*plain(e0110=b"\x07\0\0\0")),
        command(*plain(e0700=b"\x05\0")),
        command(*reversed(plain())),
    ],
    ids=["plain", "no-length", "wrong-length", "moved", "moved-by-nulls", "unknown-element",
         "retired-length-to-end", "no-priority", "odd", "long-message-id", "odd-priority",
         "disordered"],
)  # fmt: skip
def test_a_command_need_not_be_perfect(running, raw):
    with RawSender(running) as sender:
        answer = sender.store(body(), raw)
        assert status(answer) == 0
        assert messages.number(answer, messages.MESSAGE_ID_RESPONDED_TO) == 7
        assert messages.text(answer, messages.AFFECTED_SOP_INSTANCE_UID) == CT_UID
        assert sender.release()
    assert stored(running) is not None


def test_message_ids_are_repeated_whatever_they_are(running):
    with RawSender(running) as sender:
        for message_id in (0, 1, 65535, 65535):
            answer = sender.store(body(), request(message_id=message_id))
            assert messages.number(answer, messages.MESSAGE_ID_RESPONDED_TO) == message_id
        without = sender.store(body(), command(*plain(e0110=None)))
        assert messages.number(without, messages.MESSAGE_ID_RESPONDED_TO) == 0
        assert sender.release()


@pytest.mark.parametrize(
    "raw",
    [
        b"\x08\0\0\0\x04\0\0\0abcd",
        struct.pack("<HHI", 0, 0x0100, 9999) + b"\x01\0",
        b"\0\0\0\0UL\x04\0\x10\0\0\0\0\0\x00\x01US\x02\0\x01\0",
    ],
    ids=["another-group", "too-short", "explicit-vr"],
)
def test_what_is_no_command_set_is_aborted(running, raw):
    with RawSender(running) as sender:
        sender.send(raw, body())
        assert sender.read()[0] in (0, 7)
    with RawSender(running) as sender:
        assert status(sender.store(body())) == 0


def test_a_context_that_was_not_accepted_is_aborted(running):
    with RawSender(running, ((CT, (EXPLICIT,)), (WORKLIST, (EXPLICIT,)))) as sender:
        sender.send(request(), body(), context_id=3)
        assert sender.read()[0] in (0, 7)


def test_an_instance_on_a_context_of_no_storage_is_refused(running):
    verification = "1.2.840.10008.1.1"
    with RawSender(running, ((verification, (EXPLICIT,)), (CT, (EXPLICIT,)))) as sender:
        answer = sender.store(body(), context_id=1)
        assert (status(answer), comment(answer)) == (
            0x0122,
            f"no storage class: {verification}",
        )
        assert status(sender.store(body(), context_id=3)) == 0


def test_a_peer_that_takes_no_more_than_16_bytes_is_answered_in_pieces(running):
    with RawSender(running, maximum_pdu=16) as sender:
        assert status(sender.store(body()[:-1000])) == 0xC000
        assert status(sender.store(body())) == 0
        assert sender.release()


# -- data sets ---------------------------------------------------------------------------------


def kept(running, data: bytes, uid: str, syntax: str = EXPLICIT, **how) -> Dataset:
    """Send a data set that has to be kept, and read what is stored."""
    with RawSender(running, ((CT, (syntax,)),)) as sender:
        answer = sender.store(data, request(uid), **how)
        assert status(answer) == 0, comment(answer)
        assert sender.release()
    whole = stored(running, uid)
    assert whole is not None
    assert whole.endswith(data)
    return read(whole)


def refused(running, data: bytes, uid: str, syntax: str = EXPLICIT) -> messages.Command:
    """Send a data set that cannot be kept."""
    with RawSender(running, ((CT, (syntax,)),)) as sender:
        answer = sender.store(data, request(uid))
        assert answer is not None
        assert sender.release()
    assert stored(running, uid) is None
    return answer


def test_odd_lengths_group_lengths_and_padding_are_kept_as_they_are(running):
    uid = new_uid()
    group_length = element(0x00080000, "UL", struct.pack("<I", 4242))
    good = body(uid)
    character_set = 8 + struct.unpack_from("<H", good, 6)[0]
    image_type = character_set + 8 + struct.unpack_from("<H", good, character_set + 6)[0]
    odd = element(0x00080008, "CS", b"ODD")
    data = group_length + good[:character_set] + odd + good[image_type:]
    data += struct.pack("<HH2sHI", 0xFFFC, 0xFFFC, b"OB", 0, 64) + bytes(64)
    dataset = kept(running, data, uid)
    assert dataset.ImageType == "ODD"
    assert dataset.PixelData == ct().PixelData


def test_trailing_zeros_are_kept(running):
    uid = new_uid()
    assert kept(running, body(uid) + bytes(7), uid).PixelData == ct().PixelData


@pytest.mark.parametrize("claimed", [EXPLICIT, IMPLICIT, BIG, DEFLATED])
@pytest.mark.parametrize("actual", [EXPLICIT, IMPLICIT, BIG])
def test_what_is_not_in_its_syntax_is_kept_under_its_own(running, claimed, actual):
    uid = new_uid()
    data = encoded(ct(uid), implicit=actual == IMPLICIT, big=actual == BIG)
    if claimed == DEFLATED and actual != EXPLICIT:
        assert status(refused(running, data, uid, claimed)) == 0xC000
        return
    dataset = kept(running, data, uid, claimed)
    assert dataset.file_meta.TransferSyntaxUID == actual
    assert dataset.PatientName == ct().PatientName


def deflated(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


def test_a_deflated_data_set_may_have_a_byte_behind(running):
    uid = new_uid()
    data = deflated(body(uid)) + b"\0"
    assert kept(running, data, uid, DEFLATED).PixelData == ct().PixelData


def test_a_deflated_data_set_that_breaks_off_is_refused(running):
    uid = new_uid()
    answer = refused(running, deflated(body(uid))[:-100], uid, DEFLATED)
    assert status(answer) == 0xC000
    assert "deflated" in comment(answer)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG, DEFLATED])
def test_the_header_names_what_the_data_set_is(running, syntax):
    uid = new_uid()
    data = encoded(ct(uid), implicit=syntax == IMPLICIT, big=syntax == BIG)
    data = deflated(data) if syntax == DEFLATED else data
    with RawSender(running, ((CT, (syntax,)),)) as sender:
        assert status(sender.store(data, request("1.2.3", sop_class_uid="1.2.4"))) == 0xB007
    meta = read(stored(running, uid)).file_meta
    assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == (CT, uid)
    assert meta.SourceApplicationEntityTitle == "RAW"


@pytest.mark.parametrize("preamble", [True, False])
@pytest.mark.parametrize("claimed", [EXPLICIT, IMPLICIT, JPEG])
def test_a_file_sent_whole_is_kept_as_the_file_it_is(running, preamble, claimed):
    uid = new_uid()
    whole = whole_file(uid)
    kept(running, whole if preamble else whole[132:], uid, claimed)
    assert stored(running, uid) == (whole if preamble else bytes(128) + whole[128:])


def test_stray_header_elements_are_passed_over(running):
    uid = new_uid()
    stray = element(0x00020016, "AE", b"STRAY ")
    assert kept(running, stray + body(uid), uid).PatientName == ct().PatientName


def fragments(*pieces: bytes, closed: bool = True) -> bytes:
    items = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(p)) + p for p in pieces)
    end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0) if closed else b""
    return struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF) + items + end


def without_pixels(uid: str) -> bytes:
    dataset = ct(uid, PixelData=None)
    del dataset[0xFFFCFFFC]  # what lies behind Pixel Data
    return encoded(dataset)


@pytest.mark.parametrize(
    "pixels",
    [
        fragments(b"", b"\xff\xd8\xff\xd9", closed=False),
        fragments(b"", b"", b"\xff\xd8\xff\xd9"),
        fragments(b"", b"\xff\xd8", b"", b"\xff\xd9"),
        fragments(b"", b""),
        fragments(b""),
    ],
    ids=["no-delimiter", "empty-first", "empty-between", "empty-alone", "only-a-table"],
)
def test_fragments_are_kept_as_they_came(running, pixels):
    uid = new_uid()
    kept(running, without_pixels(uid) + pixels, uid, JPEG)


def test_fragments_that_break_off_are_refused(running):
    uid = new_uid()
    data = without_pixels(uid) + fragments(b"", bytes(100), closed=False)[:-50]
    answer = refused(running, data, uid, JPEG)
    assert (status(answer), offending(answer)) == (0xC000, [0x7FE00010])


@pytest.mark.parametrize("fragment", [2, 3, 1021])
def test_the_smallest_fragments_make_the_same_instance(running, fragment):
    uid = new_uid()
    data = without_pixels(uid) + fragments(b"", b"\xff\xd8\xff\xd9")
    kept(running, data, uid, JPEG, fragment=fragment)


def test_commands_and_data_share_a_pdu_or_are_torn(running):
    good, cmd = body(), request()

    def value(control: int, data: bytes) -> bytes:
        return struct.pack(">IBB", len(data) + 2, 1, control) + data

    whole = value(1, cmd[:20]) + value(3, cmd[20:]) + value(0, good[:5000])
    whole += value(0, b"") + value(2, good[5000:])
    with RawSender(running) as sender:
        sender.connection.sendall(struct.pack(">BxI", 4, len(whole)) + whole)
        assert status(sender.answer()) == 0
        assert status(sender.store(good, cmd, fragment=len(good))) == 0
        assert sender.release()


# -- large ones --------------------------------------------------------------------------------


def large(pixels: int, uid: str = CT_UID) -> bytes:
    header = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, pixels)
    return without_pixels(uid) + header + bytes(pixels)


def leaves_nothing(dicom) -> bool:
    data_dir, objects = dicom._archive.config.archive.data_dir, dicom._archive.objects
    return not any((data_dir / "incoming").iterdir()) and not any(objects.walk("objects"))


@pytest.mark.parametrize("announced", [None, "1.2.3", "1." * 31 + "77", "", "9" * 60000])
@pytest.mark.parametrize("size", [60_000, 600_002])
def test_the_object_is_header_and_data_set_whatever_was_announced(running, size, announced):
    uid = new_uid()
    data = large(size, uid)
    with RawSender(running, ((CT, (EXPLICIT,)),)) as sender:
        answer = sender.store(data, request(uid if announced is None else announced))
        assert status(answer) == (0x0000 if announced is None else 0xB007)
    whole = stored(running, uid)
    assert whole.endswith(data)
    header = whole[: -len(data)]
    assert header[128:132] == b"DICM"
    assert len(header) == 144 + struct.unpack_from("<I", header, 140)[0]
    assert read(whole).file_meta.MediaStorageSOPInstanceUID == uid


def test_a_large_instance_gets_its_true_header_too(running):
    uid = new_uid()
    data = large(12 * 1024**2, uid)
    with RawSender(running, ((CT, (IMPLICIT,)),)) as sender:
        answer = sender.store(data, request("1.2.3"), fragment=65536)
        assert (status(answer), offending(answer)) == (0xB007, [0x00080018])
    whole = stored(running, uid)
    meta = read(whole).file_meta
    assert (meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID) == (uid, EXPLICIT)
    assert whole.endswith(data)


def test_a_large_file_sent_whole_is_kept_as_the_file_it_is(running):
    uid = new_uid()
    header = whole_file(uid)[: -len(body())]
    data = header + large(12 * 1024**2, uid)
    kept(running, data, uid, fragment=65536)
    assert stored(running, uid) == data


def test_a_disk_that_fills_up_in_the_middle_is_a700_and_the_association_lives(
    dicom, monkeypatch
):
    from storage.errors import NoSpaceError

    archive = dicom._archive
    make_spool = archive.ingest.new_spool

    def new_spool():
        spool = make_spool()
        written = spool.write

        def write(chunk) -> None:
            if spool.size_bytes > 9 * 1024**2:
                raise NoSpaceError("No space left on device")
            written(chunk)

        spool.write = write
        return spool

    monkeypatch.setattr(archive.ingest, "new_spool", new_spool)
    with RawSender(dicom) as sender:
        answer = sender.store(large(12 * 1024**2), fragment=65536)
        assert status(answer) == 0xA700
        assert comment(answer).startswith("the archive is full")
        assert leaves_nothing(dicom)
        assert status(sender.store(body())) == 0
        assert sender.release()


@pytest.mark.parametrize("sent", [0, 1000, 10 * 1024**2])
def test_a_transfer_that_breaks_off_leaves_nothing(dicom, sent):
    with RawSender(dicom) as sender:
        sender.connection.sendall(messages.pdu(1, 3, request()))
        data = large(12 * 1024**2)[:sent]
        for at in range(0, len(data), 65536):
            sender.connection.sendall(messages.pdu(1, 0, data[at : at + 65536]))
        if sent == 10 * 1024**2:
            incoming = dicom._archive.config.archive.data_dir / "incoming"
            wait_until(lambda: any(incoming.iterdir()), what="the spool")
    wait_until(lambda: not any(one.is_alive() for one in dicom._associations), what="the end")
    assert leaves_nothing(dicom)
    with RawSender(dicom) as sender:
        assert status(sender.store(body())) == 0


@pytest.mark.parametrize("engine", ["direct", "stock"])
def test_the_digest_is_that_of_the_data_set_however_it_came(tmp_path, engine):
    sent = [
        body(new_uid()) + struct.pack("<HH2sxxI", 0xFFFC, 0xFFFC, b"OB", size) + bytes(size)
        for size in (0, 300_000, 900_000)
    ]
    sent += [whole_file(new_uid()), whole_file(new_uid())[132:]]
    with serving(engine, tmp_path, spool_threshold_bytes=500_000) as server:
        with RawSender(server, ((CT, (EXPLICIT,)),)) as sender:
            for data in sent:
                sender.store(data, request(new_uid()))
            sender.release()
        totals = server._archive.changes.totals(OPERATOR)
        report = server._archive.verifier.verify()
    assert totals.instances == len(sent)
    assert not report.corrupt
    assert not report.lost

"""The pixels of frames, as octets in explicit little endian (PS3.18 §10.4.1.1.6, §8.7.3.4)."""

import csv
import hashlib
import io
import re
import warnings

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array

from archive.dicom.part10 import build_file_meta
from archive.dicom.transfer_syntax import transfer_syntax
from tests.conformance.conftest import storable_files
from tests.conformance.test_8_7_3_transcoding import stored
from tests.conftest import REPOSITORY, store

COLLECTION = REPOSITORY.parent / "shared" / "data" / "dicom"
# Another decoder's hashes, where pydicom has none: what they are the hashes of is said there.
_BY_OTHERS = re.compile(r"pydicom fails, this decodes: (\w{64}) (\w{64})")


def frame(room, name: str, number: int, accept: str = "application/octet-stream") -> bytes:
    answer = room.get(f"{room.url(name)}/frames/{number}", accept)
    assert answer.status_code == 200, answer.text
    assert "1.2.840.10008.1.2.1" in answer.headers["content-type"]
    return answer.content


def expected_hashes() -> list:
    """File, and the hashes of its first and last frame, of the collection beside us."""
    if not (COLLECTION / "expected_pixels.csv").is_file():
        return [pytest.param("", "", "", id="no collection")]
    cases = []
    for row in csv.DictReader((COLLECTION / "expected_pixels.csv").read_text().splitlines()):
        folder, _, name = row["file"].partition("/")
        first, last = row["sha256_first_raw"], row["sha256_last_raw"]
        if not first and (match := _BY_OTHERS.search(row["second_decoder"] + row["agreement"])):
            first, last = match.groups()
        # Decoders of lossy codestreams may round the last bit either way.
        differs = not row["sha256_first_raw"] and ("recompr" in name or "CTImage" in name)
        if folder == "valid" and first and not differs:
            cases.append(pytest.param(name, first, last, id=name))
    return cases


@pytest.mark.parametrize(("name", "first", "last"), expected_hashes())
def test_first_and_last_frame_have_the_expected_hash(shared_files, name, first, last):
    if name not in shared_files.refs:
        pytest.skip(f"{name} is the same instance as another file")
    dataset = stored(shared_files, name)
    count = max(int(dataset.get("NumberOfFrames") or 1), 1)
    for number, expected in ((1, first), (count, last)):
        pixels = samples(frame(shared_files, name, number), dataset)
        assert hashlib.sha256(np.ascontiguousarray(pixels)).hexdigest() == expected


def samples(body: bytes, dataset) -> np.ndarray:
    """The stored values of a frame, colour-by-pixel, as its metadata says they lie."""
    rows, columns = dataset.Rows, dataset.Columns
    count, bits = dataset.get("SamplesPerPixel", 1), dataset.BitsAllocated
    if bits == 1:
        unpacked = np.unpackbits(np.frombuffer(body, np.uint8), bitorder="little")
        return unpacked[: rows * columns].reshape(rows, columns)
    if "PixelData" not in dataset:
        return np.frombuffer(body, f"<f{bits // 8}").reshape(rows, columns)
    kind = "i" if dataset.PixelRepresentation else "u"
    values = np.frombuffer(body, f"<{kind}{bits // 8}")
    if values.size == rows * columns * 2 and count == 3:  # YBR_FULL_422: Y Y Cb Cr
        quads = values.reshape(-1, 4)
        pairs = np.stack([quads[:, [0, 2, 3]], quads[:, [1, 2, 3]]], axis=1)
        return pairs.reshape(rows, columns, 3)
    encapsulated = transfer_syntax(dataset.file_meta.TransferSyntaxUID).encapsulated
    if bits > dataset.BitsStored and not encapsulated:
        above = bits - 1 - dataset.HighBit
        values = (values << above) >> (bits - dataset.BitsStored)
    if count == 3 and dataset.get("PlanarConfiguration") == 1 and not encapsulated:
        return values.reshape(3, rows, columns).transpose(1, 2, 0)
    return values.reshape((rows, columns, count) if count > 1 else (rows, columns))


@pytest.mark.parametrize("name", [path.name for path in storable_files()])
def test_every_frame_is_what_pydicom_decodes(every_file, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            expected = pixel_array(every_file.paths[name], raw=True)
        except (AttributeError, NotImplementedError, RuntimeError, ValueError, KeyError):
            return  # no image, or none that pydicom reads
    dataset = stored(every_file, name)
    frames = expected if int(dataset.get("NumberOfFrames", 1)) > 1 else expected[np.newaxis]
    for number in sorted({1, 2, len(frames)} & set(range(1, len(frames) + 1))):
        shown = samples(frame(every_file, name, number), dataset)
        assert np.array_equal(shown, frames[number - 1]), number


def test_a_frame_that_begins_inside_a_byte_is_sent_from_a_byte_on(shared_files):
    name = "SEG_evr_liver-nonbyte-aligned.dcm"
    whole = pixel_array(shared_files.paths[name])
    for number in (1, 2, 3):
        bits = np.unpackbits(
            np.frombuffer(frame(shared_files, name, number), np.uint8), bitorder="little"
        )
        assert np.array_equal(bits[: whole[0].size], whole[number - 1].reshape(-1))
        assert not bits[whole[0].size :].any()


@pytest.mark.parametrize(
    "name",
    [
        "SEG_rle_liver-rle.dcm",
        "SEG_deflated-frame_liver-deflate.dcm",
        "SEG_j2k-lossless_liver-j2k.dcm",
    ],
)
@pytest.mark.parametrize("number", [1, 2, 3])
def test_one_bit_frames_of_every_encoding_are_the_same_bits(shared_files, name, number):
    assert frame(shared_files, name, number) == frame(shared_files, "SEG_evr_liver.dcm", number)


def test_deflated_one_bit_frames_are_joined_without_gaps_in_an_instance(shared_files):
    # Each deflated frame begins at a byte; native ones follow each other bit by bit.
    name = "SEG_deflated-frame_liver-nonbyte-aligned-deflate.dcm"
    accept = "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"
    answer = shared_files.get(shared_files.url(name), accept)
    expected = pixel_array(shared_files.paths["SEG_evr_liver-nonbyte-aligned.dcm"])
    assert np.array_equal(pixel_array(io.BytesIO(answer.content)), expected)


def test_encapsulated_uncompressed_frames_are_sent_without_their_padding(shared_files):
    name = "derived_MR_encapsulated-uncompressed_emri.dcm"
    dataset = stored(shared_files, name)
    wanted = dataset.Rows * dataset.Columns * 2
    assert len(frame(shared_files, name, int(dataset.NumberOfFrames))) == wanted


def big_endian_frames(bits: int, vr: str) -> tuple[bytes, list[bytes]]:
    """Three frames of 3 x 3 pixels of three samples, or of 3 x 3 bits, and what they are."""
    count = {1: 9, 8: 27}[bits]
    values = np.random.default_rng(5).integers(0, 1 << bits, (3, count)).astype(np.uint8)
    frames = [
        np.packbits(v, bitorder="little").tobytes() if bits == 1 else v.tobytes()
        for v in values
    ]
    whole = values.reshape(-1)
    raw = np.packbits(whole, bitorder="little").tobytes() if bits == 1 else whole.tobytes()
    raw += b"\0" * (len(raw) % 2)
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7.4", "1.2.3.4"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.1"
    dataset.Rows = dataset.Columns = dataset.NumberOfFrames = 3
    dataset.SamplesPerPixel = 1 if bits == 1 else 3
    dataset.PhotometricInterpretation = "MONOCHROME2" if bits == 1 else "RGB"
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit, dataset.PixelRepresentation, dataset.PlanarConfiguration = bits - 1, 0, 0
    if vr == "OW":
        raw = np.frombuffer(raw, np.uint16).byteswap().tobytes()
    dataset.add_new(0x7FE00010, vr, raw)
    output = io.BytesIO()
    pydicom.dcmwrite(output, dataset, implicit_vr=False, little_endian=False)
    header = build_file_meta(
        sop_class_uid=dataset.SOPClassUID,
        sop_instance_uid=dataset.SOPInstanceUID,
        transfer_syntax_uid="1.2.840.10008.1.2.2",
    )
    return header + output.getvalue(), frames


@pytest.mark.parametrize("vr", ["OB", "OW"])
@pytest.mark.parametrize("bits", [1, 8])
def test_big_endian_frames_that_begin_inside_a_word_or_byte(client, archive, bits, vr):
    body, frames = big_endian_frames(bits, vr)
    ref = store(archive, body).ref
    url = (
        f"/studies/{ref.study_instance_uid}/series/{ref.series_instance_uid}"
        f"/instances/{ref.sop_instance_uid}/frames"
    )
    for number, expected in enumerate(frames, 1):
        answer = client.get(f"{url}/{number}", headers={"Accept": "application/octet-stream"})
        assert answer.content == expected, number

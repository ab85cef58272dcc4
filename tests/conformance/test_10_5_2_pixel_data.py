"""§10.5.2: compressed pixel data as bulk data, and what is derived from it."""

import io
import struct

import numpy as np
import pydicom
import pytest
from PIL import Image

from archive.auth.principal import OPERATOR
from tests.conformance.stow import failed, pack, referenced, related, texts, value
from tests.conformance.stow_metadata import (
    JSON,
    XML,
    bulk,
    dataset,
    frames_of,
    image,
    inline,
    metadata_of,
    metadata_parts,
    part10_of,
    send,
)
from tests.conftest import wheel_file

ROOT = "1.2.840.10008.1.2."
POINTS = {"_7FE00010": {"vr": "OB", "BulkDataURI": "pixels"}}


@pytest.fixture
def client(storing_client):
    return storing_client


def picture(kind: str, mode: str = "RGB", size: tuple[int, int] = (40, 30), **options) -> bytes:
    """A picture as a camera or a program writes it."""
    ramp = np.add.outer(np.arange(size[1]), np.arange(size[0])).astype(np.uint8)
    pixels = {"L": ramp, "RGB": np.dstack([ramp, ramp[::-1], ramp[:, ::-1]])}[mode]
    buffer = io.BytesIO()
    Image.fromarray(pixels, mode).save(buffer, kind, **options)
    return buffer.getvalue()


# -- derived descriptions ----------------------------------------------------------------------

JPEG_GREY = picture("JPEG", "L")
CONSUMER = {
    "jpeg grey": (JPEG_GREY, "image/jpeg", "4.50", "MONOCHROME2", 8),
    "jpeg 4:2:0": (picture("JPEG", subsampling=2), "image/jpeg", "4.50", "YBR_FULL_422", 8),
    "jpeg 4:4:4": (picture("JPEG", subsampling=0), "image/jpeg", "4.50", "YBR_FULL", 8),
    "jpeg with comment": (picture("JPEG", comment=b"\xff\xd9" * 9), "image/jpeg", "4.50",
                          "YBR_FULL_422", 8),
    "png grey": (picture("PNG", "L"), "image/png", "1", "MONOCHROME2", 8),
    "png colour": (picture("PNG"), "image/png", "1", "RGB", 8),
    "gif": (picture("GIF", "L"), "image/gif", "1", "MONOCHROME2", 8),
    "jp2": (picture("JPEG2000", irreversible=False, mct=1), "image/jp2", "4.90", "YBR_RCT", 8),
    "j2k lossy": (picture("JPEG2000", "L", irreversible=True, no_jp2=True), "image/jp2", "4.91",
                  "MONOCHROME2", 8),
}  # fmt: skip


@pytest.mark.parametrize("kind", [JSON, XML])
@pytest.mark.parametrize("name", CONSUMER)
def test_the_description_is_read_from_the_picture(client, kind, name):
    raw, media_type, arc, photometric, bits = CONSUMER[name]
    made = dataset(**POINTS)
    response = send(client, made, bulk("pixels", raw, media_type), kind=kind)
    assert response.status_code == 200, response.text
    stored = part10_of(client, made)
    assert stored.file_meta.TransferSyntaxUID == ROOT + arc
    assert (stored.Rows, stored.Columns) == (30, 40)
    assert stored.PhotometricInterpretation in (photometric, "RGB" if "gif" in name else "")
    assert stored.SamplesPerPixel == (1 if stored.PhotometricInterpretation[0] == "M" else 3)
    assert (stored.BitsAllocated, stored.BitsStored, stored.HighBit) == (bits, bits, bits - 1)
    assert stored.PixelRepresentation == 0
    assert ("LossyImageCompression" in stored) == (arc in ("4.50", "4.91"))
    url = value(referenced(response)[0], "00081190")
    rendered = client.get(f"{url}/rendered", headers={"Accept": "image/png"})
    assert rendered.status_code == 200
    assert Image.open(io.BytesIO(rendered.content)).size == (40, 30)


def test_a_jpeg_is_stored_bit_for_bit(client):
    made = dataset(**POINTS)
    send(client, made, bulk("pixels", JPEG_GREY, "image/jpeg"))
    stored = part10_of(client, made)
    (frame,) = pydicom.encaps.generate_frames(stored.PixelData, number_of_frames=1)
    assert frame.rstrip(b"\0") == JPEG_GREY.rstrip(b"\0")


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_png_is_stored_without_loss(client, mode):
    made = dataset(**POINTS)
    raw = picture("PNG", mode)
    send(client, made, bulk("pixels", raw, "image/png"))
    assert part10_of(client, made).PixelData == Image.open(io.BytesIO(raw)).tobytes()


def test_a_png_of_16_bits_keeps_them(client):
    grey = np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    made = dataset(**POINTS)
    assert send(client, made, bulk("pixels", buffer.getvalue(), "image/png")).status_code == 200
    stored = part10_of(client, made)
    assert stored.BitsAllocated == 16
    assert stored.PixelData == grey.tobytes()


def test_an_animated_gif_is_many_frames(client):
    pictures = [Image.new("P", (8, 6), n) for n in range(3)]
    for n, each in enumerate(pictures):
        each.putpalette([n * 40, 0, 0] * 256)
    buffer = io.BytesIO()
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], duration=50)
    made = dataset(**POINTS)
    assert send(client, made, bulk("pixels", buffer.getvalue(), "image/gif")).status_code == 200
    stored = part10_of(client, made)
    assert stored.NumberOfFrames == 3
    assert stored.FrameTime == 50
    assert len(stored.PixelData) == 3 * 8 * 6 * 3


def test_attributes_that_are_there_stay(client):
    made = dataset(_00280004={"vr": "CS", "Value": ["RGB"]}, **POINTS)
    raw = picture("JPEG")
    assert send(client, made, bulk("pixels", raw, "image/jpeg")).status_code == 200
    assert part10_of(client, made).PhotometricInterpretation == "RGB"


def test_a_description_that_is_not_that_of_the_frames_is_told(client):
    made = image(rows=99)
    response = send(client, made, bulk("pixels", JPEG_GREY, "image/jpeg"))
    assert response.status_code == 202
    (item,) = referenced(response)
    assert value(item, "00081196") == 0xB007
    told = [value(doubt, "00720026") for doubt in item["00741048"]["Value"]]
    assert told == ["00280010", "00280011"]


# -- real compressed frames --------------------------------------------------------------------

REAL = {
    "MR_small_RLE.dcm": ("image/dicom-rle", "5"),
    "JPEG2000.dcm": ("image/jp2", "4.91"),
    "MR_small_jp2klossless.dcm": ("image/jp2", "4.90"),
    "SC_rgb_jpeg_gdcm.dcm": ("image/jpeg", "4.70"),
    "JPEG-lossy.dcm": ("image/jpeg", "4.51"),
    "JPEGLSNearLossless_08.dcm": ("image/jls", "4.81"),
    "SC_rgb_jpeg_dcmtk.dcm": ("image/jpeg", "4.50"),
    "MR_small_jpeg_ls_lossless.dcm": ("image/jls", "4.80"),
}


def description_of(name: str) -> dict:
    """A data set with the image description of a real file."""
    read = pydicom.dcmread(wheel_file(name)).to_json_dict(
        bulk_data_threshold=0, bulk_data_element_handler=lambda _: "x"
    )
    kept = {
        f"_{tag}": read[tag] for tag in read if tag.startswith("0028") and "Value" in read[tag]
    }
    return kept | POINTS  # fmt: skip


@pytest.mark.parametrize("stated", ["parameter", "metadata", "nowhere"])
@pytest.mark.parametrize("name", REAL)
def test_a_compressed_frame_keeps_its_transfer_syntax(client, name, stated):
    media_type, arc = REAL[name]
    made = dataset(**description_of(name))
    (frame,) = frames_of(name)
    if stated == "parameter":
        media_type = f'{media_type}; transfer-syntax="{ROOT + arc}"'
    elif stated == "metadata":
        made["00020010"] = {"vr": "UI", "Value": [ROOT + arc]}
    response = send(client, made, bulk("pixels", frame, media_type))
    assert response.status_code == 200, response.text
    stored = part10_of(client, made)
    if stated != "nowhere" or "4.91" not in arc:
        expected = {ROOT + arc}
    else:
        expected = {ROOT + "4.90", ROOT + "4.91"}
    assert stored.file_meta.TransferSyntaxUID in expected
    (kept,) = pydicom.encaps.generate_frames(stored.PixelData, number_of_frames=1)
    assert kept == frame + b"\0" * (len(frame) % 2)


@pytest.mark.parametrize(
    "name", ["JPEG2000.dcm", "SC_rgb_jpeg_gdcm.dcm", "MR_small_jpeg_ls_lossless.dcm"]
)
def test_octets_of_a_stated_transfer_syntax_are_frames(client, name):
    arc = REAL[name][1]
    made = dataset(**description_of(name))
    (frame,) = frames_of(name)
    octets = f"application/octet-stream; transfer-syntax={ROOT + arc}"
    assert send(client, made, bulk("pixels", frame, octets)).status_code == 200
    assert part10_of(client, made).file_meta.TransferSyntaxUID == ROOT + arc


MULTI = {
    "SC_rgb_rle_2frame.dcm": ("image/dicom-rle", "5"),
    "examples_ybr_color.dcm": ("image/jpeg", "4.50"),
    "MR_small_jp2klossless.dcm": ("image/jp2", "4.90"),
    "MR_small_jpeg_ls_lossless.dcm": ("image/jls", "4.80"),
    "MR_small_RLE.dcm": ("image/dicom-rle", "5"),
}


@pytest.mark.parametrize("how", ["one location", "frame locations", "one part"])
@pytest.mark.parametrize("name", MULTI)
def test_many_frames_are_told_apart(client, name, how):
    media_type, arc = MULTI[name]
    made = dataset(**description_of(name))
    frames = frames_of(name)
    if len(frames) == 1:
        frames *= 3
        made["00280008"] = {"vr": "IS", "Value": [3]}
    if how == "one location":
        parts = [bulk("pixels", frame, media_type) for frame in frames]
    elif how == "frame locations":
        numbered = list(enumerate(frames, 1))
        parts = [bulk(f"pixels/frames/{n}", f, media_type) for n, f in reversed(numbered)]
    else:
        padded = [frame + b"\0" * (len(frame) % 2) for frame in frames]
        parts = [bulk("pixels", b"".join(padded), media_type)]
    response = send(client, made, *parts)
    assert response.status_code == 200, response.text
    stored = part10_of(client, made)
    assert stored.file_meta.TransferSyntaxUID == ROOT + arc
    kept = list(pydicom.encaps.generate_frames(stored.PixelData, number_of_frames=len(frames)))
    assert [frame.rstrip(b"\0") for frame in kept] == [frame.rstrip(b"\0") for frame in frames]


def test_native_frames_may_come_as_several_parts(client):
    made = image(frames=3)
    parts = [bulk("pixels", bytes([n]) * 24) for n in range(3)]
    assert send(client, made, *parts).status_code == 200
    assert part10_of(client, made).PixelData == b"\0" * 24 + b"\1" * 24 + b"\2" * 24


def test_a_codestream_in_the_metadata_is_a_frame(client):
    made = image(30, 40)
    made["7FE00010"] = {"vr": "OB", "InlineBinary": inline(JPEG_GREY)}
    made["00020010"] = {"vr": "UI", "Value": [ROOT + "4.50"]}
    assert send(client, made).status_code == 200
    stored = part10_of(client, made)
    assert stored.file_meta.TransferSyntaxUID == ROOT + "4.50"


# -- films -------------------------------------------------------------------------------------


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def mp4(level: int = 40, coding: bytes = b"avc1") -> bytes:
    """The index of an MP4 of 320 x 240, 50 frames of 40 ms, with no film behind it."""
    configuration = box(b"avcC", bytes([1, 100, 0, level, 0xFF]))
    sample = bytes(24) + struct.pack(">HH", 320, 240) + bytes(50) + configuration
    entry = struct.pack(">I4s", 8 + len(sample), coding) + sample
    table = box(b"stsd", struct.pack(">II", 0, 1) + entry)
    table += box(b"stts", struct.pack(">IIII", 0, 1, 50, 40))
    media = box(b"mdhd", struct.pack(">IIIIII", 0, 0, 0, 1000, 2000, 0))
    media += box(b"minf", box(b"vmhd", bytes(12)) + box(b"stbl", table))
    film = box(b"moov", box(b"trak", box(b"mdia", media)))
    return box(b"ftyp", b"isom\0\0\0\0") + film + box(b"mdat", b"film")


def mpeg_2() -> bytes:
    header = b"\0\0\1\xb3" + (720 << 20 | 576 << 8 | 3 << 4 | 3).to_bytes(4, "big") + bytes(4)
    return b"\0\0\1\xba" + bytes(10) + header + b"\0\0\1\0abcd" * 10


@pytest.mark.parametrize(
    ("raw", "media_type", "arc", "size", "frames"),
    [
        (mp4(), "video/mp4", "4.102", (240, 320), 50),
        (mp4(42), "video/mp4", "4.104", (240, 320), 50),
        (mpeg_2(), "video/mpeg", "4.100", (576, 720), 10),
        (mpeg_2(), "video/mpeg2", "4.100", (576, 720), 10),
    ],
)
def test_a_film_is_stored_as_it_is_and_described(client, raw, media_type, arc, size, frames):
    made = dataset("1.2.840.10008.5.1.4.1.1.77.1.4.1", **POINTS)
    response = send(client, made, bulk("pixels", raw, media_type))
    assert response.status_code == 200, response.text
    stored = part10_of(client, made)
    assert stored.file_meta.TransferSyntaxUID == ROOT + arc
    assert (stored.Rows, stored.Columns) == size
    assert stored.NumberOfFrames == frames
    assert stored.FrameTime == 40
    assert stored.FrameIncrementPointer == 0x00181063
    assert stored.PhotometricInterpretation == "YBR_PARTIAL_420"
    (film,) = pydicom.encaps.generate_fragments(stored.PixelData[8:])
    assert film.rstrip(b"\0") == raw.rstrip(b"\0")


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "media_type", "word"),
    [
        (b"", "image/jpeg", "leave it out"),
        (b"\xff\xd8", "image/jpeg", "cut short"),
        (JPEG_GREY[:30], "image/jpeg", "cut short"),
        (b"\xff\xd8" + bytes(50), "image/jpeg", "marker"),
        (b"nothing", "image/png", "cannot be read"),
        (picture("PNG")[:60], "image/png", ""),
        (b"GIF89a", "image/gif", "cannot be read"),
        (b"\xff\x4f\xff\x51" + bytes(60), "image/jp2", ""),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40), "image/jp2", "codestream"),
        (b"x" * 64, "video/mp4", "neither"),
        (mp4(coding=b"mp4v"), "video/mp4", "transfer syntax"),
        (mp4().replace(b"isom", b"qt  "), "video/mp4", "QuickTime"),
        (mp4()[:100], "video/mp4", ""),
        (b"\0" * 100, "image/tiff", "leave it out"),
        (b"\0" * 100, "text/plain", "not stored"),
        (b"\0" * 100, "audio/mpeg", "not stored"),
    ],
)
def test_what_cannot_be_pixel_data_fails_its_instance(client, raw, media_type, word):
    response = send(client, [dataset(**POINTS), dataset()], bulk("pixels", raw, media_type))
    assert response.status_code == 202
    (item,) = failed(response)
    assert word in texts(item)
    assert value(value(item, "00741048"), "00720026") in ("7FE00010", "00280010")
    assert len(referenced(response)) == 1


def test_a_png_bomb_is_refused_before_it_is_unpacked(client):
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
    response = send(client, dataset(**POINTS), bulk("pixels", buffer.getvalue(), "image/png"))
    assert response.status_code == 409
    assert "large" in texts(failed(response)[0])


def test_frames_that_cannot_be_divided_are_asked_for_one_by_one(client):
    made = image(30, 40, frames=4)
    response = send(client, made, bulk("pixels", b"\xff\xd8nonsense", "image/jls"))
    assert response.status_code == 409


def test_big_endian_bulk_data_is_refused(client):
    octets = "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.2"
    response = send(client, image(), bulk("pixels", bytes(24), octets))
    assert response.status_code == 409
    assert "little endian" in texts(failed(response)[0])


def test_a_part_that_is_larger_than_allowed_is_413(tmp_path):
    from archive.config import HttpSection
    from tests.conftest import http_client, make_config, running_archive

    config = make_config(tmp_path / "data", http=HttpSection(port=0, max_part_bytes=1000))
    with running_archive(config) as archive, http_client(archive) as client:
        body = pack([*metadata_parts([image()]), bulk("pixels", bytes(5000))])
        assert client.post("/studies", content=body, headers=related(JSON)).status_code == 413
        assert archive.changes.totals(OPERATOR).instances == 0


def test_what_was_derived_is_in_the_metadata(client):
    made = dataset(**POINTS)
    send(client, made, bulk("pixels", JPEG_GREY, "image/jpeg"))
    metadata = metadata_of(client, made)
    assert metadata["00280010"] == {"vr": "US", "Value": [30]}
    assert metadata["00280004"] == {"vr": "CS", "Value": ["MONOCHROME2"]}

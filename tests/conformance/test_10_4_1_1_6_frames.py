"""Frames (PS3.18 §10.4.1.1.6)."""

import struct

import numpy as np
import pydicom
import pytest
from pydicom.encaps import generate_frames

from tests import synthetic
from tests.conformance.multipart import parts_of
from tests.conftest import store

OHIF = "multipart/related; type=application/octet-stream; transfer-syntax=*"
NATIVE = 'multipart/related; type="application/octet-stream"'
ELE = "1.2.840.10008.1.2.1"
MANY = "examples_ybr_color.dcm"  # 30 frames, JPEG


def stored_frames(path) -> list[bytes]:
    dataset = pydicom.dcmread(path)
    count = int(dataset.get("NumberOfFrames", 1))
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        return list(generate_frames(dataset.PixelData, number_of_frames=count))
    length = len(dataset.PixelData) // count
    return [dataset.PixelData[n * length : (n + 1) * length] for n in range(count)]


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm", "693_J2KI.dcm", "GDCMJ2K_TextGBR.dcm", "examples_ybr_color.dcm",
        "examples_palette.dcm", "examples_jpeg2k.dcm", "examples_overlay.dcm",
    ],
)  # fmt: skip
def test_what_ohif_asks_for_is_every_frame_as_it_is_stored(room, name):
    frames = stored_frames(room.paths[name])
    for number, expected in enumerate(frames, 1):
        response = room.get(f"{room.url(name)}/frames/{number}", OHIF)
        assert response.status_code == 200
        (part,) = parts_of(response)
        assert part.content == expected
        stored = pydicom.dcmread(room.paths[name]).file_meta.TransferSyntaxUID
        compressed = pydicom.uid.UID(stored).is_compressed
        assert part.transfer_syntax == (stored if compressed else ELE)
        assert part.headers["Content-Location"].endswith(f"/frames/{number}")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1", [1]),
        ("1,2", [1, 2]),
        ("2,1", [2, 1]),
        ("3,3,3", [3, 3, 3]),
        ("30,1,15,1", [30, 1, 15, 1]),
        ("1%2C2", [1, 2]),
        ("1%2c2%2c3", [1, 2, 3]),
        (",".join(map(str, range(1, 31))), list(range(1, 31))),
        ("007", [7]),
    ],
)
def test_frames_come_in_the_order_of_the_list_as_often_as_it_names_them(room, text, numbers):
    frames = stored_frames(room.paths[MANY])
    parts = parts_of(room.get(f"{room.url(MANY)}/frames/{text}", OHIF))
    assert [part.content for part in parts] == [frames[number - 1] for number in numbers]
    places = [int(part.headers["Content-Location"].rpartition("/")[2]) for part in parts]
    assert places == numbers


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("0", 400), ("-1", 400), ("1,", 400), (",1", 400), ("1,,2", 400), ("a", 400),
        ("1.5", 400), ("1-3", 400), ("0x1", 400), ("1,0", 400), ("%E0%A5%A7", 400),
        ("1;2", 400), ("+1", 400), ("1e1", 400), ("99999999999999999999", 400),
        ("31", 404), ("1,31", 404), ("9999999999", 404), ("31,1", 404),
    ],
)  # fmt: skip
def test_a_bad_list_is_400_and_a_missing_frame_404(room, text, status):
    response = room.get(f"{room.url(MANY)}/frames/{text}", OHIF)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"]


@pytest.mark.parametrize("name", ["reportsi.dcm", "rtplan.dcm", "waveform_ecg.dcm"])
def test_an_instance_without_frames_is_404(room, name):
    assert room.get(room.url(name) + "/frames/1", OHIF).status_code == 404


@pytest.mark.parametrize("accept", ["image/jpeg", "application/octet-stream", "image/*"])
def test_several_frames_have_no_single_form(room, accept):
    assert room.get(f"{room.url(MANY)}/frames/1,2", accept).status_code == 406
    assert room.get(f"{room.url(MANY)}/frames/1", accept).status_code == 200


def test_several_frames_transcoded_are_each_their_own(room):
    parts = parts_of(room.get(f"{room.url(MANY)}/frames/1,15,30,1", NATIVE))
    assert [part.transfer_syntax for part in parts] == [ELE] * 4
    assert len({part.content for part in parts}) == 3
    assert parts[0].content == parts[3].content
    assert {len(part.content) for part in parts} == {240 * 320 * 3}


@pytest.mark.parametrize(
    ("accept", "media_type", "syntax"),
    [
        ("image/jls", "image/jls", "1.2.840.10008.1.2.4.80"),
        ("image/jp2", "image/jp2", "1.2.840.10008.1.2.4.90"),
        ("image/dicom-rle", "image/dicom-rle", "1.2.840.10008.1.2.5"),
        ("image/x-dicom-rle", "image/x-dicom-rle", "1.2.840.10008.1.2.5"),
        ("application/octet-stream", "application/octet-stream", ELE),
    ],
)
def test_a_lossless_transcoding_holds_the_pixels_of_the_frame(room, accept, media_type, syntax):
    path = room.paths["CT_small.dcm"]
    response = room.get(room.url("CT_small.dcm") + "/frames/1", accept)
    assert response.headers["content-type"] == f"{media_type}; transfer-syntax={syntax}"
    dataset = pydicom.dcmread(path)
    expected = dataset.pixel_array.copy()
    if syntax == ELE:
        found = np.frombuffer(response.content, "<i2").reshape(expected.shape)
    else:
        dataset.PixelData = pydicom.encaps.encapsulate([response.content])
        dataset.file_meta.TransferSyntaxUID = syntax
        found = dataset.pixel_array
    assert (found == expected).all()


def test_baseline_is_given_where_it_is_named_and_pixels_have_8_bits(room):
    accept = "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.50"
    response = room.get(room.url("examples_rgb_color.dcm") + "/frames/1", accept)
    assert response.status_code == 200
    assert response.content.startswith(b"\xff\xd8\xff")
    assert room.get(room.url("CT_small.dcm") + "/frames/1", accept).status_code == 406


# -- encodings that no client reads ------------------------------------------------------------


@pytest.mark.parametrize("accept", [OHIF, NATIVE, "*/*", "application/octet-stream"])
def test_a_deflated_instance_gives_its_frames_inflated(room, accept):
    response = room.get(room.url("image_dfl.dcm") + "/frames/1", accept)
    expected = pydicom.dcmread(room.paths["image_dfl.dcm"]).PixelData
    single = accept == "application/octet-stream"
    content = response.content if single else parts_of(response)[0].content
    assert content == expected
    part_type = response.headers["content-type"] if single else (
        parts_of(response)[0].headers["Content-Type"]
    )  # fmt: skip
    assert part_type == f"application/octet-stream; transfer-syntax={ELE}"


@pytest.mark.parametrize("accept", [OHIF, NATIVE, "*/*"])
def test_big_endian_frames_leave_in_little_endian(client, archive, accept):
    values = np.arange(24, dtype=">u2")
    dataset = synthetic.image(rows=3, columns=4, number_of_frames=2, bits_allocated=16)
    dataset.PixelData = values.tobytes()
    ref = store(archive, synthetic.part10(dataset, "1.2.840.10008.1.2.2")).ref
    url = synthetic.url(ref)
    for number in (1, 2):
        (part,) = parts_of(client.get(f"{url}/frames/{number}", headers={"Accept": accept}))
        found = np.frombuffer(part.content, "<u2")
        assert (found == values[(number - 1) * 12 : number * 12]).all()
        assert part.transfer_syntax == ELE


def test_frames_of_single_bits_begin_and_end_at_a_byte(client, archive):
    rng = np.random.default_rng(5)
    frames = rng.integers(0, 2, (3, 3, 5), dtype=np.uint8)  # 15 bits a frame
    dataset = synthetic.image(rows=3, columns=5, number_of_frames=3, bits_allocated=1)
    packed = np.packbits(frames.reshape(-1), bitorder="little").tobytes()
    dataset.PixelData = packed + b"\0" * (len(packed) % 2)
    ref = store(archive, synthetic.part10(dataset, ELE)).ref
    for number, frame in enumerate(frames, 1):
        response = client.get(
            f"{synthetic.url(ref)}/frames/{number}",
            headers={"Accept": "application/octet-stream"},
        )
        assert (
            response.content == np.packbits(frame.reshape(-1), bitorder="little").tobytes()
        ), number


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", ELE, "1.2.840.10008.1.2.1.99"])
@pytest.mark.parametrize(("bits", "shape"), [(8, (3, 3)), (16, (3, 5)), (32, (2, 3))])
def test_native_frames_are_cut_where_they_end(client, archive, syntax, bits, shape):
    rows, columns = shape
    frames = [bytes((n * 50 + i) % 256 for i in range(rows * columns * bits // 8))
              for n in range(3)]  # fmt: skip
    dataset = synthetic.image(
        rows=rows, columns=columns, number_of_frames=3, bits_allocated=bits
    )
    joined = b"".join(frames)
    dataset.PixelData = joined + b"\0" * (len(joined) % 2)
    url = synthetic.url(store(archive, synthetic.part10(dataset, syntax)).ref)
    parts = parts_of(client.get(f"{url}/frames/3,1,2", headers={"Accept": OHIF}))
    assert [part.content for part in parts] == [frames[2], frames[0], frames[1]]
    assert {part.transfer_syntax for part in parts} == {ELE}


# -- failures ----------------------------------------------------------------------------------


@pytest.fixture
def broken(client, archive):
    """Two frames of RLE; the second is garbage."""
    dataset = synthetic.image(rows=4, columns=4, number_of_frames=2, bits_allocated=8)
    good = struct.pack("<16I", 1, 64, *[0] * 14) + bytes([15, *range(16)]) + b"\0"
    dataset.PixelData = pydicom.encaps.encapsulate([good, b"\xff" * 66])
    return synthetic.url(store(archive, synthetic.part10(dataset, "1.2.840.10008.1.2.5")).ref)


@pytest.mark.parametrize("suffix", ["/frames/2", "/frames/1,2", "", "/pixeldata",
                                    "/bulkdata/7FE00010"])  # fmt: skip
def test_a_frame_that_cannot_be_decoded_is_406_and_never_half_a_200(client, broken, suffix):
    response = client.get(broken + suffix, headers={"Accept": NATIVE if suffix else
                                                    "application/dicom"})  # fmt: skip
    assert response.status_code == 406
    assert "as stored" in response.json()["detail"]


def test_what_cannot_be_decoded_is_still_there_as_stored(client, broken):
    assert client.get(broken + "/frames/1", headers={"Accept": NATIVE}).status_code == 200
    parts = parts_of(client.get(broken + "/frames/1,2", headers={"Accept": OHIF}))
    assert parts[1].content == b"\xff" * 66
    # An asker who takes anything gets something.
    assert client.get(broken, headers={"Accept": "*/*"}).status_code == 200
    assert client.get(broken + "/frames/2", headers={"Accept": "*/*"}).status_code == 200


def test_a_missing_object_is_503_before_anything_is_sent(client, archive):
    dataset = synthetic.image(rows=4, columns=4, number_of_frames=1, bits_allocated=8)
    dataset.PixelData = bytes(16)
    ref = store(archive, synthetic.part10(dataset, ELE)).ref
    for one in list(archive.objects.walk("objects")):
        archive.objects.delete(one.key)
    for suffix, accept in (("", "application/dicom; transfer-syntax=*"), ("/frames/1", OHIF)):
        response = client.get(synthetic.url(ref) + suffix, headers={"Accept": accept})
        assert response.status_code == 503, suffix


@pytest.mark.parametrize("accept", ["image/jpeg", 'multipart/related; type="image/jpeg"'])
def test_jpeg_that_names_no_syntax_is_lossless(room, accept):
    """Table 8.7.3-5: the default of image/jpeg is the first selection value of process 14."""
    imagecodecs = pytest.importorskip("imagecodecs", reason="NOT TESTED: no extra codecs")
    answer = room.get(room.url("CT_small.dcm") + "/frames/1", accept)
    assert answer.status_code == 200, answer.text
    assert "1.2.840.10008.1.2.4.70" in (
        answer.headers["content-type"] + answer.content[:500].decode("latin-1")
    )
    stored = pydicom.dcmread(room.paths["CT_small.dcm"]).PixelData
    body = answer.content[answer.content.index(b"\xff\xd8") :]
    assert imagecodecs.jpeg8_decode(body).tobytes() == stored

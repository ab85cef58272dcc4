"""Instances in the transfer syntax that is asked for (PS3.18 §8.7.3, PS3.5 §8.2 and §A.4)."""

import io
import warnings

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array

from archive.render.targets import TARGETS
from tests.conformance.conftest import storable_files

ROOT = "1.2.840.10008.1.2."
NATIVE, RLE, BASELINE = ROOT + "1", ROOT + "5", ROOT + "4.50"
JPEG_LS, JPEG_2000, HTJ2K = ROOT + "4.80", ROOT + "4.90", ROOT + "4.201"
JPEG_LOSSLESS = ROOT + "4.70"
LOSSLESS = sorted(TARGETS - {BASELINE})
FILES = [path.name for path in storable_files()]
# What says how the pixels are encoded, and nothing of what they are (PS3.5 §8.2).
OF_THE_ENCODING = {0x00280004, 0x00280006, 0x00280102, 0x7FE00001, 0x7FE00002, 0x7FE00010}


def retrieved(every_file, name: str, syntax: str) -> Dataset | None:
    """The instance in another transfer syntax; None where the archive says it cannot."""
    answer = every_file.get(
        every_file.url(name), f"application/dicom; transfer-syntax={syntax}"
    )
    if answer.status_code == 406:
        return None
    assert answer.status_code == 200, answer.text
    assert f"transfer-syntax={syntax}" in answer.headers["content-type"].replace('"', "")
    assert len(answer.content) % 2 == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(io.BytesIO(answer.content))
    assert dataset.file_meta.TransferSyntaxUID == syntax
    if syntax != stored(every_file, name).file_meta.TransferSyntaxUID:
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
    return dataset


def stored(every_file, name: str) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(every_file.paths[name])


def pixels_of(source) -> np.ndarray | None:
    """Every stored value, by pydicom alone; None where it knows no decoder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return pixel_array(source, raw=True)
        except (AttributeError, NotImplementedError, RuntimeError, ValueError, KeyError):
            return None


def differing(before: Dataset, after: Dataset, *, ignored: set[int]) -> list[str]:
    """Tags whose VR or value differs; group lengths, which are retired, apart."""
    tags = {tag for tag in (*before.keys(), *after.keys()) if tag.element}
    found = []
    for tag in sorted(tags - ignored):
        if tag not in before or tag not in after:
            found.append(str(tag))
            continue
        one, other = before[tag], after[tag]
        if one.VR == "SQ" and other.VR == "SQ" and len(one.value) == len(other.value):
            for items in zip(one.value, other.value, strict=True):
                found += [f"{tag}/{inner}" for inner in differing(*items, ignored=ignored)]
        elif (one.VR, repr(one.value)) != (other.VR, repr(other.value)):
            found.append(str(tag))
    return found


@pytest.mark.parametrize("name", FILES)
def test_uncompressed_has_every_element_and_every_pixel_that_was_stored(every_file, name):
    after = retrieved(every_file, name, NATIVE)
    before = stored(every_file, name)
    if after is None:
        assert pixels_of(every_file.paths[name]) is None, "pydicom can decode it"
        return
    decoded = before.file_meta.TransferSyntaxUID.is_encapsulated
    ignored = OF_THE_ENCODING if decoded else {0x7FE00010}
    assert differing(before, after, ignored=ignored) == []
    expected = pixels_of(every_file.paths[name])
    if expected is not None:
        assert np.array_equal(pixels_of(after), expected)


@pytest.mark.parametrize("syntax", [RLE, JPEG_LOSSLESS, JPEG_LS, JPEG_2000, HTJ2K])
@pytest.mark.parametrize("name", FILES)
def test_each_lossless_syntax_gives_the_same_pixels_and_the_same_uid(every_file, name, syntax):
    after = retrieved(every_file, name, syntax)
    if after is None:
        return
    before = stored(every_file, name)
    assert after.SOPInstanceUID == before.SOPInstanceUID
    assert differing(before, after, ignored=OF_THE_ENCODING) == []
    assert after["PixelData"].is_undefined_length
    assert after.get("PlanarConfiguration", 0) == 0
    expected = pixels_of(every_file.paths[name])
    if expected is not None:
        assert np.array_equal(pixels_of(after), expected)


@pytest.mark.parametrize(
    ("name", "syntax"),
    [
        ("liver_1frame.dcm", RLE),
        ("liver_1frame.dcm", JPEG_2000),
        ("rtdose_1frame.dcm", JPEG_LS),
        ("CT_small.dcm", BASELINE),
        ("examples_palette.dcm", BASELINE),
        ("test-SR.dcm", JPEG_2000),
        ("CT_small.dcm", ROOT + "4.57"),
        ("CT_small.dcm", ROOT + "4.102"),
    ],
)
def test_what_cannot_be_made_is_406_and_says_why(every_file, name, syntax):
    answer = every_file.get(
        every_file.url(name), f"application/dicom; transfer-syntax={syntax}"
    )
    assert answer.status_code == 406
    assert answer.text


@pytest.mark.parametrize(
    ("name", "photometric"),
    [
        ("JPEG2000.dcm", "MONOCHROME2"),
        ("examples_jpeg2k.dcm", "RGB"),
        ("SC_rgb_small_odd_jpeg.dcm", "YBR_FULL"),
        ("examples_ybr_color.dcm", "YBR_FULL"),
        ("SC_rgb_jpeg_gdcm.dcm", "RGB"),
        ("examples_palette.dcm", "PALETTE COLOR"),
        ("SC_ybr_full_422_uncompressed.dcm", "YBR_FULL_422"),
    ],
)
def test_the_photometric_interpretation_says_what_is_sent(every_file, name, photometric):
    # PS3.3 §C.7.6.3.1.2: codecs' own transforms are undone; native values stay as they were.
    assert retrieved(every_file, name, NATIVE).PhotometricInterpretation == photometric


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize("name", ["SC_rgb_rle_2frame.dcm", "examples_ybr_color.dcm"])
def test_every_frame_of_a_multi_frame_instance_is_there_in_order(every_file, name, syntax):
    after = retrieved(every_file, name, syntax)
    expected = pixels_of(every_file.paths[name])
    assert after.NumberOfFrames == expected.shape[0]
    assert np.array_equal(pixels_of(after), expected)


def test_native_planar_and_subsampled_pixels_keep_their_layout(every_file):
    for name in ("SC_ybr_full_422_uncompressed.dcm", "examples_rgb_color.dcm"):
        before, after = stored(every_file, name), retrieved(every_file, name, NATIVE)
        assert after.PixelData == before.PixelData
        assert after.PlanarConfiguration == before.PlanarConfiguration


class TestLossy:
    """JPEG Baseline makes another image of it (PS3.3 §C.7.6.1.1.5)."""

    @pytest.fixture(params=["examples_rgb_color.dcm", "SC_rgb_rle.dcm"])
    def pair(self, every_file, request):
        return stored(every_file, request.param), retrieved(every_file, request.param, BASELINE)

    def test_it_says_that_it_is_lossy_how_and_how_much(self, pair):
        _, after = pair
        assert after.LossyImageCompression == "01"
        assert "ISO_10918_1" in after.LossyImageCompressionMethod
        assert float(after["LossyImageCompressionRatio"].value) > 0

    def test_it_has_a_uid_of_its_own_that_does_not_change(self, pair, every_file):
        before, after = pair
        assert after.SOPInstanceUID != before.SOPInstanceUID
        assert after.SOPInstanceUID.startswith("2.25.")
        assert after.SOPInstanceUID.is_valid
        assert after.StudyInstanceUID == before.StudyInstanceUID
        assert after.SeriesInstanceUID == before.SeriesInstanceUID

    def test_it_is_derived_and_names_what_it_was_made_from(self, pair):
        before, after = pair
        assert after.ImageType[0] == "DERIVED"
        source = after.SourceImageSequence[0]
        assert source.ReferencedSOPInstanceUID == before.SOPInstanceUID
        assert source.PurposeOfReferenceCodeSequence[0].CodeValue == "121320"

    def test_its_colours_are_those_of_the_original(self, pair):
        before, after = pair
        assert after.PhotometricInterpretation == "YBR_FULL_422"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            one = pixel_array(before).astype(int)
            other = pixel_array(after).astype(int)
        assert np.abs(one - other).mean() < 8

    def test_asking_twice_gives_the_same_instance(self, every_file):
        first, second = (retrieved(every_file, "SC_rgb_rle.dcm", BASELINE) for _ in range(2))
        assert first.SOPInstanceUID == second.SOPInstanceUID


def test_the_length_is_told_in_advance_when_the_answer_is_native(every_file):
    for name in ("MR_small_RLE.dcm", "MR_small_bigendian.dcm", "image_dfl.dcm", "rtplan.dcm"):
        url = every_file.url(name)
        answer = every_file.get(url, f"application/dicom; transfer-syntax={NATIVE}")
        assert int(answer.headers["content-length"]) == len(answer.content)

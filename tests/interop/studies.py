"""Studies for viewers: real files under UIDs of our own, and what belongs over them."""

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    SegmentationStorage,
    generate_uid,
)

from tests.conftest import wheel_file

# Each decoder of the viewer, and each way its pixels may lie: all of them real files.
GATHERED = (
    "MR_small_implicit.dcm",  # implicit VR little endian, signed 16 bit
    "MR_small_expb.dcm",  # explicit VR big endian: sent as little endian
    "image_dfl.dcm",  # deflated: sent inflated
    "MR_small_RLE.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "JPEGLSNearLossless_08.dcm",
    "MR_small_jp2klossless.dcm",
    "693_J2KI.dcm",  # JPEG 2000 with loss
    "SC_rgb_jpeg_dcmtk.dcm",  # JPEG baseline, YBR
    "SC_rgb_rle.dcm",
    "SC_rgb_gdcm_KY.dcm",  # JPEG 2000 in colour
    "examples_rgb_color.dcm",
    "examples_palette.dcm",
    "SC_rgb_dcmtk_+eb+cr.dcm",
    "SC_rgb_small_odd.dcm",  # 3 x 3 pixels: an odd length
)


def gathered(folder: Path, names=GATHERED) -> dict[str, Dataset]:
    """Write real files as the series of one study; their pixel data stay as they are."""
    study, written = generate_uid(), {}
    for number, name in enumerate(names, 1):
        dataset = pydicom.dcmread(wheel_file(name))
        dataset.StudyInstanceUID = study
        dataset.SeriesInstanceUID = generate_uid()
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.PatientName, dataset.PatientID = "Gathered^Files", "GATHERED"
        dataset.SeriesNumber, dataset.SeriesDescription = number, name
        dataset.StudyDescription = "Real files"
        dataset.save_as(folder / name)
        written[name] = dataset
    return written


def _part10(dataset: Dataset) -> Dataset:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def _beside(source: Dataset, sop_class: str, modality: str) -> Dataset:
    """Begin an instance of another series of the study of ``source``."""
    dataset = Dataset()
    for keyword in (
        "SpecificCharacterSet", "StudyInstanceUID", "PatientID", "PatientName", "StudyDate",
        "StudyTime", "StudyDescription", "AccessionNumber", "StudyID", "PatientSex",
        "PatientBirthDate",
    ):  # fmt: skip
        if keyword in source:
            setattr(dataset, keyword, source[keyword].value)
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, generate_uid()
    dataset.SeriesInstanceUID, dataset.Modality = generate_uid(), modality
    dataset.SeriesNumber, dataset.InstanceNumber = 900, 1
    dataset.Manufacturer = "Fileroom"
    dataset.ContentDate, dataset.ContentTime = "20260101", "120000"
    return dataset


def segmentation(slices: list[Dataset], masks: np.ndarray) -> Dataset:
    """Make a binary segmentation of one segment over slices (PS3.3 §A.51).

    Parameters
    ----------
    slices
        The images, in the order of the masks.
    masks
        Which pixels belong to the segment, shape (slices, rows, columns).
    """
    source = slices[0]
    seg = _beside(source, SegmentationStorage, "SEG")
    seg.SeriesDescription = "Lesion"
    seg.ImageType = ["DERIVED", "PRIMARY"]
    seg.FrameOfReferenceUID = source.FrameOfReferenceUID
    seg.ContentLabel, seg.ContentDescription = "LESION", "A lesion"
    seg.ContentCreatorName = "Demo"
    seg.SegmentationType = "BINARY"
    seg.SamplesPerPixel, seg.PhotometricInterpretation = 1, "MONOCHROME2"
    seg.BitsAllocated = seg.BitsStored = 1
    seg.HighBit = seg.PixelRepresentation = 0
    seg.NumberOfFrames, seg.Rows, seg.Columns = masks.shape
    seg.LossyImageCompression = "00"
    seg.SegmentSequence = [_segment()]
    seg.ReferencedSeriesSequence = [_referenced_series(slices)]
    seg.DimensionOrganizationSequence = [Dataset()]
    organization = generate_uid()
    seg.DimensionOrganizationSequence[0].DimensionOrganizationUID = organization
    seg.DimensionIndexSequence = [
        _dimension(0x0062000B, 0x0062000A, organization),
        _dimension(0x00200032, 0x00209113, organization),
    ]
    seg.SharedFunctionalGroupsSequence = [_shared_groups(source)]
    seg.PerFrameFunctionalGroupsSequence = [
        _frame_groups(image, number) for number, image in enumerate(slices, 1)
    ]
    bits = np.packbits(masks.astype(np.uint8).ravel(), bitorder="little").tobytes()
    seg.PixelData = bits + bytes(len(bits) % 2)
    seg["PixelData"].VR = "OB"
    return _part10(seg)


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _segment() -> Dataset:
    segment = Dataset()
    segment.SegmentNumber, segment.SegmentLabel = 1, "Lesion"
    segment.SegmentAlgorithmType = "MANUAL"
    kind = _code("49755003", "SCT", "Morphologically Abnormal Structure")
    segment.SegmentedPropertyCategoryCodeSequence = [kind]
    segment.SegmentedPropertyTypeCodeSequence = [_code("52988006", "SCT", "Lesion")]
    segment.RecommendedDisplayCIELabValue = [41662, 53545, 50171]
    return segment


def _referenced_series(slices: list[Dataset]) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = slices[0].SeriesInstanceUID
    series.ReferencedInstanceSequence = [_reference(image) for image in slices]
    return series


def _reference(image: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = image.SOPClassUID
    item.ReferencedSOPInstanceUID = image.SOPInstanceUID
    return item


def _dimension(index: int, group: int, organization: str) -> Dataset:
    item = Dataset()
    item.DimensionIndexPointer, item.FunctionalGroupPointer = index, group
    item.DimensionOrganizationUID = organization
    return item


def _shared_groups(source: Dataset) -> Dataset:
    groups, plane, measures = Dataset(), Dataset(), Dataset()
    plane.ImageOrientationPatient = source.ImageOrientationPatient
    measures.PixelSpacing = source.PixelSpacing
    measures.SliceThickness = measures.SpacingBetweenSlices = source.SliceThickness
    groups.PlaneOrientationSequence, groups.PixelMeasuresSequence = [plane], [measures]
    segment = Dataset()
    segment.ReferencedSegmentNumber = 1
    groups.SegmentIdentificationSequence = [segment]
    return groups


def _frame_groups(image: Dataset, number: int) -> Dataset:
    groups, derivation, place, content = Dataset(), Dataset(), Dataset(), Dataset()
    reference = _reference(image)
    reference.PurposeOfReferenceCodeSequence = [
        _code("121322", "DCM", "Source image for image processing operation")
    ]
    derivation.SourceImageSequence = [reference]
    derivation.DerivationCodeSequence = [_code("113076", "DCM", "Segmentation")]
    place.ImagePositionPatient = image.ImagePositionPatient
    content.DimensionIndexValues = [1, number]
    groups.DerivationImageSequence, groups.PlanePositionSequence = [derivation], [place]
    groups.FrameContentSequence = [content]
    return groups


def document(source: Dataset, pdf: bytes) -> Dataset:
    """Wrap a PDF as an instance of the study of ``source`` (PS3.3 §A.45.1)."""
    dataset = _beside(source, EncapsulatedPDFStorage, "DOC")
    dataset.SeriesDescription, dataset.DocumentTitle = "Report", "Report"
    dataset.ConversionType, dataset.BurnedInAnnotation = "WSD", "NO"
    dataset.ConceptNameCodeSequence = [_code("18748-4", "LN", "Diagnostic imaging report")]
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    dataset.EncapsulatedDocument = pdf + bytes(len(pdf) % 2)
    dataset.EncapsulatedDocumentLength = len(pdf)
    return _part10(dataset)


def small_pdf(text: str) -> bytes:
    """Write a PDF of one page that shows a line of text."""
    stream = f"BT /F1 24 Tf 40 120 Td ({text}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 400 200] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    body, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return body + (
        b"xref\n0 6\n0000000000 65535 f \n%strailer\n<< /Size 6 /Root 1 0 R >>\n"
        b"startxref\n%d\n%%%%EOF\n" % (table, len(body))
    )

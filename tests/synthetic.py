"""Synthetic instances, made as small as what they are to show."""

import zlib

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID, generate_uid

from archive.dicom.part10 import build_file_meta
from archive.identity import InstanceRef

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def data_set(sop_class_uid: str = SECONDARY_CAPTURE, **elements) -> Dataset:
    """A data set that can be stored, with more elements by keyword."""
    dataset = Dataset()
    dataset.SOPClassUID = sop_class_uid
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(dataset, keyword, generate_uid())
    dataset.PatientID = "synthetic"
    dataset.Modality = "OT"
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def image(
    *, rows: int, columns: int, number_of_frames: int, bits_allocated: int, **elements
) -> Dataset:
    """A grey image that waits for its Pixel Data."""
    return data_set(
        Rows=rows,
        Columns=columns,
        NumberOfFrames=number_of_frames,
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        BitsAllocated=bits_allocated,
        BitsStored=bits_allocated,
        HighBit=bits_allocated - 1,
        PixelRepresentation=0,
        **elements,
    )


def part10(dataset: Dataset, transfer_syntax_uid: str) -> bytes:
    """The instance as a Part 10 object; Pixel Data are written as they are."""
    syntax = UID(transfer_syntax_uid)
    if "PixelData" in dataset:
        compressed = syntax.is_compressed and not syntax.is_deflated
        dataset["PixelData"].VR = "OB" if compressed or dataset.BitsAllocated <= 8 else "OW"
        dataset["PixelData"].is_undefined_length = compressed
    output = DicomBytesIO()
    output.is_little_endian = syntax.is_little_endian
    output.is_implicit_VR = syntax.is_implicit_VR
    write_dataset(output, dataset)
    body = output.getvalue()
    if syntax.is_deflated:
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        body = deflater.compress(body) + deflater.flush()
    header = build_file_meta(
        sop_class_uid=dataset.SOPClassUID,
        sop_instance_uid=dataset.SOPInstanceUID,
        transfer_syntax_uid=transfer_syntax_uid,
    )
    return header + body


def url(ref: InstanceRef) -> str:
    """The path of an instance below the studies service."""
    return (
        f"/studies/{ref.study_instance_uid}/series/{ref.series_instance_uid}"
        f"/instances/{ref.sop_instance_uid}"
    )

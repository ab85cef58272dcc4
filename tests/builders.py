"""Synthetic instances, small and made to measure."""

import io
import warnings

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def dataset(study: str, series: str, instance: str, **attributes) -> Dataset:
    """A data set without pixels: identifiers, and whatever keywords say."""
    made = Dataset()
    made.SOPClassUID = SECONDARY_CAPTURE
    made.SOPInstanceUID = instance
    made.StudyInstanceUID = study
    made.SeriesInstanceUID = series
    made.Modality = "OT"
    made.PatientID = "P"
    made.PatientName = "Test^Patient"
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def part10(made: Dataset) -> bytes:
    """The Part 10 object of a data set, explicit little endian."""
    made.file_meta = FileMetaDataset()
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    output = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made.save_as(output, enforce_file_format=True, implicit_vr=False, little_endian=True)
    return output.getvalue()


def item(**attributes) -> Dataset:
    """An item of a sequence."""
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made

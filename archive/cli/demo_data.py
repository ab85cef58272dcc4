"""Studies made of arithmetic: the same bytes each time, no patient anywhere."""

import io
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGBaseline8Bit

from archive.dicom.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from archive.render.encode import encode_image

_ROOT: Final = "2.25.184696781966465891955702694349947373779.1"
_CT: Final = "1.2.840.10008.5.1.4.1.1.2"
_DX: Final = "1.2.840.10008.5.1.4.1.1.1.1"
_US_MULTI: Final = "1.2.840.10008.5.1.4.1.1.3.1"
_SLICES: Final = 40
_CINE_FRAMES: Final = 24


def synthetic_instances() -> Iterator[bytes]:
    """Yield each instance as a Part 10 object."""
    yield from _ct_volume()
    yield _dx()
    yield _us_cine()


def _base(study: int, sop_class: str, instance: int, **attributes: Any) -> Dataset:  # noqa: ANN401
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = f"{_ROOT}.{study}.1.{instance}"
    dataset.StudyInstanceUID = f"{_ROOT}.{study}"
    dataset.SeriesInstanceUID = f"{_ROOT}.{study}.1"
    dataset.PatientID = f"DEMO-{study}"
    dataset.PatientSex = "O"
    dataset.PatientBirthDate = "19700101"
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = f"2026010{study}"
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = "120000"
    dataset.AccessionNumber = f"A{study:04d}"
    dataset.StudyID = str(study)
    dataset.ReferringPhysicianName = "Demo^Referrer"
    dataset.Manufacturer = "Fileroom"
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = instance
    dataset.PatientOrientation = None
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def _pixels(dataset: Dataset, pixels: npt.NDArray[Any], photometric: str) -> None:
    dataset.Rows, dataset.Columns = pixels.shape[-2:] if pixels.ndim < 4 else pixels.shape[1:3]
    dataset.SamplesPerPixel = 3 if photometric.startswith(("RGB", "YBR")) else 1
    dataset.PhotometricInterpretation = photometric
    bits = pixels.dtype.itemsize * 8
    dataset.BitsAllocated = bits
    dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")


def _part10(dataset: Dataset, transfer_syntax: UID = ExplicitVRLittleEndian) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = transfer_syntax
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    whole = FileDataset("", dataset, file_meta=meta, preamble=bytes(128))
    output = io.BytesIO()
    whole.save_as(output, enforce_file_format=True)
    return output.getvalue()


def _ct_volume() -> Iterator[bytes]:
    """Make a head-like phantom: ellipsoids of known Hounsfield units, 1 x 1 x 3 mm."""
    z, y, x = np.mgrid[0:_SLICES, 0:256, 0:256].astype(np.float32)
    u, v, w = (x - 128) / 96, (y - 128) / 112, (z - 20) / 22
    radius = np.sqrt(u * u + v * v + w * w)
    hounsfield = np.full(radius.shape, -1000, np.float32)
    hounsfield[radius < 1] = 800
    hounsfield[radius < 0.9] = 40
    ventricles = ((u / 0.25) ** 2 + ((v + 0.1) / 0.35) ** 2 + (w / 0.4) ** 2) < 1
    hounsfield[ventricles] = 5
    lesion = ((u - 0.4) ** 2 + (v - 0.3) ** 2 + w**2) < 0.03
    hounsfield[lesion] = 80
    stored = (hounsfield + 1024).astype(np.int16)
    for number in range(_SLICES):
        dataset = _base(1, _CT, number + 1, Modality="CT", PatientName="Demo^Volume")
        dataset.StudyDescription = "CT head phantom"
        dataset.SeriesDescription = "Axial 3 mm"
        dataset.BodyPartExamined = "HEAD"
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.FrameOfReferenceUID = f"{_ROOT}.1.9"
        dataset.PositionReferenceIndicator = None
        dataset.PatientPosition = "HFS"
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.ImagePositionPatient = [-127.5, -127.5, 3 * number - 58.5]
        dataset.PixelSpacing = [1, 1]
        dataset.SliceThickness = 3
        dataset.SliceLocation = 3 * number - 58.5
        dataset.KVP = 120
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = -1024, 1, "HU"
        dataset.WindowCenter, dataset.WindowWidth = [40, 400], [80, 2000]
        _pixels(dataset, stored[number], "MONOCHROME2")
        dataset.PixelData = stored[number].tobytes()
        yield _part10(dataset)


def _dx() -> bytes:
    """Make a step wedge and a ring, stored as MONOCHROME1: more exposure is darker."""
    y, x = np.mgrid[0:1200, 0:1000].astype(np.float32)
    exposure = 500 + 300 * np.floor(x / 100)
    distance = np.hypot(x - 500, y - 600)
    exposure[(distance > 250) & (distance < 300)] = 200
    stored = exposure.astype(np.uint16)
    dataset = _base(2, _DX, 1, Modality="DX", PatientName="Demo^Wedge")
    dataset.StudyDescription = "DX step wedge"
    dataset.SeriesDescription = "AP"
    dataset.BodyPartExamined = "CHEST"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", ""]
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.PixelSpacing = [0.2, 0.2]
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "US"
    dataset.PresentationLUTShape = "INVERSE"
    dataset.WindowCenter, dataset.WindowWidth = 1800, 3400
    _pixels(dataset, stored, "MONOCHROME1")
    dataset.BitsStored, dataset.HighBit = 12, 11
    dataset.PixelData = stored.tobytes()
    return _part10(dataset)


def _us_cine() -> bytes:
    """Make a beating circle in colour, JPEG baseline, many frames."""
    y, x = np.mgrid[0:240, 0:320].astype(np.float32)
    frames = []
    for number in range(_CINE_FRAMES):
        radius = 60 + 20 * np.sin(2 * np.pi * number / _CINE_FRAMES)
        distance = np.hypot(x - 160, y - 120)
        image = np.zeros((240, 320, 3), np.uint8)
        image[distance < radius] = (90, 90, 90)
        image[np.abs(distance - radius) < 6] = (220, 60, 40)
        frames.append(encode_image(image, "image/jpeg", 90))
    dataset = _base(3, _US_MULTI, 1, Modality="US", PatientName="Demo^Cine")
    dataset.StudyDescription = "US cine"
    dataset.SeriesDescription = "Beat"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "", "0001"]
    dataset.NumberOfFrames = _CINE_FRAMES
    dataset.FrameTime = 40
    dataset.FrameIncrementPointer = 0x00181063
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionMethod = "ISO_10918_1"
    dataset.PlanarConfiguration = 0
    _pixels(dataset, np.zeros((1, 240, 320, 3), np.uint8), "YBR_FULL_422")
    dataset.PixelData = encapsulate(frames, has_bot=True)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return _part10(dataset, JPEGBaseline8Bit)

"""One study with everything that can be shown, and something that cannot."""

import io
from dataclasses import dataclass

import httpx
import numpy as np
from PIL import Image

from archive.assembly import Archive
from archive.identity import InstanceRef
from tests.builders import dataset, item
from tests.conftest import store
from tests.synthetic import part10

EXPLICIT = "1.2.840.10008.1.2.1"
MPEG4 = "1.2.840.10008.1.2.4.102"
STUDY = "1.2.826.0.1.3680043.10.1"
PDF = b"%PDF-1.4 not much of one, and odd."
CDA = b'<?xml version="1.0"?><ClinicalDocument xmlns="urn:hl7-org:v3"/>'
STL = b"solid cube\nendsolid cube\n"
VIDEO = bytes(range(256)) * 40
CLASSES = {
    "pdf": "1.2.840.10008.5.1.4.1.1.104.1",
    "cda": "1.2.840.10008.5.1.4.1.1.104.2",
    "stl": "1.2.840.10008.5.1.4.1.1.104.3",
    "obj": "1.2.840.10008.5.1.4.1.1.104.4",
    "mtl": "1.2.840.10008.5.1.4.1.1.104.5",
}


@dataclass(frozen=True)
class Showcase:
    """The study, and how it is asked for."""

    archive: Archive
    client: httpx.Client
    refs: dict[str, InstanceRef]

    def url(self, name: str) -> str:
        ref = self.refs[name]
        return (
            f"/studies/{ref.study_instance_uid}/series/{ref.series_instance_uid}"
            f"/instances/{ref.sop_instance_uid}"
        )

    def series_url(self, name: str) -> str:
        return self.url(name).partition("/instances/")[0]

    @property
    def study_url(self) -> str:
        return f"/studies/{STUDY}"

    def get(self, url: str, accept: str = "*/*", **more) -> httpx.Response:
        headers = {"Accept": accept} | more.pop("headers", {})
        return self.client.get(url, headers=headers, **more)

    def rendered(self, name: str, query: str = "", accept: str = "image/png") -> httpx.Response:
        return self.get(f"{self.url(name)}/rendered?{query}", accept)

    def pixels(self, name: str, query: str = "", frame: int | None = None) -> np.ndarray:
        """The rendered image of an instance or frame, as numbers."""
        path = f"/frames/{frame}/rendered" if frame else "/rendered"
        return image_of(self.get(f"{self.url(name)}{path}?{query}", "image/png"))

    def wado(self, name: str, accept: str = "*/*", **parameters) -> httpx.Response:
        """WADO-URI of an instance; a parameter that is None is left out."""
        ref = self.refs[name]
        given = {
            "requestType": "WADO",
            "studyUID": ref.study_instance_uid,
            "seriesUID": ref.series_instance_uid,
            "objectUID": ref.sop_instance_uid,
        } | parameters
        url = str(self.client.base_url).replace("/dicom-web/", "/wado")
        wanted = {key: value for key, value in given.items() if value is not None}
        return self.client.get(url, params=wanted, headers={"Accept": accept})


def image_of(response: httpx.Response) -> np.ndarray:
    """The one image of an answer, as signed numbers."""
    assert response.status_code == 200, response.text
    return np.asarray(Image.open(io.BytesIO(response.content))).astype(int)


def ramp(rows: int = 40, columns: int = 60) -> np.ndarray:
    """A 12-bit image in which every pixel has a value of its own."""
    return (np.arange(rows * columns).reshape(rows, columns) % 4096).astype("<u2")


def image(series: str, number: int, pixels: np.ndarray, **attributes):
    """A grey or colour image; frames along the first axis where there are several."""
    frames = int(attributes.get("NumberOfFrames", 1))
    shape = pixels.shape[1:] if frames > 1 else pixels.shape
    bits = attributes.pop("BitsStored", pixels.dtype.itemsize * 8)
    colour = len(shape) == 3
    described = {
        "InstanceNumber": number,
        "Rows": shape[0],
        "Columns": shape[1],
        "SamplesPerPixel": 3 if colour else 1,
        "PhotometricInterpretation": "RGB" if colour else "MONOCHROME2",
        "BitsAllocated": pixels.dtype.itemsize * 8,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
    }
    if colour:
        described["PlanarConfiguration"] = 0
    body = pixels.tobytes()
    described["PixelData"] = body + b"\0" * (len(body) % 2)
    return dataset(STUDY, f"{STUDY}.{series}", f"{STUDY}.{series}.{number}",
                   **(described | attributes))  # fmt: skip


def document(series: str, number: int, kind: str, body: bytes, media_type: str, **more):
    """An encapsulated document."""
    padded = body + b"\0" * (len(body) % 2)
    return dataset(
        STUDY, f"{STUDY}.{series}", f"{STUDY}.{series}.{number}",
        SOPClassUID=CLASSES[kind], Modality="DOC", EncapsulatedDocument=padded,
        MIMETypeOfEncapsulatedDocument=media_type, **more,
    )  # fmt: skip


def code(value: str, scheme: str, meaning: str):
    return [item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)]


def content(kind: str, name: str, **value):
    return item(
        RelationshipType="CONTAINS",
        ValueType=kind,
        ConceptNameCodeSequence=code("1", "99T", name),
        **value,
    )


def number(name: str, value: str, unit: str):
    measured = item(NumericValue=value, MeasurementUnitsCodeSequence=code(unit, "UCUM", unit))
    return content("NUM", name, MeasuredValueSequence=[measured])


def report(target: str):
    """A report whose text holds what markup must not be taken for."""
    referenced = item(
        ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.7", ReferencedSOPInstanceUID=target
    )
    evidence = item(
        StudyInstanceUID=STUDY,
        ReferencedSeriesSequence=[
            item(SeriesInstanceUID=f"{STUDY}.1", ReferencedSOPSequence=[referenced])
        ],
    )
    findings = content("CONTAINER", "Findings", ContinuityOfContent="SEPARATE")
    findings.ContentSequence = [
        content("TEXT", "Finding", TextValue="<script>alert(1)</script> Größe & Lage"),
        content("CODE", "Severity", ConceptCodeSequence=code("2", "99T", "moderate")),
        number("Length", "12.5", "mm"),
        number("Width", "7", "mm"),
        content("PNAME", "Reader", PersonName="Müller^Anna"),
        content("DATETIME", "Read at", DateTime="20260102030405"),
        content("IMAGE", "Seen in", ReferencedSOPSequence=[referenced]),
        content("UIDREF", "Frame of reference", UID="1.2.3"),
    ]
    return dataset(
        STUDY, f"{STUDY}.4", f"{STUDY}.4.1",
        SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33", Modality="SR", ValueType="CONTAINER",
        SpecificCharacterSet="ISO_IR 192",
        ConceptNameCodeSequence=code("126000", "DCM", "Imaging Measurement Report"),
        CompletionFlag="COMPLETE", VerificationFlag="UNVERIFIED", ContentSequence=[findings],
        CurrentRequestedProcedureEvidenceSequence=[evidence],
    )  # fmt: skip


def instances() -> dict[str, tuple]:
    """Name to data set and transfer syntax."""
    grey = {"BitsStored": 12, "WindowCenter": "600", "WindowWidth": "800"}
    cine = np.stack([np.full((16, 20), 40 * index, np.uint8) for index in range(6)])
    cine[:, :4, :4] = 255
    colours = np.zeros((16, 16, 3), np.uint8)
    colours[:8, :, 0] = 200
    colours[8:, :, 2] = 200
    made = {
        "first": image("1", 1, ramp(), **grey),
        "second": image("1", 2, ramp()[::-1].copy(), **grey),
        "third": image("1", 3, ramp()[:, ::-1].copy(), **grey),
        "cine": image("2", 1, cine, NumberOfFrames=6, FrameTime="40"),
        "colour": image("3", 1, colours),
        "report": report(f"{STUDY}.1.1"),
        "pdf": document("5", 1, "pdf", PDF, "application/pdf"),
        "cda": document("6", 1, "cda", CDA, "text/xml", EncapsulatedDocumentLength=len(CDA)),
        "stl": document("7", 1, "stl", STL, "model/stl"),
        "untyped": document("7", 2, "obj", b"v 0 0 0\n", ""),
        "odd type": document("7", 3, "mtl", b"newmtl x\n", "text/html\r\nX-Evil: 1"),
        "plan": dataset(STUDY, f"{STUDY}.8", f"{STUDY}.8.1", Modality="RTPLAN",
                        SOPClassUID="1.2.840.10008.5.1.4.1.1.481.5"),
    }  # fmt: skip
    return {name: (made_set, EXPLICIT) for name, made_set in made.items()}


def video():
    """An MPEG-4 stream in one fragment."""
    from pydicom.encaps import encapsulate

    made = image("9", 1, np.zeros((16, 16), np.uint8), NumberOfFrames=1)
    made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.1.1"
    made.Modality = "ES"
    made.NumberOfFrames = 25
    made.PixelData = encapsulate([VIDEO])
    return part10(made, MPEG4)


def fill(archive: Archive) -> dict[str, InstanceRef]:
    """Store all of it; where each is."""
    refs = {
        name: store(archive, part10(made, syntax)).ref
        for name, (made, syntax) in instances().items()
    }
    return refs | {"video": store(archive, video()).ref}

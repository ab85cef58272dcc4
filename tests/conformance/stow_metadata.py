"""Metadata and bulk data as the tests of the store transaction send them."""

import base64
import json
from xml.sax.saxutils import escape

import pydicom
from pydicom.uid import generate_uid

from tests.conformance.stow import pack, related
from tests.conftest import wheel_file

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
_CR = "\r"
JSON = "application/dicom+json"
XML = "application/dicom+xml"


def dataset(sop_class: str = SECONDARY_CAPTURE, **more) -> dict:
    """A data set of its own study; further attributes by ``_tag``."""
    made = {
        "00080016": {"vr": "UI", "Value": [sop_class]},
        "00080018": {"vr": "UI", "Value": [generate_uid()]},
        "00080060": {"vr": "CS", "Value": ["OT"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]},
        "00100020": {"vr": "LO", "Value": ["P1"]},
        "0020000D": {"vr": "UI", "Value": [generate_uid()]},
        "0020000E": {"vr": "UI", "Value": [generate_uid()]},
    }
    return made | {tag.strip("_"): element for tag, element in more.items()}


def image(rows: int = 4, columns: int = 6, frames: int = 1, **more) -> dict:
    """A grey image, its pixels in the part ``pixels``."""
    described = {
        "_00280002": {"vr": "US", "Value": [1]},
        "_00280004": {"vr": "CS", "Value": ["MONOCHROME2"]},
        "_00280010": {"vr": "US", "Value": [rows]},
        "_00280011": {"vr": "US", "Value": [columns]},
        "_00280100": {"vr": "US", "Value": [8]},
        "_00280101": {"vr": "US", "Value": [8]},
        "_00280102": {"vr": "US", "Value": [7]},
        "_00280103": {"vr": "US", "Value": [0]},
        "_7FE00010": {"vr": "OB", "BulkDataURI": "pixels"},
    }
    if frames > 1:
        described["_00280008"] = {"vr": "IS", "Value": [frames]}
    return dataset(**(described | more))


def as_xml(attributes: dict) -> bytes:
    """The Native DICOM Model of a data set, written by other code than the archive's."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM" '
        f'xml:space="preserve">{_elements(attributes)}</NativeDicomModel>'
    ).encode()


def _elements(attributes: dict) -> str:
    return "".join(
        f'<DicomAttribute tag="{tag}" vr="{element["vr"]}">{_content(element)}</DicomAttribute>'
        for tag, element in attributes.items()
    )


def _content(element: dict) -> str:
    if "BulkDataURI" in element:
        return f'<BulkData uri="{escape(element["BulkDataURI"])}"/>'
    if "InlineBinary" in element:
        return f"<InlineBinary>{element['InlineBinary']}</InlineBinary>"
    values = enumerate(element.get("Value", []), 1)
    if element["vr"] == "SQ":
        return "".join(f'<Item number="{n}">{_elements(item)}</Item>' for n, item in values)
    if element["vr"] == "PN":
        return "".join(f'<PersonName number="{n}">{_name(v)}</PersonName>' for n, v in values)
    return "".join(
        f'<Value number="{n}">{escape(str(v), {_CR: "&#13;"})}</Value>'
        for n, v in values
        if v is not None
    )


def _name(name: dict) -> str:
    parts = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
    return "".join(
        f"<{group}>"
        + "".join(
            f"<{part}>{escape(text)}</{part}>"
            for part, text in zip(parts, value.split("^"), strict=False)
            if text
        )
        + f"</{group}>"
        for group, value in (name or {}).items()
    )


def metadata_parts(datasets: list[dict], kind: str = JSON) -> list[tuple[dict, bytes]]:
    if kind == JSON:
        return [({"Content-Type": JSON}, json.dumps(datasets).encode())]
    return [({"Content-Type": XML}, as_xml(attributes)) for attributes in datasets]


def bulk(location: str, content: bytes, content_type: str = "application/octet-stream"):
    return {"Content-Type": content_type, "Content-Location": location}, content


def send(client, datasets: list[dict] | dict, *parts, kind: str = JSON, **more):
    """Store data sets with their bulk data."""
    listed = datasets if isinstance(datasets, list) else [datasets]
    body = pack([*metadata_parts(listed, kind), *parts])
    headers = related(kind) | more.pop("headers", {})
    return client.post(more.pop("path", "/studies"), content=body, headers=headers, **more)


def path_of(attributes: dict) -> str:
    study, series, instance = (
        attributes[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018")
    )
    return f"/studies/{study}/series/{series}/instances/{instance}"


def metadata_of(client, attributes: dict) -> dict:
    """What the archive says of the instance now."""
    response = client.get(path_of(attributes) + "/metadata", headers={"Accept": JSON})
    assert response.status_code == 200
    return response.json()[0]


def part10_of(client, attributes: dict) -> pydicom.FileDataset:
    """The instance the archive made, as pydicom reads it."""
    response = client.get(
        path_of(attributes), headers={"Accept": "application/dicom; transfer-syntax=*"}
    )
    assert response.status_code == 200
    return pydicom.dcmread(pydicom.filebase.DicomBytesIO(response.content))


def frames_of(name: str) -> list[bytes]:
    """The frames of a real file of the wheel, as they lie there."""
    read = pydicom.dcmread(wheel_file(name))
    count = int(read.get("NumberOfFrames", 1))
    return list(pydicom.encaps.generate_frames(read.PixelData, number_of_frames=count))


def inline(raw: bytes) -> str:
    return base64.b64encode(raw).decode()

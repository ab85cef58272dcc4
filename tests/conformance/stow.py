"""What the tests of the store transaction share: instances, bodies and answers."""

import contextlib
import socket
from collections.abc import Iterable

import httpx
import pydicom
from pydicom.uid import generate_uid

from tests.conftest import wheel_file

BOUNDARY = "b0undary"


def ct() -> bytes:
    return wheel_file("CT_small.dcm").read_bytes()


def mr() -> bytes:
    return wheel_file("MR_small_RLE.dcm").read_bytes()


def uids(body: bytes) -> tuple[str, str, str]:
    """Study, series and SOP instance UID."""
    dataset = pydicom.dcmread(pydicom.filebase.DicomBytesIO(body), stop_before_pixels=True)
    return dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID


def copies(count: int, source: str = "CT_small.dcm") -> list[bytes]:
    """As many instances of one series, each with a UID of its own."""
    dataset = pydicom.dcmread(wheel_file(source))
    bodies = []
    for number in range(count):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.InstanceNumber = number + 1
        buffer = pydicom.filebase.DicomBytesIO()
        dataset.save_as(buffer)
        bodies.append(buffer.parent.getvalue())
    return bodies


def related(part_type: str = "application/dicom", boundary: str = BOUNDARY) -> dict[str, str]:
    return {"Content-Type": f'multipart/related; type="{part_type}"; boundary="{boundary}"'}


def pack(
    parts: Iterable[tuple[dict[str, str], bytes]], boundary: str = BOUNDARY, end: str = "\r\n"
) -> bytes:
    """A multipart body of parts with these headers."""
    body = b""
    for headers, content in parts:
        lines = [f"--{boundary}", *(f"{name}: {value}" for name, value in headers.items())]
        body += end.join(lines).encode() + 2 * end.encode() + content + end.encode()
    return body + f"--{boundary}--{end}".encode()


def post(client: httpx.Client, *bodies: bytes, path: str = "/studies", **more):
    """Store instances, each a part."""
    parts = [({"Content-Type": "application/dicom"}, body) for body in bodies]
    headers = related() | more.pop("headers", {})
    return client.post(path, content=pack(parts), headers=headers, **more)


def referenced(response) -> list[dict]:
    return response.json().get("00081199", {}).get("Value", [])


def failed(response) -> list[dict]:
    return response.json().get("00081198", {}).get("Value", [])


def others(response) -> list[dict]:
    return response.json().get("0008119A", {}).get("Value", [])


def value(item: dict, tag: str):
    return item[tag]["Value"][0]


def texts(item: dict) -> str:
    """Everything that is said of an instance, in words."""
    return " | ".join(
        value(said, "0040A160" if "0040A160" in said else "00000902")
        for said in item["00741048"]["Value"]
    )


def stored_bytes(client: httpx.Client, item: dict) -> bytes:
    """The instance as it is retrieved again."""
    answer = client.get(
        value(item, "00081190"), headers={"Accept": "application/dicom; transfer-syntax=*"}
    )
    assert answer.status_code == 200
    return answer.content


@contextlib.contextmanager
def raw_connection(client: httpx.Client):
    """A socket to the server, and what it takes to be understood there."""
    with socket.create_connection((client.base_url.host, client.base_url.port)) as connection:
        connection.settimeout(20)
        yield connection


def raw_request(client: httpx.Client, *headers: str, path: str = "/dicom-web/studies") -> bytes:
    lines = [f"POST {path} HTTP/1.1", f"Host: {client.base_url.host}", *headers, "", ""]
    return "\r\n".join(lines).encode()


def read_status(connection: socket.socket) -> tuple[int, bytes]:
    """The next status line and everything up to the end of its headers."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = connection.recv(1)
        if not piece:
            break
        answer += piece
    return int(answer.split(b" ", 2)[1]) if answer else 0, answer

"""§10.5.2: what is retrieved as metadata and bulk data is stored again, and is equal."""

import json
import re
from email.parser import BytesParser

import httpx
import pytest

from tests.conformance.stow import pack, referenced, related
from tests.conformance.stow_metadata import JSON, XML
from tests.conftest import http_client, make_config, running_archive

BOUNDARY = "Zr7sQ2mVb0xKd9LwPf4T"
ANYTHING = (
    'multipart/related; type="application/octet-stream"; transfer-syntax=*, '
    'multipart/related; type="*/*"; transfer-syntax=*'
)
# Encapsulated pixel data that was written as OW is OB, as it has to be (PS3.5 §A.4).
WRONG_VR = {"explicit_VR-UN.dcm", "693_J2KI.dcm", "693_J2KR.dcm", "693_UNCI.dcm"}


@pytest.fixture
def elsewhere(tmp_path):
    """A client of another archive."""
    config = make_config(tmp_path / "data")
    with running_archive(config) as archive, http_client(archive) as client:
        yield client


def bulk_uris(attributes: dict):
    for element in attributes.values():
        if "BulkDataURI" in element:
            yield element["BulkDataURI"]
        if element["vr"] == "SQ":
            for item in element.get("Value", []):
                yield from bulk_uris(item)


def parts_of(response: httpx.Response) -> list[tuple[dict, bytes]]:
    head = b"Content-Type: " + response.headers["content-type"].encode() + b"\r\n\r\n"
    boundary = b"--" + BytesParser().parsebytes(head).get_boundary().encode()
    parts = []
    for part in (b"\r\n" + response.content).split(b"\r\n" + boundary)[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        parts.append((dict(BytesParser().parsebytes(head + b"\r\n\r\n").items()), content))
    return parts


def retrieved(room, name: str, kind: str) -> tuple[dict, list[tuple[dict, bytes]]]:
    """The metadata of a stored file, and all parts it takes to store it again."""
    url = room.url(name) + "/metadata"
    metadata = room.get(url, JSON).json()[0]
    if kind == JSON:
        parts = [({"Content-Type": JSON}, json.dumps([metadata]).encode())]
    else:
        response = room.get(url, f'multipart/related; type="{XML}"')
        parts = [({"Content-Type": XML}, content) for _, content in parts_of(response)]
    for uri in bulk_uris(metadata):
        response = room.client.get(uri, headers={"Accept": ANYTHING})
        assert response.status_code == 200, uri
        parts += parts_of(response)
    return metadata, parts


def comparable(metadata: dict, client: httpx.Client) -> dict:
    # Carets at the end of a name divide nothing, and XML has no place for them.
    text = re.sub(r'("Alphabetic": "[^"]*?)\^+"', r'\1"', json.dumps(metadata))
    text = text.replace('{"Alphabetic": ""}', "null").replace(', "Value": [null]', "")
    return json.loads(text.replace(str(client.base_url), "/"))


@pytest.mark.parametrize("kind", [JSON, XML])
def test_metadata_is_equal_after_a_round_trip(room, elsewhere, kind):
    different, refused = {}, {}
    for name in room.refs:
        metadata, parts = retrieved(room, name, kind)
        body, headers = pack(parts, BOUNDARY), related(kind, BOUNDARY)
        response = elsewhere.post("/studies", content=body, headers=headers)
        if not referenced(response):
            refused[name] = response.text[:400]
            continue
        again = elsewhere.get(room.url(name) + "/metadata", headers={"Accept": JSON}).json()[0]
        before, after = comparable(metadata, room.client), comparable(again, elsewhere)
        if name in WRONG_VR:
            before["7FE00010"]["vr"] = after["7FE00010"]["vr"]
        tags = [tag for tag in before | after if before.get(tag) != after.get(tag)]
        if tags:
            different[name] = [(before.get(tag), after.get(tag)) for tag in tags]
    assert refused == {}
    assert different == {}

"""§10.5.1: instances as they are stored, each a part of the body (RFC 2046 §5.1, RFC 2387)."""

import gzip
import logging
import zlib

import pytest
import zstandard

from archive.auth.principal import OPERATOR
from tests.conformance.stow import (
    copies,
    ct,
    failed,
    mr,
    others,
    pack,
    post,
    raw_connection,
    raw_request,
    read_status,
    referenced,
    related,
    stored_bytes,
    uids,
    value,
)
from tests.conftest import wait_until

DICOM = {"Content-Type": "application/dicom"}


@pytest.fixture
def client(storing_client):
    return storing_client


def instances(archive) -> int:
    return archive.changes.totals(OPERATOR).instances


# -- the Content-Type of the request -----------------------------------------------------------


@pytest.mark.parametrize(
    "content_type",
    [
        'multipart/related; type="application/dicom"; boundary="b0undary"',
        'multipart/related; type="application/dicom"; boundary=b0undary',
        "multipart/related; type=application/dicom; boundary=b0undary",
        "multipart/related;type=application/dicom;boundary=b0undary",
        "multipart/related; boundary=b0undary",
        "multipart/related; boundary=b0undary; type=application/dicom",
        'Multipart/Related; Type="Application/DICOM"; Boundary="b0undary"',
        'multipart/related ; type="application/dicom" ; boundary="b0undary"',
        'multipart/related; type="application/dicom"; start="<a>"; boundary="b0undary"',
        'multipart/related; type="application/dicom; transfer-syntax=*"; boundary=b0undary',
        'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.1; '
        "boundary=b0undary",
        'multipart/related; type="application/octet-stream"; boundary=b0undary',
    ],
)
def test_the_content_type_is_read_however_it_is_written(client, content_type):
    response = client.post(
        "/studies", content=pack([(DICOM, ct())]), headers={"Content-Type": content_type}
    )
    assert response.status_code == 200
    assert stored_bytes(client, referenced(response)[0]) == ct()


@pytest.mark.parametrize(
    "content_type",
    [
        "application/dicom",
        "Application/DICOM",
        "application/dicom; transfer-syntax=1.2.840.10008.1.2.1",
        "application/octet-stream",
    ],
)
def test_one_instance_may_be_the_whole_body(client, content_type):
    response = client.post("/studies", content=ct(), headers={"Content-Type": content_type})
    assert response.status_code == 200
    assert stored_bytes(client, referenced(response)[0]) == ct()


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/json",
        "image/jpeg",
        "multipart/form-data; boundary=b0undary",
        "multipart/mixed; boundary=b0undary",
        'multipart/related; type="image/jpeg"; boundary=b0undary',
        'multipart/related; type="text/html"; boundary=b0undary',
        "nonsense",
    ],
)
def test_another_content_type_is_415_that_says_what_is_taken(client, archive, content_type):
    headers = {"Content-Type": content_type} if content_type else {}
    response = client.post("/studies", content=pack([(DICOM, ct())]), headers=headers)
    assert response.status_code == 415
    assert "application/dicom" in response.headers["accept-post"]
    assert "application/dicom" in response.json()["detail"]
    assert instances(archive) == 0


# -- parts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "application/dicom"},
        {"content-type": "APPLICATION/DICOM"},
        {"CONTENT-TYPE": "application/dicom;transfer-syntax=1.2.840.10008.1.2.1"},
        {"Content-Type": "application/octet-stream"},
        {"Content-Type": "text/plain"},
        {"Content-Type": ""},
        {"Content-Type": "application/dicom", "Content-Length": str(len(ct()))},
        {"Content-Type": "application/dicom", "Content-Length": "3"},
        {"Content-Type": "application/dicom", "Content-Location": "http://a/b?c=d"},
        {"Content-Type": "application/dicom", "Content-ID": "<x@y>", "MIME-Version": "1.0"},
        {"Content-Type": "application/dicom", "X-Long": "y" * 8000},
        {"Content-Type": "application/dicom", "X-Name": "Müller"},
        {"Content-Transfer-Encoding": "binary", "Content-Type": "application/dicom"},
        {"Content-Disposition": 'attachment; filename="a: b"', "Content-Type": "x"},
    ],
    ids=lambda headers: ", ".join(headers) or "none",
)
def test_the_headers_of_a_part_do_not_stand_in_its_way(client, headers):
    response = client.post("/studies", content=pack([(headers, ct())]), headers=related())
    assert response.status_code == 200
    assert stored_bytes(client, referenced(response)[0]) == ct()


@pytest.mark.parametrize(
    "boundary",
    [
        *"'()+_,-./:=?0aZ",
        "'()+_,-./:=?",
        "a b",
        "a  b c",
        "x" * 70,
        "x" * 200,
        "----WebKitFormBoundary7MA4YWxkTrZu0gW",
        "=_Part_1_2.3",
        "--",
    ],
)
def test_every_boundary_character_divides(client, boundary):
    body = pack([(DICOM, ct()), (DICOM, mr())], boundary)
    response = client.post("/studies", content=body, headers=related(boundary=boundary))
    assert response.status_code == 200
    assert {stored_bytes(client, item) for item in referenced(response)} == {ct(), mr()}


@pytest.mark.parametrize(
    "change",
    [
        lambda body: b"This is a message in MIME format.\r\n" + body,
        lambda body: b"\r\n" + body,
        lambda body: b"\r\n\r\n--b0undar\r\n" + body,
        lambda body: body + b"an epilogue\r\n--b0undary\r\nwith a boundary",
        lambda body: body.removesuffix(b"\r\n"),
        lambda body: body.removesuffix(b"\r\n") + b"  \t\r\n",
        lambda body: body.replace(b"--b0undary\r\n", b"--b0undary \t \r\n"),
        lambda body: body + b"\r\n" * 20,
    ],
    ids=[
        "preamble",
        "line first",
        "preamble like a boundary",
        "epilogue",
        "no final CRLF",
        "padding behind the last",
        "padding",
        "blank lines behind",
    ],
)
def test_what_stands_around_the_parts_is_passed_over(client, change):
    body = change(pack([(DICOM, ct()), (DICOM, mr())]))
    response = client.post("/studies", content=body, headers=related())
    assert response.status_code == 200
    assert {stored_bytes(client, item) for item in referenced(response)} == {ct(), mr()}


def test_lines_may_end_in_a_line_feed_alone(client):
    body = pack([(DICOM, ct()), (DICOM, mr())], end="\n")
    response = client.post("/studies", content=body, headers=related())
    assert response.status_code == 200
    assert {stored_bytes(client, item) for item in referenced(response)} == {ct(), mr()}


@pytest.mark.parametrize(
    "inside",
    [
        b"\r\n--b0undar",
        b"\r\n--b0undaryX\r\n",
        b"\n--b0undary\n",
        b"--b0undary\r\n",
        b"\r\n--b0undary--more",
        b"\r\n--b0undary-\r\n",
        b"\r\n--b0undary \t x\r\n",
        b"\r\n--",
        b"\r\n\r\n\r\n",
        b"\r\n--B0UNDARY\r\n",
    ],
)
@pytest.mark.parametrize("size", [0, 1, 7])
def test_what_only_looks_like_a_boundary_is_content(client, inside, size):
    (original,) = copies(1)
    length = len(inside) + len(inside) % 2
    padded = inside.ljust(length, b" ")
    element = b"\xfd\xff\xfc\xffOB\0\0" + length.to_bytes(4, "little") + padded
    body = pack([(DICOM, original + element)])
    content = body if not size else (body[at : at + size] for at in range(0, len(body), size))
    if size == 1:  # the boundary's neighbourhood is what matters
        start = body.rindex(inside) - 16
        pieces = [body[:start], *(body[at : at + 1] for at in range(start, len(body)))]
        content = iter(pieces)
    response = client.post("/studies", content=content, headers=related())
    assert response.status_code == 200
    assert stored_bytes(client, referenced(response)[0]) == original + element


@pytest.mark.parametrize("size", [1, 2, 7, 100, 4096])
def test_a_body_in_pieces_of_any_size_is_the_same_body(client, size):
    small = mr()
    body = pack([(DICOM, small)])
    pieces = (body[at : at + size] for at in range(0, len(body), size))
    response = client.post("/studies", content=pieces, headers=related())
    assert response.status_code == 200
    assert stored_bytes(client, referenced(response)[0]) == small


@pytest.mark.parametrize("at", [1, -1])
def test_a_nul_inside_a_uid_does_not_make_it_another_one(client, archive, at):
    instance = uids(ct())[2]
    broken = instance[: at - 1] + "\0" + instance[at:] if at > 0 else instance[:-2] + "\0" + "1"
    body = ct().replace(instance.encode(), broken.encode())
    (refused,) = failed(post(client, body))
    assert "not a UID" in str(refused)
    assert instances(archive) == 0


def test_an_empty_part_fails_alone(client):
    response = post(client, ct(), b"", mr())
    assert response.status_code == 202
    assert len(referenced(response)) == 2
    assert len(others(response)) == 1


@pytest.mark.parametrize(
    "body", [b"", b"--b0undary--", b"--b0undary--\r\n", b"\r\n--b0undary--\r\n", b"only this"]
)
def test_a_body_without_a_part_is_400(client, body):
    response = client.post("/studies", content=body, headers=related())
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"


def test_an_empty_single_body_is_refused(client):
    assert client.post("/studies", content=b"", headers=DICOM).status_code in (400, 409)


@pytest.mark.parametrize("boundary", ["other", "b0undar", "b0undaryy", "B0UNDARY"])
def test_a_wrong_boundary_is_400_and_nothing_is_stored(client, archive, boundary):
    body = pack([(DICOM, ct())])
    response = client.post("/studies", content=body, headers=related(boundary=boundary))
    assert response.status_code == 400
    assert instances(archive) == 0


@pytest.mark.parametrize("boundary", ["", "; boundary=", '; boundary=""'])
def test_no_boundary_is_400(client, boundary):
    headers = {"Content-Type": f'multipart/related; type="application/dicom"{boundary}'}
    response = client.post("/studies", content=pack([(DICOM, ct())]), headers=headers)
    assert response.status_code == 400
    assert "boundary" in response.json()["detail"]


def test_headers_of_a_part_that_are_too_long_are_400(client, archive):
    body = pack([({"X": "y" * 100_000}, ct())])
    response = client.post("/studies", content=body, headers=related())
    assert response.status_code == 400
    assert instances(archive) == 0


@pytest.mark.parametrize("cut", [-1, -4, -8, -12, -20, -2000])
def test_a_body_that_breaks_off_keeps_and_tells_what_was_whole(client, archive, cut):
    body = pack([(DICOM, ct()), (DICOM, mr())]).removesuffix(b"\r\n")[:cut]
    response = client.post("/studies", content=body, headers=related())
    assert response.status_code == 400
    told = response.json()["storeInstancesResponse"]["00081199"]["Value"]
    assert [value(item, "00081155") for item in told] == [uids(ct())[2]]
    assert instances(archive) == 1
    assert not list((archive.config.archive.data_dir / "incoming").iterdir())


def test_one_bad_part_sinks_no_good_one(client):
    response = post(client, b"not DICOM", ct(), ct()[:500], mr())
    assert response.status_code == 202
    assert len(referenced(response)) == 2
    assert [value(item, "00081155") for item in failed(response)] == [uids(ct())[2]]
    assert len(others(response)) == 1


def test_three_hundred_instances_in_one_request(client, archive):
    bodies = copies(300, "MR_small_RLE.dcm")
    response = post(client, *bodies)
    assert response.status_code == 200
    assert [value(item, "00081155") for item in referenced(response)] == [
        uids(body)[2] for body in bodies
    ]
    assert instances(archive) == 300


def test_the_same_instance_twice_in_one_body_is_stored_once(client, archive):
    response = post(client, ct(), ct())
    assert response.status_code == 200
    assert len(referenced(response)) == 2
    assert instances(archive) == 1


# -- transfer ----------------------------------------------------------------------------------


def test_expect_100_continue_is_answered_before_the_body(client):
    body = pack([(DICOM, ct())])
    with raw_connection(client) as connection:
        connection.sendall(
            raw_request(
                client,
                f"Content-Type: {related()['Content-Type']}",
                f"Content-Length: {len(body)}",
                "Expect: 100-continue",
                "Connection: close",
            )
        )
        assert read_status(connection)[0] == 100
        connection.sendall(body)
        assert read_status(connection)[0] == 200


def test_what_will_not_be_taken_is_refused_instead_of_100(client):
    with raw_connection(client) as connection:
        connection.sendall(
            raw_request(
                client,
                "Content-Type: text/plain",
                "Content-Length: 1000000000",
                "Expect: 100-continue",
            )
        )
        assert read_status(connection)[0] == 415


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_chunked_upload(client, size):
    body = pack([(DICOM, mr()[: len(mr())])])
    start = max(len(body) - 200 * size, 0)
    pieces = [body[:start], *(body[at : at + size] for at in range(start, len(body), size))]
    with raw_connection(client) as connection:
        connection.sendall(
            raw_request(
                client,
                f"Content-Type: {related()['Content-Type']}",
                "Transfer-Encoding: chunked",
                "Connection: close",
            )
        )
        for piece in filter(None, pieces):
            connection.sendall(b"%x\r\n" % len(piece) + piece + b"\r\n")
        connection.sendall(b"0\r\n\r\n")
        assert read_status(connection)[0] == 200


@pytest.mark.parametrize("part", ["binary", "single"])
@pytest.mark.parametrize("sent", [0, 300, 20_000])
def test_a_client_gone_half_way_leaves_nothing_half(client, archive, part, sent):
    single = part == "single"
    body = ct() if single else pack([(DICOM, ct())])
    content_type = "application/dicom" if single else related()["Content-Type"]
    with raw_connection(client) as connection:
        connection.sendall(
            raw_request(client, f"Content-Type: {content_type}", f"Content-Length: {len(body)}")
            + body[:sent]
        )
    assert client.get("/studies").json() == []
    assert post(client, mr()).status_code == 200
    assert instances(archive) == 1
    assert not list((archive.config.archive.data_dir / "incoming").iterdir())


@pytest.mark.parametrize("part", ["binary", "single"])
@pytest.mark.parametrize("sent", [0, 300, 20_000])
def test_a_client_gone_half_way_is_no_fault_of_the_archive(client, caplog, part, sent):
    body = ct() if part == "single" else pack([(DICOM, ct())])
    content_type = "application/dicom" if part == "single" else related()["Content-Type"]
    headers = f"Content-Type: {content_type}", f"Content-Length: {len(body)}"
    with caplog.at_level(logging.INFO):
        with raw_connection(client) as connection:
            connection.sendall(raw_request(client, *headers) + body[:sent])
        wait_until(lambda: _statuses(caplog), what="a line on the request that broke off")
    assert _statuses(caplog) == [400]
    assert "http.failed" not in [record.message for record in caplog.records]


def _statuses(caplog) -> list[int]:
    return [record.status for record in caplog.records if record.message == "http.request"]


@pytest.mark.parametrize(
    ("coding", "packer"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("deflate", zlib.compress),
        ("zstd", zstandard.compress),
        ("identity", bytes),
        ("gzip", lambda body: gzip.compress(body[:5000]) + gzip.compress(body[5000:])),
    ],
)
def test_a_packed_body_is_unpacked(client, coding, packer):
    body = packer(pack([(DICOM, ct()), (DICOM, mr())]))
    response = client.post(
        "/studies", content=body, headers=related() | {"Content-Encoding": coding}
    )
    assert response.status_code == 200
    assert {stored_bytes(client, item) for item in referenced(response)} == {ct(), mr()}


@pytest.mark.parametrize("coding", ["br", "compress", "gzip, gzip", "nonsense"])
def test_a_packing_that_is_not_known_is_415(client, archive, coding):
    headers = related() | {"Content-Encoding": coding}
    response = client.post("/studies", content=b"x", headers=headers)
    assert response.status_code == 415
    assert "gzip" in response.headers["accept-encoding"]
    assert instances(archive) == 0


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_a_body_that_is_not_packed_as_it_says_is_400(client, coding):
    headers = related() | {"Content-Encoding": coding}
    body = pack([(DICOM, ct())])
    assert client.post("/studies", content=body, headers=headers).status_code == 400


@pytest.mark.parametrize(
    ("coding", "packer"),
    [("gzip", gzip.compress), ("zstd", zstandard.compress)],
)
def test_a_packed_body_that_breaks_off_is_400(client, archive, coding, packer):
    headers = related() | {"Content-Encoding": coding}
    body = packer(pack([(DICOM, ct())]))[:-20]
    assert client.post("/studies", content=body, headers=headers).status_code == 400
    assert not list((archive.config.archive.data_dir / "incoming").iterdir())


@pytest.mark.parametrize(
    ("coding", "packer"),
    [("gzip", lambda b: gzip.compress(b, 9)), ("zstd", zstandard.compress)],
)
def test_a_bomb_is_413_and_leaves_nothing(client, archive, coding, packer):
    headers = related() | {"Content-Encoding": coding}
    body = pack([(DICOM, ct() + bytes(110_000_000))])
    response = client.post("/studies", content=packer(body), headers=headers)
    assert response.status_code == 413
    assert instances(archive) == 0
    assert not list((archive.config.archive.data_dir / "incoming").iterdir())

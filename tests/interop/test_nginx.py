"""Behind nginx, below a path and under another name: every link leads back through it.

The configuration is the one of docs/reverse-proxy.md, with other ports.
"""

import contextlib
import os
import re
import shutil
import subprocess
import time
from email.parser import BytesParser
from email.policy import HTTP
from pathlib import Path

import httpx
import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from tests.conftest import REPOSITORY, Served, free_port, wait_until, wheel_file
from tests.interop.browser import Watched, browser, profile
from tests.interop.studies import document, small_pdf

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("browser")]

NAME, PREFIX = "room.example", "/room"
_JSON = "application/dicom+json"
_XML = 'multipart/related; type="application/dicom+xml"'


class Proxied:
    """An archive behind nginx, asked as the outside does."""

    def __init__(self, server: Served, port: int) -> None:
        self.server = server
        self.root = f"http://{NAME}:{port}{PREFIX}"
        # The name is nobody's: connections go to this machine, and say the name.
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"Host": f"{NAME}:{port}"}, timeout=60
        )

    def ask(self, method: str, url: str, **more) -> httpx.Response:
        """Ask for a URL of the outside."""
        assert url.startswith(f"{self.root}/"), url
        path = url.removeprefix(self.root.removesuffix(PREFIX))
        return self.client.request(method, path, **more)

    def get(self, url: str, accept: str = "*/*", **more) -> httpx.Response:
        return self.ask("GET", url, headers={"Accept": accept}, **more)


def write_settings(folder: Path, port: int, upstream: int) -> Path:
    """Write the configuration of the documentation, with what surrounds it."""
    text = (REPOSITORY / "docs" / "reverse-proxy.md").read_text()
    (snippet,) = re.findall(r"```nginx\n(.*?)```", text, re.DOTALL)
    snippet = snippet.replace("127.0.0.1:8080", f"127.0.0.1:{upstream}")
    snippet = snippet.replace("listen 80;", f"listen 127.0.0.1:{port};")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    settings = folder / "nginx.conf"
    settings.write_text(
        f"{'user root;' if os.geteuid() == 0 else ''}\n"
        f"worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{snippet}}}\n"
    )
    return settings


@contextlib.contextmanager
def nginx(folder: Path, upstream: int):
    """Run nginx before the archive at port ``upstream``; gives its own port."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("NOT TESTED: no nginx on this machine (Debian: apt install nginx-light)")
    port = free_port()
    settings = write_settings(folder, port, upstream)
    command = [program, "-p", folder, "-c", settings, "-e", folder / "error.log"]
    started = subprocess.Popen([*command, "-g", "daemon off;"])

    def answers() -> bool:
        assert started.poll() is None, (folder / "error.log").read_text()
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"http://127.0.0.1:{port}{PREFIX}/").status_code < 500
        return False

    try:
        wait_until(answers, what="nginx")
        yield port
    finally:
        started.terminate()
        started.wait(20)


@pytest.fixture(scope="session")
def stored() -> list[pydicom.Dataset]:
    """A CT, a file of several frames, and a report that is bulk data."""
    image = pydicom.dcmread(wheel_file("CT_small.dcm"))
    report = document(image, small_pdf("Behind a proxy.") + b"% filler\n" * 20_000)
    return [image, pydicom.dcmread(wheel_file("rtdose.dcm")), report]


@pytest.fixture(scope="session")
def proxied(tmp_path_factory, viewer_folder):
    folder = tmp_path_factory.mktemp("nginx")
    server = Served(
        folder / "data",
        FILEROOM_VIEWER__FOLDER=str(viewer_folder),
        FILEROOM_AUTH__ALLOW_ANONYMOUS='["read", "write", "delete"]',
    )
    server.start()
    with nginx(folder, server.http_port) as port:
        opened = Proxied(server, port)
        yield opened
        opened.client.close()
    assert server.stop() == 0


def part10(dataset) -> bytes:
    output = pydicom.filebase.DicomBytesIO()
    dataset.save_as(output, enforce_file_format=True)
    return output.getvalue()


def store(proxied, *bodies: bytes) -> httpx.Response:
    boundary = b"between-parts"
    parts = b"".join(
        b"--%s\r\nContent-Type: application/dicom\r\n\r\n%s\r\n" % (boundary, body)
        for body in bodies
    )
    kind = f'multipart/related; type="application/dicom"; boundary={boundary.decode()}'
    return proxied.ask(
        "POST",
        f"{proxied.root}/dicom-web/studies",
        content=parts + b"--%s--\r\n" % boundary,
        headers={"Content-Type": kind, "Accept": "application/dicom+json"},
    )


@pytest.fixture(scope="session")
def answer(proxied, stored) -> httpx.Response:
    """What storing through the proxy was answered."""
    return store(proxied, *map(part10, stored))


def links_of(response: httpx.Response) -> set[str]:
    """Every absolute URL of an answer that is about resources, in body and headers."""
    text = response.text + "\n".join(
        f"{name}: {value}" for name, value in response.headers.items()
    )
    found = set(re.findall(r"https?://[^\s\"'<>\\,]+", text))
    return {link for link in found if "/dicom-web" in link}


def check_links(proxied, response: httpx.Response) -> set[str]:
    assert response.status_code == 200, response.text
    assert "127.0.0.1" not in response.text
    found = links_of(response)
    for link in found:
        assert link.startswith(f"{proxied.root}/dicom-web/"), link
    return found


def test_what_is_stored_can_be_retrieved_where_the_answer_says(proxied, answer):
    found = check_links(proxied, answer)
    assert len(found) >= 3
    for link in found:
        assert proxied.get(link).status_code == 200


@pytest.mark.parametrize(
    "accept", ["application/dicom+json", 'multipart/related; type="application/dicom+xml"']
)
@pytest.mark.parametrize("path", ["/studies", "/series", "/instances"])
def test_retrieve_urls_of_searches(path, accept, proxied, answer):
    found = check_links(proxied, proxied.get(f"{proxied.root}/dicom-web{path}", accept))
    assert len(found) >= 2
    for link in found:
        assert proxied.get(link).status_code == 200


@pytest.mark.parametrize(
    "accept", ["application/dicom+json", 'multipart/related; type="application/dicom+xml"']
)
def test_bulk_data_uris_of_metadata(accept, proxied, answer, stored):
    uris = set()
    for dataset in stored:
        url = f"{proxied.root}/dicom-web/studies/{dataset.StudyInstanceUID}/metadata"
        uris |= check_links(proxied, proxied.get(url, accept))
    bulk = {uri for uri in uris if "/bulkdata/" in uri}
    assert len(bulk) >= 3
    for uri in bulk:
        body = proxied.get(uri, "application/octet-stream")
        assert body.status_code == 200
        assert body.content


def test_content_locations_of_parts(proxied, answer, stored):
    image = stored[1]
    url = (
        f"{proxied.root}/dicom-web/studies/{image.StudyInstanceUID}/series/"
        f"{image.SeriesInstanceUID}/instances/{image.SOPInstanceUID}/frames/1,2"
    )
    got = proxied.get(url, 'multipart/related; type="application/octet-stream"')
    assert got.status_code == 200
    head = f"Content-Type: {got.headers['content-type']}\r\n\r\n".encode()
    parts = BytesParser(policy=HTTP).parsebytes(head + got.content).get_payload()
    for number, part in enumerate(parts, 1):
        location = part["Content-Location"]
        assert location.startswith(f"{proxied.root}/dicom-web/studies/")
        frame = proxied.get(location, "application/octet-stream; transfer-syntax=*")
        assert frame.status_code == 200
        assert frame.content == image.pixel_array[number - 1].tobytes()


def test_the_first_page_and_its_links(proxied):
    page = proxied.get(f"{proxied.root}/")
    assert page.status_code == 200
    assert f"{proxied.root}/dicom-web" in page.text
    for link in re.findall(r'href="([^"#]+)"', page.text):
        followed = proxied.get(str(httpx.URL(f"{proxied.root}/").join(link)))
        assert followed.status_code == 200, link


def test_the_viewer_and_its_settings_know_the_path(proxied):
    settings = proxied.get(f"{proxied.root}/viewer/app-config.js").text
    assert '"routerBasename": "/room/viewer"' in settings
    roots = set(re.findall(r'Root": "([^"]+)"', settings))
    assert roots == {"/room/dicom-web", "/room/wado"}
    page = proxied.get(f"{proxied.root}/viewer/viewer").text
    paths = re.findall(r'(?:href|src)="([^"]+)"', page)
    assert len(paths) > 10
    for path in paths:
        assert path.startswith("/room/viewer/")
    for path in paths[:3] + paths[-3:]:
        assert proxied.get(proxied.root.removesuffix(PREFIX) + path).status_code == 200
    moved = proxied.get(f"{proxied.root}/viewer")
    assert moved.headers["location"] == "/room/viewer/"


def test_an_instance_larger_than_nginx_would_keep_goes_through(proxied):
    dataset = pydicom.dcmread(wheel_file("CT_small.dcm"))
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.Rows = dataset.Columns = 4096
    dataset.PixelData = np.arange(4096 * 4096, dtype=np.uint16).tobytes()
    answer = store(proxied, part10(dataset))
    assert answer.status_code == 200
    (link,) = {link for link in links_of(answer) if "/instances/" in link}
    got = proxied.get(link, "application/dicom")
    assert pydicom.dcmread(pydicom.filebase.DicomBytesIO(got.content)) == dataset
    deleted = proxied.ask("DELETE", link.partition("/series/")[0])
    assert deleted.status_code < 300


def test_what_an_asker_forwards_is_not_believed(proxied, answer):
    for name, value in (
        ("Forwarded", "host=evil.example;proto=https"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Port", "666"),
        ("X-Forwarded-Prefix", "/evil"),
    ):
        got = proxied.ask("GET", f"{proxied.root}/dicom-web/studies", headers={name: value})
        assert check_links(proxied, got)


def test_a_client_that_goes_away_in_the_middle_leaves_nothing(proxied):
    def body():
        yield b"--x\r\nContent-Type: application/dicom\r\n\r\n" + bytes(100_000)
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        proxied.ask(
            "POST",
            f"{proxied.root}/dicom-web/studies",
            content=body(),
            headers={"Content-Type": 'multipart/related; type="application/dicom"; boundary=x'},
        )
    incoming = proxied.server.data_dir / "incoming"
    end = time.monotonic() + 10
    while time.monotonic() < end and any(incoming.iterdir()):
        time.sleep(0.1)
    assert list(incoming.iterdir()) == []


def test_ohif_below_the_path_under_the_other_name(playwright, proxied, answer, stored):
    host = f"MAP {NAME} 127.0.0.1"
    origin = proxied.root.removesuffix(PREFIX)
    flags = (
        f"--host-resolver-rules={host}",
        # A browser takes plain HTTP as secure on this machine alone; with TLS it would be.
        f"--unsafely-treat-insecure-origin-as-secure={origin}",
    )
    with browser(playwright, *flags) as launched, profile(launched) as context:
        watched = Watched(context, proxied.root)
        page = watched.page
        page.goto(f"{proxied.root}/viewer/")
        page.get_by_text("CompressedSamples, CT1").dblclick()
        page.wait_for_function(
            "window.cornerstone?.getRenderingEngines()?.[0]?.getViewports()?.[0]"
            "?.viewportStatus === 'rendered'"
        )
        assert page.url.startswith(f"{proxied.root}/viewer/viewer?StudyInstanceUIDs=")
        assert page.evaluate("crossOriginIsolated")
        page.locator("[data-cy=study-browser-thumbnail-no-image]:has-text('DOC')").dblclick()
        page.locator("object[type='application/pdf']").wait_for()
        page.wait_for_timeout(1000)
        watched.picture("behind-nginx")
        watched.close()
    assert watched.faults == []
    assert any(
        "/room/dicom-web/" in asked and "/bulkdata/" in asked for asked in watched.requests
    )

"""The viewer's files, page and settings, as a browser asks for them."""

import gzip
import hashlib

import httpx
import orjson
import pytest

from archive.viewer.adapt import REVISION, ROOT_MARK
from archive.viewer.installed import InstalledViewer, ViewerFile, encode_list
from tests.conftest import http_client, make_config, running_archive

SCRIPT = b"console.log(1);\n" * 500
FILES = {
    "index.html": f'<script src="{ROOT_MARK}app.js"></script>'.encode(),
    "app.bundle.0123456789abcdef.js": SCRIPT,
    "0ddf166f7a343eda.wasm": b"\0asm" + bytes(2000),
    "a34f9d1faa5f3315.woff2": b"font",
    "app.bundle.css": b"body{}" * 300,
    "manifest.json": b"{}",
    "ohif-logo.svg": b"<svg/>",
    "assets/favicon.ico": b"icon",
    "assets/icon.png": b"png",
    "customizations/ct.jsonc": b"{}",
    "LICENSE": b"MIT",
}
COMPRESSED = {name for name, content in FILES.items() if len(content) > 1024}


def put_viewer(folder, files=FILES):
    """Lay a small viewer down as an installation does."""
    place = folder / "ohif-0-test"
    listed = {}
    for name, content in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        if name in COMPRESSED:
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
        digest = hashlib.sha256(content).hexdigest()
        listed[name] = ViewerFile(len(content), digest, name in COMPRESSED)
    installed = InstalledViewer("0", "sha512-x", REVISION, place, listed)
    (folder / "installed.json").write_bytes(encode_list(installed))


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    config = make_config(tmp_path_factory.mktemp("viewer") / "data")
    config.viewer_folder.mkdir(parents=True)
    put_viewer(config.viewer_folder)
    (config.archive.data_dir / "secret.js").write_text("for nobody")
    (config.viewer_folder / "ohif-0-test" / "unlisted.js").write_text("for nobody")
    with running_archive(config) as archive, http_client(archive) as opened:
        root = str(opened.base_url).removesuffix("/dicom-web/")
        with httpx.Client(base_url=root, headers={"Accept-Encoding": "identity"}) as plain:
            yield plain


def settings_of(answer: httpx.Response) -> dict:
    return orjson.loads(answer.text.removeprefix("window.config = ").rstrip().rstrip(";"))


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("app.bundle.0123456789abcdef.js", "text/javascript"),
        ("0ddf166f7a343eda.wasm", "application/wasm"),
        ("a34f9d1faa5f3315.woff2", "font/woff2"),
        ("app.bundle.css", "text/css"),
        ("manifest.json", "application/json"),
        ("ohif-logo.svg", "image/svg+xml"),
        ("assets/favicon.ico", "image/x-icon"),
        ("assets/icon.png", "image/png"),
        ("customizations/ct.jsonc", "application/json"),
    ],
)
def test_each_file_has_its_bytes_and_type(name, media_type, web):
    answer = web.get(f"/viewer/{name}")
    assert answer.status_code == 200
    assert answer.content == FILES[name]
    assert answer.headers["content-type"].partition(";")[0] == media_type
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "name", ["", "app-config.js", "app.bundle.css", "0ddf166f7a343eda.wasm"]
)
def test_everything_is_isolated_so_that_volumes_can_be_made(name, web):
    headers = web.get(f"/viewer/{name}").headers
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-embedder-policy"] == "require-corp"


@pytest.mark.parametrize(
    "path",
    ["", "viewer", "viewer?StudyInstanceUIDs=1.2.3", "segmentation", "viewer/dicomweb",
     "notfoundstudy", "index.html", "local/1.2.3"],
)  # fmt: skip
def test_paths_that_only_the_script_knows_get_the_page(path, web):
    answer = web.get(f"/viewer/{path}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.text == '<script src="/viewer/app.js"></script>'
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["gone.js", "assets/gone.png", "5.bundle.0123.js", "x/y.css"])
def test_a_file_that_is_not_there_is_no_page(path, web):
    assert web.get(f"/viewer/{path}").status_code == 404


@pytest.mark.parametrize(
    "path",
    ["unlisted.js", "../installed.json", "%2e%2e/installed.json", "..%2finstalled.json",
     "../../secret.js", "%2e%2e/%2e%2e/secret.js", "assets/../unlisted.js", "installed.json",
     "app.bundle.css.gz", "..%5c..%5csecret.js", "%00unlisted.js", "//secret.js",
     "/etc/passwd.txt"],
)  # fmt: skip
def test_only_what_the_list_names_is_given(path, web):
    # httpx would tidy the path up: the bytes go out as they are.
    url = httpx.URL(str(web.base_url)).copy_with(raw_path=f"/viewer/{path}".encode())
    answer = web.send(httpx.Request("GET", url, headers={"Host": url.netloc.decode()}))
    assert "for nobody" not in answer.text
    assert answer.status_code in (400, 404)


def test_names_with_a_digest_are_kept_and_others_asked_for_again(web):
    for name in ("app.bundle.0123456789abcdef.js", "0ddf166f7a343eda.wasm"):
        assert "immutable" in web.get(f"/viewer/{name}").headers["cache-control"]
    for name in ("app.bundle.css", "app-config.js", "manifest.json", ""):
        assert web.get(f"/viewer/{name}").headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("name", ["", "app-config.js", "app.bundle.css", "assets/icon.png"])
def test_what_is_held_already_is_not_sent_again(name, web):
    first = web.get(f"/viewer/{name}")
    second = web.get(f"/viewer/{name}", headers={"If-None-Match": first.headers["etag"]})
    assert (second.status_code, second.content) == (304, b"")
    assert second.headers["etag"] == first.headers["etag"]
    assert second.headers["cache-control"] == first.headers["cache-control"]
    assert web.get(f"/viewer/{name}", headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize("name", ["", "app-config.js", "app.bundle.css", "assets/icon.png"])
@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_head_is_get_without_the_body(name, coding, web):
    asked = {"Accept-Encoding": coding}
    head = web.head(f"/viewer/{name}", headers=asked)
    got = web.get(f"/viewer/{name}", headers=asked)
    assert (head.status_code, head.content) == (200, b"")
    for header in ("content-length", "content-type", "etag", "cache-control"):
        assert head.headers[header] == got.headers[header]
    assert head.headers.get("content-encoding") == got.headers.get("content-encoding")


@pytest.mark.parametrize(
    ("accepts", "coded"),
    [("gzip", True), ("br, gzip;q=0.5", True), ("*", True), ("GZIP", True), ("br", False),
     ("gzip;q=0", False), ("gzip; q=0.000", False), ("identity", False), ("", False)],
)  # fmt: skip
def test_scripts_are_sent_compressed_to_who_takes_that(accepts, coded, web):
    answer = web.get(
        "/viewer/app.bundle.0123456789abcdef.js", headers={"Accept-Encoding": accepts}
    )
    assert answer.content == SCRIPT
    assert (answer.headers.get("content-encoding") == "gzip") is coded
    assert "accept-encoding" in answer.headers["vary"].lower()


def test_both_codings_have_a_tag_of_their_own(web):
    path = "/viewer/app.bundle.0123456789abcdef.js"
    tags = {
        web.get(path, headers={"Accept-Encoding": coding}).headers["etag"]
        for coding in ("gzip", "identity")
    }
    assert len(tags) == 2
    assert not any(tag.startswith("W/") for tag in tags)


def test_the_settings_lead_to_this_archive_by_path_alone(web):
    answer = web.get("/viewer/app-config.js")
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    settings = settings_of(answer)
    assert settings["routerBasename"] == "/viewer"
    assert settings["investigationalUseDialog"] == {"option": "never"}
    (source,) = settings["dataSources"]
    assert source["sourceName"] == settings["defaultDataSourceName"]
    roots = source["configuration"]
    assert (roots["qidoRoot"], roots["wadoRoot"], roots["wadoUriRoot"]) == (
        "/dicom-web",
        "/dicom-web",
        "/wado",
    )
    assert roots["supportsWildcard"] is True


def test_the_viewer_asks_for_what_it_decodes_and_nothing_else(web):
    settings = settings_of(web.get("/viewer/app-config.js"))
    (accept,) = settings["dataSources"][0]["configuration"]["acceptHeader"]
    asked = dict(
        reversed(part.removeprefix("multipart/related; type=").split("; transfer-syntax="))
        for part in accept.split(", ")
    )
    assert asked["1.2.840.10008.1.2.1"] == "application/octet-stream"
    assert asked["1.2.840.10008.1.2.4.80"] == "image/jls"
    # JPEG XL, video, progressive JPEG and part 2 of JPEG 2000 have no decoder there.
    for syntax in ("110", "111", "112", "102", "55", "92"):
        assert f"1.2.840.10008.1.2.4.{syntax}" not in asked
    assert "*" not in accept
    assert '"' not in accept


@pytest.mark.parametrize(
    ("prefix", "seen"),
    [
        ("/room", "/room"),
        ("/a/b/", "/a/b"),
        # What is no plain path is not believed.
        ("//elsewhere.example/x", ""),
        ('/r"><script>', ""),
        ("/r';alert(1)//", ""),
    ],
)
def test_behind_a_proxy_page_and_settings_have_its_path(prefix, seen, web):
    forwarded = {"X-Forwarded-Prefix": prefix, "X-Forwarded-Host": "example.org"}
    page = web.get("/viewer/viewer", headers=forwarded).text
    assert page == f'<script src="{seen}/viewer/app.js"></script>'
    settings = settings_of(web.get("/viewer/app-config.js", headers=forwarded))
    assert settings["routerBasename"] == f"{seen}/viewer"
    assert settings["dataSources"][0]["configuration"]["wadoRoot"] == f"{seen}/dicom-web"
    moved = web.get("/viewer?a=1", headers=forwarded)
    assert (moved.status_code, moved.headers["location"]) == (308, f"{seen}/viewer/?a=1")


def test_the_configured_public_url_gives_the_path(tmp_path):
    config = make_config(tmp_path / "data")
    place = config.archive.model_copy(update={"public_url": "https://example.org/room/"})
    config = config.model_copy(update={"archive": place})
    config.viewer_folder.mkdir(parents=True)
    put_viewer(config.viewer_folder)
    with running_archive(config) as archive, http_client(archive) as client:
        root = str(client.base_url).removesuffix("/dicom-web/")
        page = client.get(f"{root}/viewer/").text
        assert page == '<script src="/room/viewer/app.js"></script>'


def test_without_a_viewer_the_page_says_how_to_get_one(client, config):
    root = str(client.base_url).removesuffix("/dicom-web/")
    for path in ("/viewer/", "/viewer/viewer?StudyInstanceUIDs=1", "/viewer/app-config.js"):
        answer = client.get(root + path)
        assert answer.status_code == 404
        assert answer.headers["content-type"].startswith("text/html")
        assert "fileroom viewer install" in answer.text
        assert answer.headers["cache-control"] == "no-store"
    assert "fileroom viewer install" in client.get(f"{root}/").text
    # Installed while the archive runs, it is there at once; and gone again, too.
    config.viewer_folder.mkdir()
    put_viewer(config.viewer_folder)
    assert client.get(f"{root}/viewer/").status_code == 200
    assert '<a href="viewer/">' in client.get(f"{root}/").text
    put_viewer(config.viewer_folder, {**FILES, "new.css": b"new"})
    assert client.get(f"{root}/viewer/new.css").content == b"new"
    (config.viewer_folder / "installed.json").unlink()
    assert client.get(f"{root}/viewer/").status_code == 404

"""The viewer at ``/viewer/``: its files as they were installed, its page, its settings."""

import hashlib
import re
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import quote, urlsplit

import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from archive.viewer.adapt import PAGE, ROOT_MARK
from archive.viewer.installed import COMPRESSED, LIST, InstalledViewer, read_installed
from dicomweb.context import SERVICE_PATH, archive_of, root_url
from dicomweb.responses import not_modified, problem

VIEWER_PATH: Final = "/viewer"
_SETTINGS: Final = "app-config.js"
_MEDIA_TYPES: Final[Mapping[str, str]] = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".jsonc": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".webapp": "application/manifest+json",
    ".woff2": "font/woff2",
    ".xml": "application/xml",
}
# A name that holds a digest of its content never changes what it holds.
_HASHED: Final = re.compile(r"(?:^|\.)[0-9a-f]{16}\.")
_FOR_EVER: Final = "public, max-age=31536000, immutable"
_ASK_AGAIN: Final = "no-cache"
# Only a page that is isolated so gets SharedArrayBuffer, which volumes and MPR need. A worker
# of such a page must carry the second line too.
_ISOLATED: Final[Mapping[str, str]] = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}
# What the viewer decodes itself: these frames are sent as they are stored. Without this list it
# asks for any syntax, and cannot show what it is then given (JPEG XL, progressive JPEG).
_DECODED: Final = (
    ("application/octet-stream", ("1.2.840.10008.1.2.1",)),
    ("image/dicom-rle", ("1.2.840.10008.1.2.5",)),
    ("image/jpeg", tuple(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70))),
    ("image/jls", tuple(f"1.2.840.10008.1.2.4.{number}" for number in (80, 81))),
    ("image/jp2", tuple(f"1.2.840.10008.1.2.4.{number}" for number in (90, 91))),
    ("image/jphc", tuple(f"1.2.840.10008.1.2.4.{number}" for number in (201, 202, 203))),
)
_ACCEPTED: Final = ", ".join(
    # Without quotes an Accept needs no preflight from another origin.
    f"multipart/related; type={media_type}; transfer-syntax={syntax}"
    for media_type, syntaxes in _DECODED
    for syntax in syntaxes
)
_NOT_INSTALLED: Final = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>No viewer here yet</title></head>
<body style="font: 1rem/1.5 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto">
<main>
<h1>No viewer here yet</h1>
<p>The OHIF viewer is not part of Fileroom. Whoever runs this archive installs it with</p>
<pre>fileroom viewer install</pre>
<p>and it is here at once. The archive itself needs no viewer: see its <a href="{root}/">first
page</a> for the address that any DICOMweb viewer can be pointed at.</p>
</main>
</body>
</html>
"""


class _Latest:
    """The list of the viewer's files, read again when another viewer was installed."""

    def __init__(self) -> None:
        self._seen: tuple[Path, int, int] | None = None
        self._installed: InstalledViewer | None = None

    def of(self, folder: Path) -> InstalledViewer | None:
        """Return what is installed in ``folder``."""
        try:
            state = (folder / LIST).stat()
        except OSError:
            return None
        seen = (folder, state.st_ino, state.st_mtime_ns)
        if seen != self._seen:
            self._installed = read_installed(folder)
            self._seen = seen
        return self._installed


_latest: Final = _Latest()


def installed_viewer(request: Request) -> InstalledViewer | None:
    """Return the viewer that is installed, if one is."""
    return _latest.of(archive_of(request).config.viewer_folder)


def viewer_root(request: Request) -> str:
    """Return the path of the viewer as the asker's browser sees it, a slash at its end."""
    return _prefix(request) + VIEWER_PATH + "/"


def _prefix(request: Request) -> str:
    # It is written into a page and a script: nothing but a path on this host may come through.
    path = urlsplit(root_url(request)).path.strip("/")
    return "/" + quote(path, safe="/") if path else ""


def viewer_redirect(request: Request) -> Response:
    """Send who forgot the slash to the page."""
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(viewer_root(request) + query, HTTPStatus.PERMANENT_REDIRECT)


def viewer_file(request: Request) -> Response:
    """Return a file of the viewer; the page for every path that only its script knows."""
    installed = installed_viewer(request)
    if installed is None:
        page = _NOT_INSTALLED.format(root=_prefix(request))
        return HTMLResponse(page, HTTPStatus.NOT_FOUND, {"Cache-Control": "no-store"})
    name: str = request.path_params["path"]
    if name == _SETTINGS:
        return _made(request, _settings(request), _MEDIA_TYPES[".js"])
    # Only what the list names is served: a path cannot lead elsewhere.
    if name in installed.files and name != PAGE:
        return _stored(request, installed, name)
    if name == PAGE or not re.search(r"\.[A-Za-z]\w*$", name):
        page = (installed.folder / PAGE).read_text(encoding="utf-8")
        page = page.replace(ROOT_MARK, viewer_root(request))
        return _made(request, page.encode(), _MEDIA_TYPES[".html"])
    return problem(HTTPStatus.NOT_FOUND, f"the viewer has no file {name!r}")


def _stored(request: Request, installed: InstalledViewer, name: str) -> Response:
    file = installed.files[name]
    headers = {
        **_ISOLATED,
        "Cache-Control": _FOR_EVER if _HASHED.search(name) else _ASK_AGAIN,
    }
    path, tag = installed.folder / name, file.digest[:32]
    if file.compressed:
        headers["Vary"] = "Accept-Encoding"
        if _takes_gzip(request):
            headers["Content-Encoding"] = "gzip"
            path, tag = path.with_name(path.name + COMPRESSED), tag + "-gzip"
    headers["ETag"] = f'"{tag}"'
    if not_modified(request, headers["ETag"]):
        headers.pop("Content-Encoding", None)
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    media_type = _MEDIA_TYPES.get(PurePosixPath(name).suffix, "application/octet-stream")
    if request.method == "HEAD":
        headers["Content-Length"] = str(path.stat().st_size)
        return Response(headers=headers, media_type=media_type)
    return Response(path.read_bytes(), headers=headers, media_type=media_type)


def _takes_gzip(request: Request) -> bool:
    for coding in request.headers.get("accept-encoding", "").split(","):
        name, _, parameters = coding.partition(";")
        if name.strip().lower() in ("gzip", "x-gzip", "*"):
            return not re.fullmatch(r"\s*q\s*=\s*0(\.0*)?\s*", parameters)
    return False


def _made(request: Request, body: bytes, media_type: str) -> Response:
    """Answer with what depends on where the asker is."""
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {**_ISOLATED, "Cache-Control": _ASK_AGAIN, "ETag": tag}
    if not_modified(request, tag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(body, headers=headers, media_type=media_type)


def _settings(request: Request) -> bytes:
    prefix = _prefix(request)
    service = prefix + SERVICE_PATH
    source = {
        "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
        "sourceName": "dicomweb",
        "configuration": {
            "friendlyName": "Fileroom",
            "name": "fileroom",
            "qidoRoot": service,
            "wadoRoot": service,
            "wadoUriRoot": prefix + "/wado",
            "imageRendering": "wadors",
            "thumbnailRendering": "wadors",
            "enableStudyLazyLoad": True,
            # A search by part of a name is a wildcard; sounding alike would find too much.
            "supportsFuzzyMatching": False,
            "supportsWildcard": True,
            "singlepart": "bulkdata,video",
            "omitQuotationForMultipartRequest": True,
            "acceptHeader": [_ACCEPTED],
            "bulkDataURI": {"enabled": True},
        },
    }
    settings = {
        "name": "fileroom",
        "routerBasename": prefix + VIEWER_PATH,
        "extensions": [],
        "modes": [],
        "customizationService": {},
        "showStudyList": True,
        "maxNumberOfWebWorkers": 3,
        "showWarningMessageForCrossOrigin": True,
        "showCPUFallbackMessage": True,
        "showLoadingIndicator": True,
        "strictZSpacingForVolumeViewport": True,
        "groupEnabledModesFirst": True,
        "investigationalUseDialog": {"option": "never"},
        "maxNumRequests": {"interaction": 100, "thumbnail": 5, "prefetch": 25},
        "defaultDataSourceName": source["sourceName"],
        "dataSources": [source],
    }
    return b"window.config = " + orjson.dumps(settings, option=orjson.OPT_INDENT_2) + b";\n"

"""What is changed in the published viewer, so that it runs below any path.

It is built to stand at ``/`` of its host. Here it stands at ``/viewer/``, and behind a proxy
perhaps at ``/room/viewer/``. So its scripts learn the place when they run, from the page or,
in a worker, from where the worker's script came from; the page itself gets it with each answer.
"""

import re
from typing import Final

from archive.viewer.package import ViewerError

PAGE: Final = "index.html"
# Stands in the stored page for the path that it is asked for at; ends with a slash there.
ROOT_MARK: Final = "@@viewer-root@@"
# Counts changes of this file: with another number, an installed viewer is made anew.
REVISION: Final = 1

_BUNDLE_ROOT: Final = b'__webpack_require__.p = "/"'
_FOUND_ROOT: Final = (
    b'__webpack_require__.p = self.PUBLIC_URL || new URL("./", self.location.href).href'
)
_MICROSCOPY: Final = b"browserImportFunction('/dicom-microscopy-viewer/"
_FOUND_MICROSCOPY: Final = (
    b"browserImportFunction(window.PUBLIC_URL + 'dicom-microscopy-viewer/"
)
# Stops service workers that former versions started here; where there are none for want of TLS,
# it fails.
_WORKER_SCRIPT: Final = re.compile(
    rb"<script [^>]*\bsrc=\"/init-service-worker\.js\"[^>]*></script>"
)
_PAGE_PATH: Final = re.compile(rb'\b(href|src|content|PUBLIC_URL)="/(?!/)')
_STYLE_PATH: Final = re.compile(rb"url\((['\"]?)/(?!/)")
_MANIFEST_PATH: Final = re.compile(rb'"/(?!/)')

# Not served: the runtime of models that segment (142 MB, no part of viewing), what only a
# developer reads, examples of settings, what loads scripts from other hosts.
_LEFT_OUT: Final = frozenset(
    {
        "_headers",
        "_redirects",
        "app-config.js",
        "es6-shim.min.js",
        "google.js",
        "init-service-worker.js",
        "oidc-client.min.js",
        "polyfill.min.js",
        "serve.json",
        "silent-refresh.html",
        "sw.js",
    }
)


def is_wanted(name: str) -> bool:
    """Tell whether a file of the viewer, by its path below ``dist``, is served."""
    return not (name in _LEFT_OUT or name.startswith("ort/") or name.endswith(".map"))


def adapt(name: str, content: bytes) -> bytes:
    """Return a file of the viewer as it is served.

    Raises
    ------
    ViewerError
        If the page is not made as it was when this was written.
    """
    if name == PAGE:
        changed = _WORKER_SCRIPT.sub(b"", content)
        changed, count = _PAGE_PATH.subn(rb'\1="' + ROOT_MARK.encode(), changed)
        if not count:
            raise ViewerError(f"{PAGE} of this viewer names no path: it cannot be adapted")
        return changed
    if name.endswith(".js"):
        changed = content.replace(_BUNDLE_ROOT, _FOUND_ROOT)
        return changed.replace(_MICROSCOPY, _FOUND_MICROSCOPY)
    if name.endswith(".css") and "/" not in name:
        return _STYLE_PATH.sub(rb"url(\1", content)
    if name == "manifest.json":
        return _MANIFEST_PATH.sub(rb'"', content)
    return content

"""Small packages that look like the viewer's, and the checksum that names them."""

import base64
import hashlib
import io
import tarfile

import pytest

from archive.viewer.package import Package

FILES = {
    "package/LICENSE": b"MIT\n",
    "package/README.md": b"read me\n",
    "package/dist/index.html": (
        b'<script>window.PUBLIC_URL="/"</script><link href="/assets/icon.png">'
        b'<script src="/app.bundle.0123456789abcdef.js"></script>'
        b'<script rel="preload" type="module" src="/init-service-worker.js"></script>'
        b'<a href="//elsewhere.example/"></a>'
    ),
    "package/dist/app.bundle.0123456789abcdef.js": (
        b'__webpack_require__.p = "/";\n'
        b"window.browserImportFunction('/dicom-microscopy-viewer/a.min.js');\n" + b"//\n" * 900
    ),
    "package/dist/app.bundle.css": b"@font-face{src:url(/a34f9d1faa5f3315.woff2)}",
    "package/dist/a34f9d1faa5f3315.woff2": b"font",
    "package/dist/0ddf166f7a343eda.wasm": bytes(3000),
    "package/dist/manifest.json": b'{"icons": [{"src": "/assets/icon.png"}]}',
    "package/dist/assets/icon.png": b"\x89PNG",
    "package/dist/app-config.js": b"window.config = {}",
    "package/dist/app.bundle.js.map": b"{}",
    "package/dist/ort/ort.js": b"large",
    "package/dist/init-service-worker.js": b"navigator.serviceWorker",
    "package/dist/sw.js": b"importScripts('https://elsewhere.example/')",
}


def packed(folder, files=FILES, members=(), version="1.2.3"):
    """Write a package as `npm pack` does; return its path and what it must be."""
    path = folder / "package.tgz"
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in members:
            tar.addfile(member)
    digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    return path, Package("@example/viewer", version, f"sha512-{digest}")


@pytest.fixture
def package(tmp_path):
    return packed(tmp_path)

"""Azurite, Microsoft's own server of the Azure Blob protocol for one machine (npm: azurite)."""

import base64
import hashlib
import hmac
import os
import shutil
import uuid
from email.utils import formatdate
from pathlib import Path

import httpx

from tests.conftest import REPOSITORY, free_port
from tests.servers.bucket_server import BucketServer, NotInstalledError

# The account that every Azurite has, as its documentation says.
_ACCOUNT = "devstoreaccount1"
_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
_VERSION = "2023-11-03"


class Azurite(BucketServer):
    """One process; found on the path, or where `.ci/run` installs it."""

    scheme = "az"
    access_key, secret_key = _ACCOUNT, _KEY

    def __init__(self, root: Path) -> None:
        installed = REPOSITORY / ".venv" / "azurite" / "node_modules" / ".bin"
        found = shutil.which("azurite-blob", path=f"{installed}:{os.environ['PATH']}")
        if found is None:
            raise NotInstalledError("azurite-blob is not installed (npm install azurite)")
        self._program = found
        super().__init__(root, free_port())

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}/{_ACCOUNT}"

    @property
    def environment(self) -> dict[str, str]:
        """What an archive must find in its environment to use this server."""
        return {
            "AZURE_STORAGE_ACCOUNT_NAME": _ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": _KEY,
            "FILEROOM_STORAGE__ENDPOINT": self.endpoint,
            "FILEROOM_STORAGE__ALLOW_HTTP": "true",
        }

    def start(self) -> None:
        options = ("--blobHost", "127.0.0.1", "--blobPort", str(self.port))
        place = ("--location", str(self.root / "blobs"))
        # Clients may speak a protocol that is newer than what Azurite has heard of.
        self.spawn("azurite", self._program, *options, *place, "--skipApiVersionCheck")
        self.wait_for([self.port])

    def make_bucket(self, name: str | None = None) -> str:
        """Make a container; return its name."""
        name = name or f"test-{uuid.uuid4().hex[:12]}"
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": _VERSION}
        listed = "".join(f"{key}:{value}\n" for key, value in sorted(headers.items()))
        # Shared Key: eleven header fields, none of which is sent, then the resource.
        unsent = "\n" * 11
        signed = f"PUT\n{unsent}{listed}/{_ACCOUNT}/{_ACCOUNT}/{name}\nrestype:container"
        mac = hmac.new(base64.b64decode(_KEY), signed.encode(), hashlib.sha256).digest()
        headers["Authorization"] = f"SharedKey {_ACCOUNT}:{base64.b64encode(mac).decode()}"
        url = f"{self.endpoint}/{name}?restype=container"
        httpx.put(url, headers=headers, timeout=30).raise_for_status()
        return name

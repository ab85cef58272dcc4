"""Runs a command beside a server of buckets, and every archive of the tests in it.

    python -m tests.servers [--gateway] -- pytest tests/dicomweb -n 4

Each archive that the tests make gets a prefix of its own in one bucket (`tests/conftest.py`).
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.servers.bucket_server import BucketServer
from tests.servers.rados_gateway import RadosGateway
from tests.servers.swift import SwiftServer


def main() -> int:
    """Start the server, run the command, end the server; return the command's status."""
    before, _, command = " ".join(sys.argv[1:]).partition("-- ")
    kind: type[BucketServer] = RadosGateway if "--gateway" in before else SwiftServer
    with tempfile.TemporaryDirectory(prefix="fileroom-buckets-") as folder:
        server = kind(Path(folder) / "server")
        server.root.mkdir()
        try:
            server.start()
            bucket = server.make_bucket()
            store = {"TEST_BUCKET": f"s3://{bucket}"}
            return subprocess.run(
                command.split(), env=os.environ | server.environment | store, check=False
            ).returncode
        finally:
            server.stop()


if __name__ == "__main__":
    sys.exit(main())

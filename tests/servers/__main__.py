"""Runs a command beside a server of buckets, and every archive of the tests in it.

    python -m tests.servers [--gateway | --azure] -- pytest tests/dicomweb -n 4

Each archive that the tests make gets a prefix of its own in one bucket (`tests/conftest.py`).
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.servers.azurite import Azurite
from tests.servers.bucket_server import BucketServer, NotInstalledError
from tests.servers.rados_gateway import RadosGateway
from tests.servers.swift import SwiftServer


def main() -> int:
    """Start the server, run the command, end the server; return the command's status."""
    options, command = sys.argv[1 : sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1 :]
    kind: type[BucketServer] = SwiftServer
    if "--gateway" in options:
        kind = RadosGateway
    elif "--azure" in options:
        kind = Azurite
    with tempfile.TemporaryDirectory(prefix="fileroom-buckets-") as folder:
        try:
            server = kind(Path(folder) / "server")
        except NotInstalledError as error:
            sys.stderr.write(f"NOT TESTED: {error}\n")
            return 0
        server.root.mkdir()
        try:
            server.start()
            store = {"TEST_BUCKET": f"{server.scheme}://{server.make_bucket()}"}
            return subprocess.run(
                command, env=os.environ | server.environment | store, check=False
            ).returncode
        finally:
            server.stop()


if __name__ == "__main__":
    sys.exit(main())

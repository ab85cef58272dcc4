"""OpenStack Swift with its S3 interface, one node, all of it under one folder."""

import getpass
import os
import shutil
import sys
from pathlib import Path

from tests.conftest import free_port
from tests.servers.bucket_server import BucketServer, NotInstalledError

_SWIFT = """\
[swift-hash]
swift_hash_path_prefix = test
swift_hash_path_suffix = test

[storage-policy:0]
name = gold
default = yes
policy_type = replication
"""

# s3api must stand before tempauth, bulk and slo behind it: deletes and multipart need them.
_PROXY = """\
[DEFAULT]
bind_port = {port}
{common}
[pipeline:main]
pipeline = catch_errors gatekeeper {cache} s3api tempauth bulk slo proxy-server

[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true

[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{cache_port}
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:bulk]
use = egg:swift#bulk
[filter:slo]
use = egg:swift#slo
"""

_SERVER = """\
[DEFAULT]
bind_port = {port}
{common}
devices = {root}/srv
mount_check = false
disable_fallocate = true
fallocate_reserve = 0

[pipeline:main]
pipeline = {kind}-server

[app:{kind}-server]
use = egg:swift#{kind}
"""

# What `swift-ring-builder` does by nine commands.
_RINGS = """\
import sys
from swift.common.ring import RingBuilder
for named in sys.argv[2:]:
    kind, port = named.split("=")
    rings = RingBuilder(6, 1, 1)
    at = {"ip": "127.0.0.1", "port": int(port)}
    also = {f"replication_{name}": value for name, value in at.items()}
    rings.add_dev({"region": 1, "zone": 1, "device": "d1", "weight": 1} | at | also)
    rings.rebalance()
    rings.get_ring().save(f"{sys.argv[1]}/{kind}.ring.gz")
"""

_COMMON = """\
bind_ip = 127.0.0.1
user = {user}
swift_dir = {root}
workers = 0
log_level = WARNING
"""


def swift_programs() -> Path:
    """The folder of Swift's programs.

    Raises
    ------
    NotInstalledError
        If there is none.
    """
    beside = Path(sys.prefix) / "swift" / "bin"
    named = os.environ.get("TEST_SWIFT_PROGRAMS")
    for folder in filter(None, (named and Path(named), beside, Path("/usr/bin"))):
        if (folder / "swift-proxy-server").is_file():
            return folder
    raise NotInstalledError(
        f"OpenStack Swift is not installed: python3 -m venv {beside.parent} && "
        f"{beside}/pip install swift==2.38.3"
    )


class SwiftServer(BucketServer):
    """A Swift of our own; with memcached, where that is installed, twice as fast."""

    access_key = "test:tester"
    secret_key = "testing"

    def __init__(self, root: Path) -> None:
        super().__init__(root, free_port())
        self._programs = swift_programs()
        self._ports = {kind: free_port() for kind in ("account", "container", "object")}
        self._cache_port = free_port()

    def start(self) -> None:
        user = getpass.getuser()
        (self.root / "srv" / "d1").mkdir(parents=True, exist_ok=True)
        common = _COMMON.format(user=user, root=self.root)
        memcached = shutil.which("memcached")
        if memcached is not None:
            at = ("-l", "127.0.0.1", "-p", str(self._cache_port), "-U", "0")
            self.spawn("memcached", memcached, *at, "-m", "16", "-u", user)
        (self.root / "swift.conf").write_text(_SWIFT)
        (self.root / "proxy-server.conf").write_text(
            _PROXY.format(
                port=self.port,
                common=common,
                cache="cache" if memcached else "",
                cache_port=self._cache_port,
            )
        )
        for kind, port in self._ports.items():
            self._configure(kind, port, common)
        self._make_rings()
        for kind in (*self._ports, "proxy"):
            program = self._programs / f"swift-{kind}-server"
            self.spawn(kind, program, self.root / f"{kind}-server.conf", "-v")
        self.wait_for([*self._ports.values(), self.port])

    def _configure(self, kind: str, port: int, common: str) -> None:
        text = _SERVER.format(port=port, common=common, root=self.root, kind=kind)
        (self.root / f"{kind}-server.conf").write_text(text)

    def _make_rings(self) -> None:
        """Say where things lie: one place, in one process instead of nine."""
        program = "import sys\n" + _RINGS
        python = self._programs / "python3"
        ports = [f"{kind}={port}" for kind, port in self._ports.items()]
        self.run(
            python if python.exists() else "/usr/bin/python3", "-c", program, self.root, *ports
        )

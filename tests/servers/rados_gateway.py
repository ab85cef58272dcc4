"""Ceph's RADOS Gateway: one monitor, one OSD in memory, one gateway, under one folder."""

import json
import shutil
import uuid
from pathlib import Path

from tests.conftest import free_port
from tests.servers.bucket_server import BucketServer, NotInstalledError

_PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool")

# cephx throughout: without it the gateway of Ceph 16 hangs before it opens its port. Few groups
# and no manager are enough for one OSD.
_CONFIG = """\
[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{mon_port}/0
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
mon data avail warn = 1
mon data avail crit = 0
run dir = {root}
admin socket = {root}/$name.asok
log file = {root}/$name.log
crash dir = {root}
keyring = {root}/keyring
ms bind msgr1 = false
ms bind port min = {osd_port}
ms bind port max = {osd_last}
mon initial members = a
mon allow pool size one = true
mon warn on pool no redundancy = false
mon max pg per osd = 1000
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
[mon.a]
mon data = {root}/mon
[osd.0]
osd data = {root}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
osd class dir = {classes}
[client.rgw]
rgw data = {root}/rgw
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw enable usage log = false
rgw dns name =
rgw thread pool size = 32
"""

_CAPABILITIES = {
    "mon.": ("mon", "allow *"),
    "client.admin": ("mon", "allow *", "osd", "allow *", "mgr", "allow *"),
    "client.rgw": ("mon", "allow rwx", "osd", "allow rwx"),
    "osd.0": ("mon", "allow profile osd", "osd", "allow *"),
}


class RadosGateway(BucketServer):
    """A Ceph of our own; what it holds is in memory and gone when it stops."""

    access_key = "testaccess"
    secret_key = "testsecret"

    def __init__(self, root: Path) -> None:
        missing = [name for name in _PROGRAMS if shutil.which(name) is None]
        if missing:
            raise NotInstalledError(
                f"Ceph's RADOS Gateway is not installed ({', '.join(missing)}): "
                "apt-get install --no-install-recommends radosgw ceph-mon ceph-osd"
            )
        super().__init__(root, free_port())
        self._mon_port, self._osd_port = free_port(), free_port()

    def start(self) -> None:
        for name in ("mon", "osd", "rgw"):
            (self.root / name).mkdir(parents=True)
        fsid = str(uuid.uuid4())
        (self.root / "ceph.conf").write_text(
            _CONFIG.format(
                fsid=fsid,
                root=self.root,
                port=self.port,
                mon_port=self._mon_port,
                osd_port=self._osd_port,
                osd_last=self._osd_port + 60,
                classes=next(Path("/usr/lib").rglob("libcls_rgw.so*")).parent,
            )
        )
        self._make_keys()
        self._start_monitor(fsid)
        self._start_osd()
        self._spawn("rgw", "radosgw", "-n", "client.rgw", "-f")
        self.wait_for([self.port])
        keys = ("--access-key", self.access_key, "--secret", self.secret_key)
        self._run("radosgw-admin", "user", "create", "--uid=t", "--display-name=t", *keys)

    def _make_keys(self) -> None:
        keyring, new = str(self.root / "keyring"), ("--create-keyring",)
        for name, granted in _CAPABILITIES.items():
            pairs = zip(granted[::2], granted[1::2], strict=True)
            caps = [word for pair in pairs for word in ("--cap", *pair)]
            self._run("ceph-authtool", *new, keyring, "--gen-key", "-n", name, *caps)
            new = ()

    def _start_monitor(self, fsid: str) -> None:
        monmap, address = str(self.root / "monmap"), f"[v2:127.0.0.1:{self._mon_port}]"
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, monmap)
        keyring = str(self.root / "keyring")
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
        self._spawn("mon", "ceph-mon", "-i", "a", "-f")

    def _start_osd(self) -> None:
        self._run("ceph", "--connect-timeout", "60", "osd", "new", str(uuid.uuid4()))
        osds = json.loads(self._run("ceph", "osd", "dump", "-f", "json"))["osds"]
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osds[0]["uuid"])
        self._spawn("osd", "ceph-osd", "-i", "0", "-f")

    def _run(self, *command: str) -> str:
        return self.run(*command, CEPH_CONF=str(self.root / "ceph.conf"))

    def _spawn(self, name: str, *command: str) -> None:
        self.spawn(name, *command, CEPH_CONF=str(self.root / "ceph.conf"))

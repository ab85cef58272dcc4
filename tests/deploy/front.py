"""The nginx of deploy/nginx, on this machine, before nodes on this machine."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.conftest import REPOSITORY, Served, free_port, wait_until

FOLDER = REPOSITORY / "deploy" / "nginx"
_KINDS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def program() -> str:
    """Where nginx is, or the test is skipped."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip("NOT TESTED: no nginx on this machine (Debian: apt install nginx-light)")
    return found


def version() -> tuple[int, ...]:
    told = subprocess.run([program(), "-v"], capture_output=True, text=True).stderr
    return tuple(int(part) for part in told.rpartition("/")[2].split()[0].split("."))


def lay_out(place: Path, **replaced: str) -> Path:
    """Copy the configuration, with what must be other on this machine; return its file."""
    shutil.copytree(FOLDER, place, dirs_exist_ok=True)
    temporary = "".join(f"    {kind}_temp_path {place}/{kind};\n" for kind in _KINDS)
    for file in place.rglob("*.conf"):
        text = file.read_text()
        for old, new in {
            "/var/log/nginx/": f"{place}/",
            "/run/nginx.pid": f"{place}/nginx.pid",
            "\nhttp {\n": f"\nhttp {{\n{temporary}",
            **replaced,
        }.items():
            text = text.replace(old, new)
        file.write_text(text)
    settings = place / "nginx.conf"
    if os.geteuid() == 0:  # its own user may not write where tests do
        settings.write_text(f"user root;\n{settings.read_text()}")
    return settings


def checked(settings: Path) -> list[str | Path]:
    """Have nginx check its settings; return the command that runs it."""
    place = settings.parent
    command = [program(), "-c", settings, "-e", place / "error.log"]
    told = subprocess.run([*command, "-t"], capture_output=True, text=True)
    if 'unknown directive "stream"' in told.stderr:
        pytest.skip(
            "NOT TESTED: nginx has no streams here (Debian: apt install libnginx-mod-stream)"
        )
    assert told.returncode == 0, told.stderr
    assert "[warn]" not in told.stderr
    return command


@dataclass
class Front:
    """Where clients find nginx, named as `Served` names it."""

    place: Path
    http_port: int
    dicom_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"


@contextlib.contextmanager
def running(place: Path, nodes: Sequence[Served]) -> Iterator[Front]:
    """Run nginx before two nodes."""
    first, second = nodes
    front = Front(place, free_port(), free_port())
    settings = lay_out(
        place,
        **{
            "listen 80 default_server;": f"listen 127.0.0.1:{front.http_port};",
            "listen 11112 ": f"listen 127.0.0.1:{front.dicom_port} ",
            "192.0.2.11:8080": f"127.0.0.1:{first.http_port}",
            "192.0.2.12:8080": f"127.0.0.1:{second.http_port}",
            "192.0.2.21:11112": f"127.0.0.1:{first.dicom_port}",
            "192.0.2.22:11112": f"127.0.0.1:{second.dicom_port}",
        },
    )
    command = checked(settings)
    started = subprocess.Popen([*command, "-g", "daemon off;"])

    def answers() -> bool:
        assert started.poll() is None, (place / "error.log").read_text()
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{front.url}/nginx-health").status_code == 204
        return False

    try:
        wait_until(answers, what="nginx")
        yield front
    finally:
        started.terminate()
        started.wait(20)

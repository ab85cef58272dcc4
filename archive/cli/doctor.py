"""``fileroom doctor``: what is wrong with this installation, and what to do."""

import importlib.metadata
import importlib.util
import os
import secrets
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import typer
from rich.markup import escape

from archive.assembly import index_url, open_objects
from archive.auth.certificates import check_tls, read_certificate
from archive.auth.tokens import check_tokens
from archive.cli.common import (
    FOUND_FAULTS,
    ConfigOption,
    JsonOption,
    console,
    human_bytes,
    print_json,
    read_config,
)
from archive.config import Config, ConfigError
from archive.errors import ArchiveError, storage_translated
from archive.processes import running_pid
from archive.viewer.install import current, missing_files
from archive.viewer.installed import read_installed
from archive.viewer.package import OHIF
from storage.index.engine import IndexEngine
from storage.index.migrate import current_revision, latest_revision

_PACKAGES: Final = (
    "pydicom",
    "pynetdicom",
    "starlette",
    "uvicorn",
    "sqlalchemy",
    "pillow",
    "numpy",
    "pylibjpeg",
    "pylibjpeg-libjpeg",
    "pylibjpeg-openjpeg",
    "pylibjpeg-rle",
    "argon2-cffi",
    "cryptography",
    "pyjwt",
    "pyjpegls",
    "orjson",
    "zstandard",
)

_RENEW_DAYS: Final = 21


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    sound: bool
    text: str
    advice: str = ""


def doctor(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    r"""Look at everything the archive needs, and say what to do about what is wrong.

    Python, packages, decoders, the data folder and its disk, the index, the objects, the
    viewer, TLS, the ports. Changes nothing; of a bucket it writes and removes an object.

    \b
    Examples:
      fileroom doctor
      fileroom doctor --config /etc/fileroom.toml --json

    Exit status: 0 all well, 1 something needs attention, 2 settings wrong.
    """
    settings = read_config(config)
    findings = list(_findings(settings))
    if as_json:
        print_json(findings)
    else:
        for finding in findings:
            mark = "[green]ok[/green]  " if finding.sound else "[red]look[/red]"
            text = escape(f"{finding.subject}: {finding.text}")
            console.print(f"{mark}  {text}", soft_wrap=True)
            if finding.advice:
                console.print(f"        {escape(finding.advice)}", soft_wrap=True)
    if not all(finding.sound for finding in findings):
        raise typer.Exit(FOUND_FAULTS)


def _findings(config: Config) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("Python", sys.version_info >= (3, 11), version)
    yield _packages()
    codecs = importlib.util.find_spec("imagecodecs") is not None
    yield Finding(
        "Decoders",
        True,
        "with the optional ones" if codecs else "all but 12-bit JPEG, JPEG XL",
        "" if codecs else "pip install 'fileroom[codecs]' adds them",
    )
    yield _folder(config)
    yield _disk(config)
    yield _index(config)
    yield _objects(config)
    yield _viewer(config)
    yield from _tls(config)
    if config.auth.jwt_key_file:
        yield _tokens(config)
    pid = running_pid(config.archive.data_dir)
    for section, host, port in (
        ("http", config.http.host, config.http.port),
        ("dimse", config.dimse.host, config.dimse.port),
        *([("dimse", config.dimse.host, config.dimse.tls_port)] * bool(config.dimse.tls_port)),
    ):
        yield _port(section, host, port, pid)


def _packages() -> Finding:
    missing = []
    for name in _PACKAGES:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding(
            "Packages", False, f"missing: {', '.join(missing)}", "run: pip install -e ."
        )
    return Finding("Packages", True, "all there")


def _folder(config: Config) -> Finding:
    folder = config.archive.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return Finding(
            "Data folder",
            False,
            f"{folder}: {error.strerror}",
            "make it writable for this user, or set [archive] data_dir",
        )
    return Finding("Data folder", True, f"{folder}, writable")


def _disk(config: Config) -> Finding:
    free = shutil.disk_usage(config.archive.data_dir).free
    keep = config.archive.keep_free_bytes
    text = f"{human_bytes(free)} free, {human_bytes(keep)} are kept free"
    advice = "free space, or lower [archive] keep_free_bytes: nothing is accepted now"
    return Finding("Disk", free > keep, text, "" if free > keep else advice)


def _index(config: Config) -> Finding:
    if config.index.url == "sqlite" and not (config.archive.data_dir / "index.db").exists():
        return Finding("Index", True, "not made yet; the first command makes it")
    engine = IndexEngine(index_url(config))
    try:
        with storage_translated():
            revision = current_revision(engine)
    except ArchiveError as error:
        return Finding("Index", False, str(error), "check [index] url and that the server runs")
    finally:
        engine.close()
    if revision != latest_revision():
        text = f"at schema {revision or 'none'}, this version needs {latest_revision()}"
        return Finding("Index", True, text, "the next `fileroom serve` brings it there")
    return Finding("Index", True, f"at schema {revision}")


def _objects(config: Config) -> Finding:
    """Write an object, read it back and remove it, where that is not `_folder`'s to tell."""
    url = config.storage.url
    if url == "disk":
        return Finding("Objects", True, "on disk")
    key = f"probe/{secrets.token_hex(8)}"
    try:
        objects = open_objects(config).uncached()
        with storage_translated():
            objects.require_ready()
            objects.put(key, key.encode())
            try:
                came_back = objects.read(key, 0, 100)
            finally:
                objects.delete(key)
                objects.forget([key])
    except ArchiveError as error:
        return Finding("Objects", False, str(error), "see docs/object-storage.md")
    if came_back != key.encode():
        return Finding("Objects", False, f"{url} gives other bytes than it was given")
    return Finding("Objects", True, f"{url}, written and read")


def _viewer(config: Config) -> Finding:
    found = read_installed(config.viewer_folder)
    if found is None:
        return Finding("Viewer", True, "not installed", "`fileroom viewer install` fetches it")
    advice = "run: fileroom viewer install"
    if missing := missing_files(found):
        text = f"OHIF {found.version}, {len(missing)} files are gone or cut, e.g. {missing[0]}"
        return Finding("Viewer", False, text, advice)
    if current(config.viewer_folder) is None:
        text = f"OHIF {found.version}; this version of Fileroom goes with {OHIF.version}"
        return Finding("Viewer", True, text, advice)
    return Finding("Viewer", True, f"OHIF {found.version}, whole")


def _tls(config: Config) -> Iterator[Finding]:
    settings = config.dimse
    try:
        check_tls(settings)
        if not settings.tls_certificate:
            yield Finding("TLS", True, "off")
            return
        certificate = read_certificate(settings)
    except ConfigError as error:
        yield Finding("TLS", False, str(error), "`fileroom serve` does not start like this")
        return
    days = certificate.days_left
    text = f"{certificate.subject}, {days} days left" if days >= 0 else "it has expired"
    advice = "" if days >= _RENEW_DAYS else "renew it: a new file is taken without a restart"
    yield Finding("TLS certificate", days >= _RENEW_DAYS, text, advice)
    key = Path(settings.tls_key or settings.tls_certificate)
    if key.stat().st_mode & stat.S_IROTH:
        yield Finding("TLS key", False, f"everyone may read {key}", f"chmod o-rwx {key}")


def _tokens(config: Config) -> Finding:
    try:
        check_tokens(config.auth)
    except ConfigError as error:
        return Finding("Tokens", False, str(error), "`fileroom serve` does not start like this")
    return Finding("Tokens", True, ", ".join(config.auth.jwt_algorithms))


def _port(section: str, host: str, port: int, pid: int | None) -> Finding:
    subject = f"Port [{section}] {host}:{port}"
    if pid is not None:
        return Finding(subject, True, f"the archive runs (process {pid})")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            advice = f"set [{section}] port to a free one, or stop what uses it"
            return Finding(subject, False, str(error.strerror), advice)
    return Finding(subject, True, "free")

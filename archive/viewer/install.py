"""Makes a viewer that can be served from its package, or removes it; all or nothing."""

import contextlib
import fcntl
import gzip
import hashlib
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from archive.viewer.adapt import PAGE, REVISION, adapt, is_wanted
from archive.viewer.installed import (
    COMPRESSED,
    LIST,
    PREFIX,
    InstalledViewer,
    ViewerFile,
    encode_list,
    read_installed,
)
from archive.viewer.package import OHIF, Package, ViewerError, check_integrity

_DIST: Final = "package/dist/"
_LICENCE: Final = "package/LICENSE"
_WORTH_COMPRESSING: Final = (".js", ".css", ".wasm", ".svg", ".json", ".jsonc", ".html", ".xml")
_LEAST_COMPRESSED_BYTES: Final = 1024

Progress = Callable[[str, int], None]


def current(folder: Path, package: Package = OHIF) -> InstalledViewer | None:
    """Return what is installed in ``folder``, if it is this package, adapted as now, whole."""
    found = read_installed(folder)
    if found is None or (found.integrity, found.revision) != (package.integrity, REVISION):
        return None
    return found if not missing_files(found) else None


def missing_files(installed: InstalledViewer) -> list[str]:
    """Return the files of an installed viewer that are gone or have another length."""
    return [
        name
        for name, file in installed.files.items()
        if _size(installed.folder / name) != file.size_bytes
    ]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def install(
    packed: Path, folder: Path, *, package: Package = OHIF, progress: Progress | None = None
) -> InstalledViewer:
    """Install the viewer from its packed file, in place of the one that is there.

    The old one is served until the new one is whole; an interrupted installation leaves it
    as it was.

    Parameters
    ----------
    packed
        What `npm pack` made.
    folder
        Where it goes; made if it is not there.
    package
        What ``packed`` must be.
    progress
        Called with the name and length of each file that was unpacked.

    Raises
    ------
    ViewerError
        If the file is another one, or cannot be unpacked there.
    """
    check_integrity(packed, package)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            place = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{package.version}-", dir=folder))
            try:
                return _install(packed, place, package, progress)
            except BaseException:
                shutil.rmtree(place, ignore_errors=True)
                raise
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ViewerError(f"{packed} cannot be unpacked: {error}") from error
    except OSError as error:
        raise ViewerError(
            f"the viewer cannot be written to {folder}: {error.strerror}. Make it writable, "
            "or set [viewer] folder to another place"
        ) from error


def _install(
    packed: Path, place: Path, package: Package, progress: Progress | None
) -> InstalledViewer:
    files = {}
    for name, content in _members(packed):
        files[name] = _write(place, name, adapt(name, content))
        if progress is not None:
            progress(name, len(content))
    if PAGE not in files:
        raise ViewerError(f"{packed} holds no {_DIST}{PAGE}: it is no prebuilt viewer")
    place.chmod(0o755)
    installed = InstalledViewer(package.version, package.integrity, REVISION, place, files)
    _write_list(installed)
    _remove_others(place)
    return installed


def _members(packed: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(packed, "r:gz") as tar:
        for member in tar:
            name = "LICENSE" if member.name == _LICENCE else member.name.removeprefix(_DIST)
            if name == member.name or not is_wanted(name):
                continue
            file = tar.extractfile(member) if member.isreg() else None
            if file is not None:
                yield _checked(name), file.read()


def _checked(name: str) -> str:
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or "/".join(parts) != name or "\\" in name or "\0" in name:
        raise ViewerError(f"the package names a file {name!r}: nothing of it was installed")
    return name


def _write(place: Path, name: str, content: bytes) -> ViewerFile:
    path = place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    worth = len(content) >= _LEAST_COMPRESSED_BYTES and name.endswith(_WORTH_COMPRESSING)
    # The page is written anew for each answer.
    if worth and name != PAGE:
        path.with_name(path.name + COMPRESSED).write_bytes(gzip.compress(content, 6, mtime=0))
    digest = hashlib.sha256(content).hexdigest()
    return ViewerFile(len(content), digest, worth and name != PAGE)


def _write_list(installed: InstalledViewer) -> None:
    folder = installed.folder.parent
    part = folder / f"{LIST}.part"
    part.write_bytes(encode_list(installed))
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.rename(folder / LIST)


def _remove_others(kept: Path) -> None:
    for other in kept.parent.glob(f"{PREFIX}*"):
        if other != kept:
            shutil.rmtree(other, ignore_errors=True)


def remove(folder: Path) -> bool:
    """Remove the viewer; tell whether there was one.

    Raises
    ------
    ViewerError
        If it cannot be removed.
    """
    if not folder.is_dir():
        return False
    try:
        with _alone(folder):
            there = (folder / LIST).exists()
            (folder / LIST).unlink(missing_ok=True)
            for place in folder.glob(f"{PREFIX}*"):
                shutil.rmtree(place)
    except OSError as error:
        raise ViewerError(f"{folder} cannot be removed: {error.strerror}") from error
    with contextlib.suppress(OSError):
        folder.rmdir()  # what somebody else put there stays
    return there


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second installation out for as long as this one takes."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

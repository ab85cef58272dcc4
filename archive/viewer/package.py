"""Which viewer it is, and how its package is fetched and checked."""

import base64
import hashlib
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TIMEOUT_S: Final = 600
_CHUNK_BYTES: Final = 1024 * 1024


class ViewerError(Exception):
    """The viewer cannot be installed; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Package:
    """One published version of a viewer.

    Parameters
    ----------
    name, version
        As in the registry of npm.
    integrity
        Its checksum there (Subresource Integrity): ``sha512-`` and base64.
    """

    name: str
    version: str
    integrity: str

    @property
    def spec(self) -> str:
        """What npm is asked for."""
        return f"{self.name}@{self.version}"


# A newer version is taken after `tests/interop/test_ohif.py` has passed with it.
OHIF: Final = Package(
    "@ohif/app",
    "3.13.2",
    "sha512-WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA==",
)


def fetch(package: Package, folder: Path) -> Path:
    """Fetch a package with npm, from whichever registry this machine's npm is set to.

    Parameters
    ----------
    package
        What to fetch.
    folder
        Where the packed file goes.

    Raises
    ------
    ViewerError
        If npm is not there, or does not get it.
    """
    otherwise = (
        f"or run `npm pack {package.spec}` where it works, and give the file that it makes: "
        "`fileroom viewer install --file FILE`"
    )
    npm = shutil.which("npm")
    if npm is None:
        raise ViewerError(f"npm is not here to fetch {package.spec}: install it, {otherwise}")
    command = [npm, "pack", package.spec, "--ignore-scripts", "--pack-destination", "."]
    try:
        ended = subprocess.run(  # noqa: S603 - nothing in it comes from outside
            command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise ViewerError(
            f"npm did not fetch {package.spec} within {_TIMEOUT_S} s: try again, {otherwise}"
        ) from None
    packed = next(folder.glob("*.tgz"), None)
    if ended.returncode != 0 or packed is None:
        said = "; ".join(_complaints(ended.stderr)) or "npm said nothing"
        raise ViewerError(
            f"npm could not fetch {package.spec} ({said}): check the network and "
            f"`npm config get registry`, {otherwise}"
        )
    return packed


def _complaints(text: str) -> list[str]:
    """Return what npm says is wrong, without its own name before each line."""
    told = [
        line.split(maxsplit=2)[-1]
        for line in text.splitlines()
        if line.lower().startswith("npm err") and "complete log" not in line
    ]
    return told[:3]


def check_integrity(packed: Path, package: Package) -> None:
    """Check that a file is the package that it should be.

    Raises
    ------
    ViewerError
        If it cannot be read, or is anything else.
    """
    digest = hashlib.sha512()
    try:
        with packed.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise ViewerError(f"{packed} cannot be read: {error.strerror}") from error
    found = "sha512-" + base64.b64encode(digest.digest()).decode()
    if found != package.integrity:
        raise ViewerError(
            f"{packed} is not {package.spec}, or was altered: its checksum is {found}, "
            f"expected {package.integrity}. Nothing was installed; fetch it anew with "
            f"`npm pack {package.spec}`"
        )

"""The viewer that is installed: the list of its files, and where they lie.

::

    viewer/
    ├── installed.json          the list; what it does not name is not served
    └── ohif-3.13.2-k3j2/       the files, and beside many of them the same, compressed
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

LIST: Final = "installed.json"
PREFIX: Final = "ohif-"
COMPRESSED: Final = ".gz"


@dataclass(frozen=True, slots=True)
class ViewerFile:
    """One file of the viewer.

    Parameters
    ----------
    size_bytes
        Its length.
    digest
        SHA-256, in hexadecimal.
    compressed
        Whether it also lies there compressed, under its name and ``.gz``.
    """

    size_bytes: int
    digest: str
    compressed: bool


@dataclass(frozen=True, slots=True)
class InstalledViewer:
    """A viewer that is installed.

    Parameters
    ----------
    version, integrity, revision
        Which package it was made of, and how it was adapted.
    folder
        Where its files lie.
    files
        Every file, by its path below ``folder``.
    """

    version: str
    integrity: str
    revision: int
    folder: Path
    files: Mapping[str, ViewerFile]

    @property
    def size_bytes(self) -> int:
        """Length of all its files together, the compressed ones not counted."""
        return sum(file.size_bytes for file in self.files.values())


def read_installed(folder: Path) -> InstalledViewer | None:
    """Return the viewer that is installed in ``folder``; None if there is none."""
    try:
        record = orjson.loads((folder / LIST).read_bytes())
        return InstalledViewer(
            version=record["version"],
            integrity=record["integrity"],
            revision=record["revision"],
            folder=folder / record["folder"],
            files={name: ViewerFile(*values) for name, values in record["files"].items()},
        )
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
        return None


def encode_list(installed: InstalledViewer) -> bytes:
    """Return the list of an installed viewer as it is written."""
    record = {
        "version": installed.version,
        "integrity": installed.integrity,
        "revision": installed.revision,
        "folder": installed.folder.name,
        "files": {
            name: [file.size_bytes, file.digest, file.compressed]
            for name, file in sorted(installed.files.items())
        },
    }
    return orjson.dumps(record, option=orjson.OPT_INDENT_2) + b"\n"

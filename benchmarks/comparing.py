"""Two archives compared: rows of their indexes, digests of their objects, their answers.

Nothing of the archive's own code reads the two sides: what migrated them is not to be its own
witness.
"""

import hashlib
import http.client
import json
import re
import sqlite3
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg

# Of SQLite alone: text found by trigrams, studies of each day; and which migrations were run.
_NOT_COMPARED: Final = re.compile(r"sqlite_|study_text|study_day|alembic_version")
_JSON: Final = "application/dicom+json"
_INSTANCES: Final = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_FRAMES: Final = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
_SEARCHES: Final = (
    "/studies?limit=100", "/studies?limit=100&offset=100", "/studies?PatientID=M0000*",
    "/studies?ModalitiesInStudy=CT&limit=500", "/studies?ModalitiesInStudy=US&limit=500",
    "/studies?PatientName=*a*&limit=500", "/studies?PatientName=c*&limit=500",
    "/studies?StudyDate=19900101-20151231&limit=500", "/studies?KVP=120&limit=500",
    "/studies?StudyDescription=*e*&includefield=all&limit=500",
    "/series?Modality=CT&limit=500", "/series?ManufacturerModelName=*o*&limit=500",
    "/instances?SliceThickness=5&limit=500", "/instances?limit=1000&includefield=all",
    "/studies?PatientName=Test&fuzzymatching=true&limit=500",
)  # fmt: skip

Rows = dict[str, list[tuple[Any, ...]]]


# -- rows --------------------------------------------------------------------------------------


def index_rows(place: Path | str) -> Rows:
    """Return every row of every table of an index, in the order of their keys."""
    if isinstance(place, Path):
        with sqlite3.connect(f"file:{place}?mode=ro", uri=True) as connection:
            return _all_rows(connection, _sqlite_tables(connection))
    with psycopg.connect(place) as connection:
        return _all_rows(connection, _postgres_tables(connection))


def _sqlite_tables(connection: Any) -> dict[str, list[str]]:
    names = [
        name
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        if not _NOT_COMPARED.match(name)
    ]
    return {
        name: sorted(row[1] for row in connection.execute(f"PRAGMA table_info({name})"))
        for name in names
    }


def _postgres_tables(connection: Any) -> dict[str, list[str]]:
    tables: dict[str, list[str]] = {}
    for name, column in connection.execute(
        "SELECT table_name, column_name FROM information_schema.columns"
        " JOIN information_schema.tables USING (table_name, table_schema)"
        " WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
    ):
        if not _NOT_COMPARED.match(name):
            tables.setdefault(name, []).append(column)
    return {name: sorted(columns) for name, columns in tables.items()}


def _all_rows(connection: Any, tables: dict[str, list[str]]) -> Rows:
    found: Rows = {}
    for name, columns in tables.items():
        quoted = ", ".join(f'"{column}"' for column in columns)
        rows = connection.execute(f"SELECT {quoted} FROM {name}").fetchall()
        found[f"{name} ({quoted})"] = sorted(
            (tuple(map(_plain, row)) for row in rows), key=repr
        )
    return dict(sorted(found.items()))


def _plain(value: Any) -> Any:
    """Return a value as both databases can have it: SQLite has no truth values."""
    return int(value) if isinstance(value, bool) else value


def differing(first: Rows, second: Rows) -> list[str]:
    """Return what differs between two indexes, in words; nothing when every row is the same."""
    found = [f"only one has {name}" for name in first.keys() ^ second.keys()]
    for name in first.keys() & second.keys():
        count = sum(a != b for a, b in zip(first[name], second[name], strict=False))
        count += abs(len(first[name]) - len(second[name]))
        if count:
            found.append(f"{name}: {count} rows of {len(first[name])}")
    return found


# -- objects -----------------------------------------------------------------------------------


def disk_digests(data_dir: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of an archive's object store, by key."""
    return {
        path.relative_to(data_dir).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in ("objects", "sources", "ledger")
        for path in sorted((data_dir / folder).rglob("*"))
        if path.is_file()
    }


def bucket_digests(url: str, **settings: Any) -> dict[str, str]:
    """Return the SHA-256 of every object below ``url``, by key, read whole from the server."""
    import obstore
    from obstore.store import from_url

    store = from_url(url, **settings)
    return {
        item["path"]: hashlib.sha256(obstore.get(store, item["path"]).bytes()).hexdigest()
        for page in obstore.list(store)
        for item in page
    }


# -- answers -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What came back: status, media type and the digest of its body."""

    status: int
    media_type: str
    digest: str


def answers(url: str, *, rendered_every: int = 50) -> dict[str, Answer]:
    """Ask an archive for everything it has, by QIDO-RS and WADO-RS.

    Searches of all kinds; of each study its series, instances and metadata; of each instance
    the object and the first frame, and of some a picture.
    """
    where = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=120)
    found: dict[str, Answer] = {}

    def ask(path: str, accept: str) -> bytes:
        connection.request("GET", f"/dicom-web{path}", headers={"Accept": accept})
        response = connection.getresponse()
        kind, _, boundary = response.headers["Content-Type"].partition("; boundary=")
        # A boundary is another one each time.
        body = response.read()
        told = body.replace(boundary.strip('"').encode(), b"-") if boundary else body
        found[f"{path} {accept}"] = Answer(
            response.status, kind, hashlib.sha256(told).hexdigest()
        )
        return body

    for path in _SEARCHES:
        ask(path, _JSON)
    for study in _studies(ask):
        ask(f"/studies/{study}/metadata", _JSON)
        ask(f"/studies/{study}/series", _JSON)
        for item in json.loads(ask(f"/studies/{study}/instances?includefield=all", _JSON)):
            series, sop = item["0020000E"]["Value"][0], item["00080018"]["Value"][0]
            path = f"/studies/{study}/series/{series}/instances/{sop}"
            ask(path, _INSTANCES)
            if "00280010" in item:
                ask(f"{path}/frames/1", _FRAMES)
                if len(found) % rendered_every < 3:
                    ask(f"{path}/rendered", "image/png")
    connection.close()
    return found


def _studies(ask: Any) -> Iterator[str]:
    offset = 0
    while page := ask(f"/studies?limit=200&offset={offset}", _JSON):
        studies = json.loads(page)
        yield from (study["0020000D"]["Value"][0] for study in studies)
        offset += len(studies)
        if len(studies) < 200:
            return


def differing_answers(first: dict[str, Answer], second: dict[str, Answer]) -> list[str]:
    """Return the requests that were answered otherwise, or only asked once."""
    return sorted(
        f"{name}: {first.get(name)}, {second.get(name)}"
        for name in first.keys() | second.keys()
        if first.get(name) != second.get(name)
    )

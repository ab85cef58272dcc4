"""Exported tables, read by DuckDB: what the archive answers otherwise, and nothing else."""

import json
from datetime import date, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet
import pytest
import zstandard
from obstore.store import MemoryStore

from archive.auth.principal import ANONYMOUS, OPERATOR
from archive.config import IndexSection
from archive.errors import InvalidRequestError
from archive.export import writer as writing
from archive.export.destination import BucketDestination, FolderDestination
from archive.export.service import TableExport
from archive.export.writer import TableWriter
from archive.identity import InstanceRef, StudyRef
from benchmarks.filling import fill
from storage.index.engine import IndexEngine
from storage.index.scope import Scope
from storage.index.tabulation import Tabulation
from tests.builders import dataset, part10
from tests.conftest import http_client, make_config, object_files, running_archive, store

URL = "https://room.example/archive"
SHARED = {
    "00080060": "Modality",
    "0020000D": "StudyInstanceUID",
    "00080070": "Manufacturer",
    "00200011": "SeriesNumber",
}
EVERYTHING = Scope(collections=None, partitions=None)


@pytest.fixture(scope="module")
def archive(tmp_path_factory, wheel_files):
    with running_archive(make_config(tmp_path_factory.mktemp("tables") / "data")) as opened:
        for path in wheel_files:
            try:
                store(opened, path)
            except Exception:
                continue  # some are no whole instances
        yield opened


@pytest.fixture(scope="module")
def report(archive, tmp_path_factory):
    place = FolderDestination(tmp_path_factory.mktemp("export"))
    return TableExport(archive.engine, URL).run(OPERATOR, place)


@pytest.fixture(scope="module")
def tables(report):
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    for name in ("series", "instances"):
        connection.execute(
            f"CREATE VIEW {name} AS SELECT * FROM read_parquet("
            f"'{report.place}/{name}/**/*.parquet', hive_partitioning = true)"
        )
    yield connection
    connection.close()


def rows(tables, query: str) -> list[dict]:
    found = tables.execute(query)
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def test_every_instance_is_there_with_what_the_index_knows(archive, tables, report):
    stored = {
        one.sop_instance_uid: one
        for one in archive.retrieve.instances(OPERATOR, studies(archive))
    }
    found = {row["SOPInstanceUID"]: row for row in rows(tables, "SELECT * FROM instances")}
    assert found.keys() == stored.keys()
    assert len(found) == report.instances > 40
    for uid, row in found.items():
        one = stored[uid]
        assert row["sha256"] == one.digest.hex()
        assert row["size_bytes"] == one.size_bytes
        assert row["object_key"] == one.object_key
        assert row["transfer_syntax_uid"] == one.transfer_syntax_uid
        assert row["received_at"] == one.received_at
        assert row["SeriesInstanceUID"] == one.series_instance_uid
        assert row["retrieve_url"] == (
            f"{URL}/dicom-web/studies/{one.study_instance_uid}/series/{one.series_instance_uid}"
            f"/instances/{uid}"
        )


def studies(archive) -> list[StudyRef]:
    with Tabulation.at_one_moment(archive.engine, EVERYTHING) as index:
        return [StudyRef(study.study_instance_uid) for study in index.studies()]


def test_series_are_what_a_search_answers(archive, tables):
    with http_client(archive) as client:
        answered = client.get("/series", params={"limit": 500, "includefield": "all"}).json()
    found = {row["SeriesInstanceUID"]: row for row in rows(tables, "SELECT * FROM series")}
    assert len(found) == len(answered)
    for match in answered:
        row = found[match["0020000E"]["Value"][0]]
        assert row["number_of_instances"] == match["00201209"]["Value"][0]
        for tag, name in SHARED.items():
            values = match.get(tag, {}).get("Value") or [None]
            assert row[name] in (values[0], None)
            assert (
                row[name] is not None or values == [None] or name in row["varying_attributes"]
            )


def test_every_value_of_every_header_is_in_a_column_or_beside_the_columns(archive, tables):
    described = {
        field.metadata[b"tag"].decode(): field.name
        for field in pa.parquet.read_schema(next(files(tables, "instances")))
        if b"tag" in field.metadata
    }
    found = {row["SOPInstanceUID"]: row for row in rows(tables, "SELECT * FROM instances")}
    checked = 0
    for stored, metadata in headers(archive):
        row = found[stored]
        other = json.loads(row["other_attributes"] or "{}")
        for tag, element in metadata.items():
            values = element.get("Value")
            if not values or values == [None]:
                continue
            checked += 1
            name = described.get(tag)
            if name is None or row[name] is None:
                assert other[tag] == element, (stored, tag)
            else:
                same(row[name], values)
    assert checked > 2000


def headers(archive):
    with Tabulation.at_one_moment(archive.engine, EVERYTHING) as index:
        for series in index.series([study.id for study in index.studies()]):
            for row in index.instances([series.id]):
                yield row.sop_instance_uid, json.loads(zstandard.decompress(row.metadata))


def same(kept, values: list) -> None:
    listed = kept if isinstance(kept, list) else [kept]
    if isinstance(kept, str) and isinstance(values[0], dict) and kept.startswith("["):
        assert json.loads(kept) == values
        return
    assert len(listed) == len(values)
    for one, value in zip(listed, values, strict=True):
        if isinstance(value, dict):
            assert one.split("=")[0] == value.get("Alphabetic", "")
        elif isinstance(one, date) and not isinstance(one, datetime):
            assert one.strftime("%Y%m%d") == value.replace(".", "")
        elif isinstance(one, datetime) or hasattr(one, "hour"):
            assert value.replace(":", "").split(".")[0] in one.strftime("%Y%m%d%H%M%S")
        else:
            assert one == value


def files(tables, name: str):
    (sql,) = tables.execute(
        "SELECT sql FROM duckdb_views() WHERE view_name = ?", [name]
    ).fetchone()
    folder = Path(sql.split("'")[1].partition("/**")[0])
    return iter(sorted(folder.rglob("*.parquet")))


def test_partitions_are_collection_and_year(tables, report):
    years = {
        row["study_year"] for row in rows(tables, "SELECT DISTINCT study_year FROM series")
    }
    assert {1997, 2004, None} <= years
    counted = rows(
        tables, "SELECT count(*) AS n FROM series WHERE study_year = year(StudyDate)"
    )
    undated = rows(tables, "SELECT count(*) AS n FROM series WHERE study_year IS NULL")
    assert counted[0]["n"] + undated[0]["n"] == report.series
    assert rows(tables, "SELECT DISTINCT collection FROM series") == [{"collection": "default"}]


def test_files_say_what_their_columns_mean(tables, report):
    for path in files(tables, "series"):
        told = json.loads(pa.parquet.read_schema(path).metadata[b"fileroom"])
        assert told["change"] == report.change
        columns = {column["name"]: column for column in told["columns"]}
        assert columns["StudyDate"]["type"] == "date32[day]"
        assert columns["StudyDate"]["tag"] == "00080020"
        assert columns["retrieve_url"]["description"]
        assert "SOPInstanceUID" not in columns


def test_the_manifest_lists_every_file(report):
    manifest = json.loads((Path(report.place) / "_manifest.json").read_bytes())
    listed = {
        file["path"]: file["size_bytes"]
        for of in manifest["datasets"].values()
        for file in of["files"]
    }
    place = Path(report.place)
    assert listed == {
        str(path.relative_to(place)): path.stat().st_size for path in place.rglob("*.parquet")
    }
    assert json.loads((place.parent / "latest.json").read_bytes())["export"] == place.name


# -- one moment, one whole ---------------------------------------------------------------------


@pytest.fixture
def small(tmp_path):
    with running_archive(make_config(tmp_path / "data")) as opened:
        for study in ("1.2.1", "1.2.2"):
            for number in (1, 2):
                made = dataset(study, f"{study}.1", f"{study}.1.{number}", StudyDate="20240102")
                store(opened, part10(made))
        yield opened


def counted(place: str) -> int:
    with duckdb.connect() as connection:
        query = f"SELECT count(*) FROM '{place}/instances/**/*.parquet'"
        return connection.execute(query).fetchone()[0]


def test_an_export_that_nothing_has_changed_since_is_not_written_again(small, tmp_path):
    export, place = TableExport(small.engine, ""), FolderDestination(tmp_path / "out")
    first = export.run(OPERATOR, place)
    assert first.is_new
    assert first.instances == counted(first.place) == 4
    again = export.run(OPERATOR, place)
    assert not again.is_new
    assert again.place == first.place
    with pytest.raises(InvalidRequestError, match="somewhere else"):
        export.run(OPERATOR, place, studies=frozenset({"1.2.1"}), selection=["PatientID=P"])
    store(small, part10(dataset("1.2.3", "1.2.3.1", "1.2.3.1.1", PatientComments="new")))
    later = export.run(OPERATOR, place)
    assert later.is_new
    assert counted(later.place) == 5
    assert counted(first.place) == 4


def test_what_is_deleted_or_not_to_be_seen_is_not_exported(small, tmp_path):
    small.lifecycle.delete(OPERATOR, InstanceRef("1.2.1", "1.2.1.1", "1.2.1.1.2"), reason="")
    export = TableExport(small.engine, "")
    assert export.run(OPERATOR, FolderDestination(tmp_path / "a")).instances == 3
    unseeing = Scope(collections=frozenset({"other"}), partitions=None)
    stranger = type(ANONYMOUS)("stranger", "", ANONYMOUS.rights, unseeing)
    assert export.run(stranger, FolderDestination(tmp_path / "b")).instances == 0


class Broken(FolderDestination):
    """A disk that is full after a few files."""

    def open(self, path):
        if path.startswith("instances"):
            raise OSError(28, "No space left on device")
        return super().open(path)


def test_an_export_that_failed_is_no_export_and_in_nobodys_way(small, tmp_path):
    export = TableExport(small.engine, "")
    with pytest.raises(Exception, match="No space left"):
        export.run(OPERATOR, Broken(tmp_path / "out"))
    assert list((tmp_path / "out").glob("[!.]*")) == []
    assert export.run(OPERATOR, FolderDestination(tmp_path / "out")).is_new
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "change-000000000004", "latest.json",
    ]  # fmt: skip


def test_a_bucket_gets_the_same_tables_and_the_manifest_last(small, tmp_path):
    bucket = MemoryStore()
    export = TableExport(small.engine, "")
    bucket.put("change-000000000004/instances/left.parquet", b"of an attempt that failed")
    report = export.run(OPERATOR, BucketDestination("s3://bucket/tables", bucket))
    assert report.place == "s3://bucket/tables/change-000000000004"
    folder = Path(export.run(OPERATOR, FolderDestination(tmp_path / "out")).place)
    written = {found["path"]: found for page in bucket.list() for found in page}
    name = folder.name
    assert set(written) == {"latest.json"} | {
        f"{name}/{path.relative_to(folder)}" for path in folder.rglob("*") if path.is_file()
    }
    for path in folder.rglob("*.parquet"):
        body = bytes(bucket.get(f"{name}/{path.relative_to(folder)}").bytes())
        assert pa.parquet.read_table(pa.BufferReader(body)).equals(
            pa.parquet.read_table(path, partitioning=None)
        )
    latest = max(written.values(), key=lambda found: found["last_modified"])
    assert latest["path"] in ("latest.json", f"{name}/_manifest.json")


@pytest.mark.postgresql
def test_postgresql_gives_the_same_tables(small, tmp_path, postgres_url):
    config = make_config(tmp_path / "other", index=IndexSection(url=postgres_url))
    places = []
    with running_archive(config) as other:
        for path in sorted(object_files(tmp_path / "data")):
            store(other, path)
        for number, opened in enumerate((small, other)):
            place = FolderDestination(tmp_path / str(number))
            places.append(TableExport(opened.engine, URL).run(OPERATOR, place).place)
    differs = "lambda c: c NOT IN ('received_at', 'change', 'object_key')"
    query = f"SELECT COLUMNS({differs}) FROM '{{}}/{{}}/**/*.parquet' ORDER BY ALL"
    with duckdb.connect() as connection:
        for table in ("series", "instances"):
            here, there = (
                connection.execute(query.format(place, table)).fetchall() for place in places
            )
            assert here == there
            assert here


def test_rows_go_out_in_groups_and_files_of_bounded_size(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_MOST_ROWS", 100)
    place = FolderDestination(tmp_path)
    place.begin("x")
    written = TableWriter(
        place, "t", pa.schema([("n", pa.int64()), ("text", pa.string())]), file_bytes=3000
    )
    for number in range(1050):
        text = {"text": f"{number:050d}"} if number % 2 else {}
        written.add({"n": number} | text, 10)
    written.add({}, 200_000_000)  # heavy: goes out at once
    written.add({"n": -1}, 1)
    written.close()
    place.finish(b"{}")
    sizes = []
    for file in written.files:
        opened = pa.parquet.ParquetFile(tmp_path / "x" / file.path)
        assert opened.metadata.num_rows == file.rows
        sizes += [opened.metadata.row_group(n).num_rows for n in range(opened.num_row_groups)]
    assert len(written.files) > 1
    assert sizes == [100] * 10 + [51, 1]
    table = pa.parquet.read_table([tmp_path / "x" / file.path for file in written.files])
    assert table["n"].to_pylist() == [*range(1050), None, -1]


def test_all_tags_of_an_index_are_found(tmp_path):
    fill(tmp_path / "index.db", 50)
    engine = IndexEngine(f"sqlite:///{tmp_path / 'index.db'}")
    with Tabulation.at_one_moment(engine, EVERYTHING) as index:
        found = list(index.tags())
    with engine.read() as connection:
        paths = connection.exec_driver_sql("SELECT DISTINCT path FROM term").scalars()
        tags = sorted({path[:8] for path in paths if not path.startswith("~")})
    engine.close()
    assert found == tags
    assert len(tags) > 10

"""`fileroom export --parquet`, as an operator calls it."""

import duckdb
import pytest

from tests.builders import dataset, part10


def fill(program, tmp_path) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    for study, modality in (("1.2.1", "CT"), ("1.2.2", "MR")):
        made = dataset(study, f"{study}.1", f"{study}.1.1", Modality=modality)
        (folder / f"{study}.dcm").write_bytes(part10(made))
    assert program.run("import", str(folder)).exit_code == 0


def modalities(place: str) -> list[str]:
    query = f"SELECT Modality FROM '{place}/series/**/*.parquet' ORDER BY 1"
    with duckdb.connect() as connection:
        return [row[0] for row in connection.execute(query).fetchall()]


def test_tables_are_written_and_said_where(program, tmp_path):
    fill(program, tmp_path)
    report = program.report("export", "--parquet", "out")
    assert modalities(report["place"]) == ["CT", "MR"]
    assert report["instances"] == 2
    ended = program.run("export", "--parquet", "out")
    assert ended.exit_code == 0
    assert "nothing has changed" in ended.stdout


def test_studies_are_chosen_by_a_search(program, tmp_path):
    fill(program, tmp_path)
    chosen = ("export", "--parquet", "out", "--where", "ModalitiesInStudy=MR", "--part-by", "")
    report = program.report(*chosen)
    assert modalities(report["place"]) == ["MR"]
    assert report["files"] == 2
    assert program.run(*chosen[:3], "--where", "PatientID=nobody").exit_code == 1


def fetched(client, prefix: str, folder) -> str:
    """Every object below a prefix, as files."""
    for page in client.list(prefix=f"{prefix}/"):
        for found in page:
            file = folder / found["path"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(bytes(client.get(found["path"]).bytes()))
    return str(folder / prefix)


@pytest.mark.xdist_group("buckets")
@pytest.mark.parametrize("kind", ["swift", "rados_gateway"])
def test_tables_go_straight_to_a_bucket(program, tmp_path, monkeypatch, request, kind):
    server = request.getfixturevalue(kind)
    bucket = server.make_bucket()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
    monkeypatch.setenv("AWS_REGION", server.region)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    fill(program, tmp_path)
    client = server.client(bucket)
    change = program.report("export", "--parquet", "out")["place"].rpartition("/")[2]
    client.put(f"tables/{change}/series/left.parquet", b"of an attempt that failed")
    report = program.report("export", "--parquet", f"s3://{bucket}/tables")
    assert report["place"] == f"s3://{bucket}/tables/{change}"
    there = fetched(client, f"tables/{change}", tmp_path / "there")
    assert modalities(there) == ["CT", "MR"]
    assert not (tmp_path / "there" / "tables" / change / "series" / "left.parquet").exists()
    again = program.run("export", "--parquet", f"s3://{bucket}/tables")
    assert "nothing has changed" in again.stdout


def test_what_cannot_be_is_said(program):
    assert "--where" in program.run("export", "--parquet", "out", "1.2.3").stderr
    assert "collection" in program.run("export", "--parquet", "out", "--part-by", "day").stderr
    assert "bucket" in program.run("export", "s3://bucket/files").stderr
    assert "no bucket" in program.run("export", "--parquet", "ftp://bucket/files").stderr

"""`fileroom serve` and the commands beside it, as an operator runs them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import httpx
import pytest

from archive.assembly import index_url, open_objects
from archive.errors import ArchiveError
from archive.processes import running_pid
from storage.index.engine import IndexEngine
from tests import postgresql
from tests.conftest import (
    PYDICOM_DATA,
    Served,
    make_config,
    on_disk,
    running_archive,
    store,
    wait_until,
    wheel_file,
)

pytestmark = [pytest.mark.endtoend, pytest.mark.xdist_group("endtoend")]


def workers_of(server: Served) -> list[int]:
    pid = server.process.pid
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(line) for line in listed.stdout.split()]


def test_a_killed_worker_comes_back_and_the_archive_goes_on(served):
    before = workers_of(served)
    assert len(before) == 4  # two DICOM, two HTTP; the others when first asked for
    os.kill(before[0], signal.SIGKILL)
    os.kill(before[3], signal.SIGKILL)
    wait_until(lambda: len(set(workers_of(served)) - set(before)) == 2, what="new workers")
    wait_until(served._ready, what="readiness")
    assert httpx.get(f"{served.url}/dicom-web/studies").json() == []


def test_no_worker_holds_a_decoder_before_a_picture_is_asked_for(served):
    for pid in (served.process.pid, *workers_of(served)):
        mapped = Path(f"/proc/{pid}/maps").read_text()
        for library in ("_multiarray_umath", "_imaging", "_openjpeg", "_libjpeg"):
            assert library not in mapped


def test_an_archive_that_is_stopped_while_it_starts_leaves_nobody_behind(tmp_path):
    server = Served(tmp_path / "data")
    server.data_dir.mkdir()
    with (server.data_dir / "serve.log").open("a") as log:
        started = subprocess.Popen(
            [sys.executable, "-m", "archive", "serve"],
            env=server.environment,
            stderr=log,
            stdout=subprocess.DEVNULL,
            cwd=server.data_dir,
            start_new_session=True,
        )
        # The number stands there from when the ports are taken until all are gone.
        wait_until(lambda: running_pid(server.data_dir) == started.pid, what="the first step")
        started.terminate()
        assert started.wait(60) in (0, -signal.SIGTERM)
    wait_until(lambda: running_pid(server.data_dir) is None, 60, "the last to go")


def test_workers_go_with_a_supervisor_that_is_killed(served):
    served.kill()
    # Whoever is left holds the lock.
    wait_until(lambda: running_pid(served.data_dir) is None, 60, "the last to go")
    served.start()


def test_a_second_archive_on_the_same_folder_refuses(served):
    ended = served.command("serve", check=False)
    assert ended.returncode == 1
    assert f"process {served.process.pid}" in ended.stderr


def test_a_port_in_use_says_which_setting_to_change(served, tmp_path):
    other = Served(tmp_path / "other", FILEROOM_HTTP__PORT=str(served.http_port))
    other.data_dir.mkdir()
    ended = other.command("serve", check=False)
    assert ended.returncode == 1
    assert "[http]" in ended.stderr
    assert str(served.http_port) in ended.stderr


def test_sigterm_drains_and_ends_with_success(tmp_path):
    server = Served(tmp_path / "data")
    server.start()
    assert server.stop() == 0
    assert not (server.data_dir / "run" / "ready.json").exists()


def test_the_announcement_says_where_it_listens_and_what_to_try(tmp_path):
    server = Served(tmp_path / "data")
    server.start()
    server.process.terminate()
    announced, _ = server.process.communicate(timeout=30)
    server.log.close()
    assert f":{server.http_port}/dicom-web" in announced
    assert f"FILEROOM at 127.0.0.1:{server.dicom_port}" in announced
    assert "storescu" in announced


def test_metrics_count_over_all_workers(served):
    for _ in range(5):
        httpx.get(f"{served.url}/dicom-web/studies")
    body = wheel_file("CT_small.dcm").read_bytes()
    headers = {"Content-Type": "application/dicom"}
    httpx.post(f"{served.url}/dicom-web/studies", content=body, headers=headers)
    text = httpx.get(f"{served.url}/metrics").text
    assert 'fileroom_instances_stored_total{outcome="stored",protocol="STOW-RS"} 1.0' in text
    assert (
        'fileroom_requests_served_seconds_count{status="2xx",transaction="search"} 5.0' in text
    )


def test_no_log_line_names_a_patient(served):
    body = wheel_file("CT_small.dcm").read_bytes()
    headers = {"Content-Type": "application/dicom"}
    httpx.post(f"{served.url}/dicom-web/studies", content=body, headers=headers)
    httpx.get(f"{served.url}/dicom-web/studies", params={"PatientName": "CompressedSamples*"})
    served.stop()
    log = (served.data_dir / "serve.log").read_text()
    assert "instance.stored" in log
    assert "CompressedSamples" not in log
    assert "1CT1" not in log
    for line in log.splitlines():
        json.loads(line)


def test_import_takes_folders_files_and_zips_once(served, tmp_path):
    folder = tmp_path / "in" / "deep"
    folder.mkdir(parents=True)
    for name in ("CT_small.dcm", "MR_small_RLE.dcm"):
        (folder / name).write_bytes(wheel_file(name).read_bytes())
    (folder / "notes.txt").write_text("not DICOM")
    with zipfile.ZipFile(tmp_path / "in" / "more.zip", "w") as archive:
        archive.write(wheel_file("693_J2KI.dcm"), "inside/693.dcm")
    first = json.loads(served.command("import", "--json", str(tmp_path / "in")).stdout)
    assert (first["stored"], first["skipped"], first["failed"]) == (3, 1, 0)
    assert first["examples"][0][0].endswith("notes.txt")
    again = json.loads(served.command("import", "--json", str(tmp_path / "in")).stdout)
    assert (again["stored"], again["duplicates"]) == (0, 3)
    # The running archive shows them at once.
    assert len(httpx.get(f"{served.url}/dicom-web/studies").json()) == 3
    status = json.loads(served.command("status", "--json").stdout)
    assert status["running"] == served.process.pid
    assert (status["totals"]["instances"], status["totals"]["duplicates"]) == (3, 3)


def test_export_gives_back_every_byte_and_resumes(served, tmp_path):
    names = ("CT_small.dcm", "693_J2KI.dcm")
    served.command("import", *(str(wheel_file(name)) for name in names))
    out = tmp_path / "out"
    served.command("export", str(out))
    files = list(out.rglob("*.dcm"))
    expected = {wheel_file(name).read_bytes() for name in names}
    assert {file.read_bytes() for file in files} == expected
    files[0].unlink()
    again = json.loads(served.command("export", str(out), "--json").stdout)
    assert (again["instances"], again["written"]) == (2, 1)
    some = json.loads(
        served.command("export", str(out), "--json", "--where", "PatientID=1CT1").stdout
    )
    assert some["instances"] == 1
    nothing = served.command("export", str(out), "--where", "PatientID=none", check=False)
    assert nothing.returncode == 1


def test_demo_fills_an_archive_and_doubles_nothing(served):
    first = json.loads(served.command("demo", "--json").stdout)
    assert first["synthetic"]["stored"] == 42
    again = json.loads(served.command("demo", "--json").stdout)
    assert (again["synthetic"]["stored"], again["real"]["stored"]) == (0, 0)
    studies = httpx.get(
        f"{served.url}/dicom-web/studies", params={"PatientName": "Demo^*"}, timeout=60
    ).json()
    assert len(studies) == 3
    for study in studies:
        rendered = httpx.get(study["00081190"]["Value"][0] + "/rendered", timeout=60)
        assert "image/jpeg" in rendered.headers["content-type"]  # alone, or in parts


@on_disk
def test_verify_finds_what_is_lost_changed_or_too_much(served):
    served.command("import", str(wheel_file("CT_small.dcm")), str(wheel_file("693_J2KI.dcm")))
    assert served.command("verify", check=False).returncode == 0
    objects = sorted((served.data_dir / "objects").rglob("*.dcm"))
    stray = objects[0].with_name(objects[0].name.replace("~", "9~", 1))
    stray.write_bytes(b"nobody asked for this")
    os.utime(stray, (1, 1))
    changed = bytearray(objects[0].read_bytes())
    changed[-1] ^= 1
    objects[0].write_bytes(changed)
    objects[1].unlink()
    ended = served.command("verify", "--json", check=False)
    report = json.loads(ended.stdout)
    assert ended.returncode == 1
    assert [len(report[name]) for name in ("lost", "corrupt", "orphans")] == [1, 1, 1]


def test_delete_restore_and_purge(served):
    served.command("import", str(wheel_file("CT_small.dcm")))
    (study,) = httpx.get(f"{served.url}/dicom-web/studies").json()
    uid = study["0020000D"]["Value"][0]
    served.command("delete", uid, "--reason", "sent by mistake")
    assert httpx.get(f"{served.url}/dicom-web/studies").json() == []
    assert served.command("delete", uid, "--reason", "again", check=False).returncode == 1
    served.command("restore", uid)
    assert len(httpx.get(f"{served.url}/dicom-web/studies").json()) == 1
    served.command("delete", uid, "--reason", "for good")
    purged = json.loads(served.command("purge", "--older-than-days", "0", "--json").stdout)
    assert purged["instances"] == 1
    assert list(open_objects(make_config(served.data_dir)).walk("objects")) == []
    assert served.command("restore", uid, check=False).returncode == 1
    assert served.command("verify", check=False).returncode == 0


def test_the_index_is_made_again_from_the_objects_alone(tmp_path):
    server = Served(tmp_path / "data")
    server.data_dir.mkdir()
    with running_archive(make_config(server.data_dir)) as archive:
        # One after another: of two that arrive at once either may come first.
        for path in sorted(PYDICOM_DATA.glob("*/*.dcm")):
            with contextlib.suppress(ArchiveError):
                store(archive, path)
    study = _rows(server, "SELECT study_instance_uid FROM study ORDER BY id LIMIT 1")[0][0]
    server.command("delete", study, "--reason", "withdrawn")
    before = _dump(server)
    if not postgresql.EVERYWHERE:  # what is not a file is emptied
        (server.data_dir / "index.db").unlink()
    report = json.loads(server.command("rebuild-index", "--json").stdout)
    assert report["unreadable"] == []
    assert _dump(server) == before
    assert server.command("verify", check=False).returncode == 0


def _rows(server: Served, statement: str) -> list[tuple]:
    engine = IndexEngine(index_url(make_config(server.data_dir)))
    with contextlib.closing(engine), engine.read() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(statement)]


def _dump(server: Served) -> dict[str, list[tuple]]:
    """Everything the index says, but for keys, moments of writing and change numbers."""
    return {
        "study": _rows(
            server,
            "SELECT s.study_instance_uid, s.patient_id, patient_name_key, study_date,"
            " accession_number, modalities, sop_classes, number_of_series, number_of_instances,"
            " size_bytes, collection, site, partition, attributes FROM study s ORDER BY 1",
        ),
        "series": _rows(
            server,
            "SELECT study_instance_uid, series_instance_uid, modality, series_number,"
            " series.number_of_instances, series.size_bytes, series.site, series.attributes"
            " FROM series JOIN study ON study.id = study_fk ORDER BY 1, 2",
        ),
        "instance": _rows(
            server,
            "SELECT object_key, sop_instance_uid, sop_class_uid, transfer_syntax_uid, version,"
            " state, reason, collection, site, size_bytes, dataset_offset, digest, received_at,"
            " warnings, uid_elsewhere, metadata, bulk, frames"
            " FROM instance JOIN instance_detail ON instance_fk = id ORDER BY 1",
        ),
        "source": _rows(
            server, "SELECT source_key, site, collection, protocol FROM source ORDER BY 1"
        ),
        "patient": _rows(
            server, "SELECT site, patient_id, patient_name FROM patient ORDER BY 1, 2, 3"
        ),
        "study_modality": _rows(
            server,
            "SELECT modality, study_instance_uid FROM study_modality"
            " JOIN study ON study.id = study_fk ORDER BY 1, 2",
        ),
    }


def test_doctor_finds_an_installation_sound_and_a_full_disk_not(served):
    assert served.command("doctor", check=False).returncode == 0
    served.environment["FILEROOM_ARCHIVE__KEEP_FREE_BYTES"] = str(1 << 60)
    ended = served.command("doctor", check=False)
    assert ended.returncode == 1
    assert "keep_free_bytes" in ended.stdout


def test_a_misspelt_setting_ends_a_command_with_what_was_meant(served):
    served.environment["FILEROOM_HTTP__PROT"] = "1"
    ended = served.command("status", check=False)
    del served.environment["FILEROOM_HTTP__PROT"]
    assert ended.returncode == 2
    assert "'port'" in ended.stderr


def test_python_m_archive_is_the_same_program():
    ended = subprocess.run(
        [sys.executable, "-m", "archive", "--help"], capture_output=True, text=True, check=True
    )
    assert "rebuild-index" in ended.stdout


def test_images_that_differ_and_that_cannot_be_made_are_answered_without_threads(served):
    served.command("import", *(str(wheel_file(n)) for n in ("CT_small.dcm", "JPEG2000.dcm")))
    studies = httpx.get(f"{served.url}/dicom-web/instances").json()
    urls = [
        f"{served.url}/dicom-web/studies/{study['0020000D']['Value'][0]}"
        f"/series/{study['0020000E']['Value'][0]}/instances/{study['00080018']['Value'][0]}"
        for study in studies
    ]
    for url in urls:
        bodies = set()
        for width in range(100, 105):
            asked = f"{url}/rendered?window=50,{width},linear"
            got = [httpx.get(asked) for _ in range(3)]
            assert {(one.status_code, one.headers["ETag"]) for one in got} == {
                (200, got[0].headers["ETag"])
            }
            assert len({one.content for one in got}) == 1
            bodies.add(got[0].content)
            part = httpx.get(asked, headers={"Range": "bytes=2-9"})
            assert (part.status_code, part.content) == (206, got[0].content[2:10])
            several = httpx.get(
                asked, headers={"Accept": 'multipart/related; type="image/jpeg"'}
            )
            assert got[0].content in several.content
        assert len(bodies) == 5

"""Queries of DCMTK's findscu and of pynetdicom's against a running archive."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from tests.builders import dataset, part10
from tests.conftest import Served

MANY = 150
# pynetdicom installs a program of the same name beside Python.
PYNETDICOM = str(Path(sys.executable).parent / "findscu")
_FOLDERS = [
    one for one in os.environ["PATH"].split(os.pathsep) if one != str(Path(PYNETDICOM).parent)
]
DCMTK = shutil.which("findscu", path=os.pathsep.join(_FOLDERS)) or ""
pytestmark = [
    pytest.mark.interop,
    pytest.mark.xdist_group("interop"),
    pytest.mark.skipif(
        not DCMTK,
        reason="NOT TESTED: DCMTK's programs are not installed (Debian package dcmtk)",
    ),
]


@pytest.fixture(scope="module", params=["direct", "stock"])
def server(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    files = folder / "files"
    files.mkdir()
    named = dataset(
        "1.2.3", "1.2.3.1", "1.2.3.1.1", PatientID="4711", StudyDate="20200105",
        SpecificCharacterSet="ISO_IR 100", StudyDescription="CT chest",
    )  # fmt: skip
    named.PatientName = "Müller^Jürg"
    (files / "named.dcm").write_bytes(part10(named))
    for n in range(MANY):
        uid = f"1.2.4.{n}"
        (files / f"{n}.dcm").write_bytes(
            part10(dataset(uid, f"{uid}.1", f"{uid}.1.1", PatientID="MANY"))
        )
    started = Served(folder / "data", FILEROOM_DIMSE__ENGINE=request.param)
    started.start()
    started.command("import", str(files))
    yield started
    assert started.stop() == 0


def run(program: str, server: Served, *arguments: str, cwd: Path | None = None):
    return subprocess.run(
        [program, "-v", "-aec", "FILEROOM", *arguments, "127.0.0.1", str(server.dicom_port)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
        cwd=cwd,
        check=False,
    )


def keys(*asked: str) -> list[str]:
    return [part for key in asked for part in ("-k", key)]


STUDY = keys("QueryRetrieveLevel=STUDY", "StudyInstanceUID", "PatientName", "StudyDescription")


@pytest.mark.parametrize("model", ["-S", "-P", "-O"])
@pytest.mark.parametrize("syntax", ["-xe", "-xi", "-xb", "-xd", "-x="])
def test_findscu_extracts_what_it_found(server, tmp_path, model, syntax):
    ended = run(
        DCMTK, server, model, syntax, *STUDY, *keys("PatientID=4711"), "-X", "-od",
        str(tmp_path),
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    (written,) = tmp_path.glob("rsp*.dcm")
    found = pydicom.dcmread(written)
    assert (found.StudyInstanceUID, found.PatientName) == ("1.2.3", "Müller^Jürg")
    assert found.SpecificCharacterSet == "ISO_IR 192"
    assert found.RetrieveAETitle == "FILEROOM"


def test_findscu_is_answered_in_its_character_set(server, tmp_path):
    asked = keys("SpecificCharacterSet=ISO_IR 100", "PatientID=4711")
    ended = run(DCMTK, server, "-S", *STUDY, *asked, "-X", "-od", str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    (written,) = tmp_path.glob("rsp*.dcm")
    assert pydicom.dcmread(written).SpecificCharacterSet == "ISO_IR 100"
    assert b"M\xfcller^J\xfcrg" in written.read_bytes()


def test_findscu_cancels(server):
    ended = run(DCMTK, server, "-S", *STUDY, *keys("PatientID=MANY"), "--cancel", "1")
    output = ended.stdout + ended.stderr
    assert ended.returncode == 0, output
    # Whether the cancel was faster than the last match is for the network to say.
    final = ("(Cancel: MatchingTerminatedDueToCancelRequest)", "(Success)")
    assert any(f"Received Final Find Response {said}" in output for said in final)


def test_findscu_takes_small_pdus(server):
    ended = run(DCMTK, server, "-S", "-pdu", "4096", *STUDY, *keys("PatientID=MANY"))
    assert ended.returncode == 0, ended.stderr
    output = ended.stdout + ended.stderr
    assert output.count("Find Response:") == MANY
    assert "Received Final Find Response (Success)" in output


def test_findscu_is_told_what_was_wrong(server):
    ended = run(DCMTK, server, "-S", *keys("QueryRetrieveLevel=WORKLIST", "PatientID"))
    output = ended.stdout + ended.stderr
    assert "a900" in output.lower() or "DataSetDoesNotMatch" in output.replace(" ", "")


@pytest.mark.parametrize("program", ["dcmtk", "pynetdicom"])
def test_a_worklist_query_finds_no_context(server, program):
    command = DCMTK if program == "dcmtk" else PYNETDICOM
    ended = run(command, server, "-W", *keys("PatientName=*"))
    output = ended.stdout + ended.stderr
    assert ended.returncode != 0 or "No accepted presentation contexts" in output
    assert "Find Response" not in output
    assert "No Acceptable Presentation Contexts" in output or "accepted" in output.lower()


@pytest.mark.parametrize("options", [[], ["--relational-query"], ["--dt-matching"],
                                     ["--relational-query", "--fuzzy-names"],
                                     ["--timezone-adj", "--enhanced-conversion"]])  # fmt: skip
def test_pynetdicoms_findscu_negotiates_and_finds(server, tmp_path, options):
    ended = run(
        PYNETDICOM, server, "-S", *STUDY, *keys("PatientID=4711"), "-w",
        *options, cwd=tmp_path,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    (written,) = tmp_path.glob("rsp*.dcm")
    assert pydicom.dcmread(written, force=True).StudyInstanceUID == "1.2.3"


def test_an_odd_identifier_of_a_file_is_answered(server, tmp_path):
    odd = Dataset()
    odd.add_new(0x00080001, "UL", 4)
    odd.add_new(0x00080010, "SH", "ACR-NEMA 2.0")
    odd.add_new(0x00080052, "CS", "study")
    odd.add_new(0x00100010, "UN", b"m*")
    odd.add_new(0x00100020, "LO", "4711")
    odd.add_new(0x0020000D, "UI", "")
    odd.add_new(0x00400275, "SQ", [])
    path = tmp_path / "odd.dcm"
    odd.save_as(path, implicit_vr=False, little_endian=True)
    # DCMTK names the file behind host and port.
    ended = subprocess.run(
        [DCMTK, "-v", "-aec", "FILEROOM", "-S", "-xe", "-X", "-od", str(tmp_path),
         "127.0.0.1", str(server.dicom_port), str(path)],
        capture_output=True, text=True, errors="replace", timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    (written,) = tmp_path.glob("rsp*.dcm")
    assert pydicom.dcmread(written).StudyInstanceUID == "1.2.3"

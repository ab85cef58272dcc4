"""DCMTK's programs against a running archive."""

import shutil
import struct
import subprocess
import warnings

import pydicom
import pytest

from tests.conftest import Served, free_port, object_files, wait_until, wheel_file

pytestmark = [
    pytest.mark.interop,
    pytest.mark.xdist_group("interop"),
    pytest.mark.skipif(
        shutil.which("storescu") is None,
        reason="NOT TESTED: DCMTK's programs are not installed (Debian package dcmtk)",
    ),
]

# What storescu must be told to propose, by transfer syntax.
PROPOSE = {
    "1.2.840.10008.1.2": ["-xi"],
    "1.2.840.10008.1.2.1": ["-xe"],
    "1.2.840.10008.1.2.2": ["-xb"],
    "1.2.840.10008.1.2.1.99": ["-xd"],
    "1.2.840.10008.1.2.4.50": ["-xy"],
    "1.2.840.10008.1.2.4.51": ["-xx"],
    "1.2.840.10008.1.2.4.70": ["-xs"],
    "1.2.840.10008.1.2.4.80": ["-xt"],
    "1.2.840.10008.1.2.4.81": ["-xu"],
    "1.2.840.10008.1.2.4.90": ["-xv"],
    "1.2.840.10008.1.2.4.91": ["-xw"],
    "1.2.840.10008.1.2.5": ["-xr"],
}


@pytest.fixture(scope="module", params=["direct", "stock"])
def server(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    sink = free_port()
    config = folder / "config.toml"
    config.write_text(
        f'[[dimse.peers]]\nae_title = "SINK"\nhost = "127.0.0.1"\nport = {sink}\n'
    )
    started = Served(folder, FILEROOM_DIMSE__ENGINE=request.param)
    started.start()
    started.sink_port = sink
    yield started
    assert started.stop() == 0


def run(program: str, server: Served, *arguments, check: bool = True) -> str:
    ended = subprocess.run(
        [program, "-v", "-aec", "FILEROOM", *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
    )
    output = ended.stdout + ended.stderr
    if check:
        assert ended.returncode == 0, output
    return output


def address(server: Served) -> list[str]:
    return ["127.0.0.1", str(server.dicom_port)]


def syntax_of(path) -> str:
    from archive.dicom.part10 import read_file_meta

    return read_file_meta(path.read_bytes()).transfer_syntax_uid


def comparable(path) -> dict:
    """Every element: storescu writes lengths of sequences anew, and leaves padding out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(path)
        return {
            "syntax": dataset.file_meta.TransferSyntaxUID,
            "elements": {
                int(element.tag): element.value if element.VR != "SQ" else str(element)
                for element in dataset
                if element.tag.element and element.tag.group != 0xFFFC
            },
        }


def data_set(body: bytes) -> bytes:
    (length,) = struct.unpack_from("<I", body, 140)
    return body[144 + length :]


def send(server: Served, *names: str) -> None:
    for name in names:
        path = wheel_file(name)
        run("storescu", server, *PROPOSE[syntax_of(path)], *address(server), str(path))


def test_echoscu(server):
    assert "Received Echo Response (Success)" in run("echoscu", server, *address(server))


def test_storescu_in_every_syntax_it_proposes_and_every_byte_is_kept(server):
    names = ["CT_small.dcm", "MR_small_RLE.dcm", "693_J2KI.dcm", "examples_palette.dcm",
             "rtplan.dcm", "ExplVR_BigEnd.dcm", "JPGExtended.dcm", "chrH32.dcm"]  # fmt: skip
    sent = {}
    for name in names:
        found = list(wheel_file("CT_small.dcm").parent.parent.glob(f"*/{name}"))
        if found and syntax_of(found[0]) in PROPOSE:
            send(server, name)
            sent[name] = comparable(found[0])
    assert len(sent) >= 5
    stored = [comparable(file) for file in object_files(server.data_dir)]
    for name, content in sent.items():
        assert content in stored, name


def test_dcmsend_sends_a_folder(server, tmp_path):
    for name in ("CT_small.dcm", "MR_small_implicit.dcm"):
        (tmp_path / name).write_bytes(wheel_file("CT_small.dcm").read_bytes())
    output = run("dcmsend", server, *address(server), "+sd", str(tmp_path), check=False)
    assert "with status SUCCESS" in output


def test_findscu_at_study_level(server):
    send(server, "CT_small.dcm")
    output = run(
        "findscu", server, "-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientName=comp*ct1",
        "-k", "StudyInstanceUID", "-k", "ModalitiesInStudy",
        "-k", "NumberOfStudyRelatedInstances", *address(server),
    )  # fmt: skip
    assert "[CompressedSamples^CT1" in output
    assert "CS [CT]" in output
    assert "IS [1 ]" in output


def test_getscu_gets_what_was_sent(server, tmp_path):
    send(server, "CT_small.dcm")
    run(
        "getscu", server, "-S", "+B", "-od", str(tmp_path), "-k", "QueryRetrieveLevel=STUDY",
        "-k", "StudyInstanceUID=1.3.6.1.4.1.5962.1.2.1.20040119072730.12322", *address(server),
    )  # fmt: skip
    (got,) = tmp_path.iterdir()
    stored = {data_set(f.read_bytes()) for f in object_files(server.data_dir)}
    assert data_set(got.read_bytes()) in stored
    assert comparable(got) == comparable(wheel_file("CT_small.dcm"))


def test_movescu_to_storescp(server, tmp_path):
    send(server, "693_J2KI.dcm")
    sink = subprocess.Popen(
        ["storescp", "-aet", "SINK", "+xa", "-od", str(tmp_path), str(server.sink_port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        import socket

        def up() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", server.sink_port)) == 0

        wait_until(up, what="storescp")
        study = "1.2.276.0.7230010.3.1.2.296485376.1.1521713414.1800996"
        output = run(
            "movescu", server, "-S", "-aem", "SINK", "-k", "QueryRetrieveLevel=STUDY",
            "-k", f"StudyInstanceUID={study}", *address(server),
        )  # fmt: skip
        assert "Received Final Move Response (Success)" in output
        (got,) = wait_until(lambda: list(tmp_path.iterdir()), what="the instance")
        assert syntax_of(got) == "1.2.840.10008.1.2.4.91"
    finally:
        sink.kill()
        sink.wait()


def test_a_sender_that_aborts_harms_nobody(server):
    path = wheel_file("CT_small.dcm")
    run("storescu", server, "--abort", *address(server), str(path), check=False)
    assert "Success" in run("echoscu", server, *address(server))

"""DCMTK's movescu and getscu, and its storescp as a destination, against a running archive."""

import contextlib
import re
import shutil
import socket
import subprocess
import warnings

import pydicom
import pytest

from tests.builders import dataset, part10
from tests.conftest import object_files, wait_until, wheel_file
from tests.interop.test_dcmtk import address, data_set, run, send, server, syntax_of

__all__ = ["server"]
pytestmark = [
    pytest.mark.interop,
    pytest.mark.xdist_group("interop"),
    pytest.mark.skipif(
        shutil.which("movescu") is None,
        reason="NOT TESTED: DCMTK's programs are not installed (Debian package dcmtk)",
    ),
]

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
JPEG_2000 = "1.2.840.10008.1.2.4.91"


@contextlib.contextmanager
def storescp(server, folder, *options: str):
    """DCMTK's Storage SCP as the peer SINK."""
    sink = subprocess.Popen(
        ["storescp", "-aet", "SINK", *options, "-od", str(folder), str(server.sink_port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def up() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", server.sink_port)) == 0

    try:
        wait_until(up, what="storescp")
        yield folder
    finally:
        sink.kill()
        sink.wait()


def movescu(server, study: str, *options: str, check: bool = True) -> str:
    return run(
        "movescu", server, "-d", "-S", "-aem", "SINK", "-k", "QueryRetrieveLevel=STUDY",
        "-k", f"StudyInstanceUID={study}", *options, *address(server), check=check,
    )  # fmt: skip


def read(path) -> pydicom.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(path)


@pytest.fixture(scope="module")
def six(server, tmp_path_factory) -> str:
    """A study of six instances."""
    folder = tmp_path_factory.mktemp("six")
    for number in range(1, 7):
        made = dataset("1.66", "1.66.1", f"1.66.1.{number}", InstanceNumber=number)
        (folder / f"{number}.dcm").write_bytes(part10(made))
    run("storescu", server, "-xe", "+sd", *address(server), str(folder))
    return "1.66"


@pytest.mark.parametrize(
    ("option", "name", "expected"),
    [
        ("+xi", "CT_small.dcm", IMPLICIT),
        ("+xi", "693_J2KI.dcm", IMPLICIT),
        ("+x=", "693_J2KI.dcm", EXPLICIT),
        ("+xw", "693_J2KI.dcm", JPEG_2000),
        ("+xd", "CT_small.dcm", EXPLICIT),
    ],
)
def test_a_destination_gets_the_pixels_in_a_syntax_that_it_takes(
    server, tmp_path, option, name, expected
):
    original = read(wheel_file(name))
    send(server, name)
    with storescp(server, tmp_path, option):
        output = movescu(server, str(original.StudyInstanceUID))
        assert "0x0000: Success" in output
        (got,) = tmp_path.iterdir()
    assert syntax_of(got) == expected
    arrived = read(got)
    assert arrived.SOPInstanceUID == original.SOPInstanceUID
    assert (arrived.pixel_array == original.pixel_array).all()


def test_movescu_is_its_own_destination(server, six, tmp_path):
    output = movescu(server, six, "+P", str(server.sink_port), "-od", str(tmp_path))
    assert "0x0000: Success" in output
    assert len(list(tmp_path.iterdir())) == 6


def test_movescu_counts_with_us(server, six, tmp_path):
    with storescp(server, tmp_path):
        output = movescu(server, six)
    remaining = re.findall(r"Remaining Suboperations\s*: (\S+)", output)
    completed = re.findall(r"Completed Suboperations\s*: (\S+)", output)
    # The first at once, then at most ten a second (PS3.4 C.4.2.3.1 leaves it to the SCP).
    assert (remaining[0], remaining[-1]) == ("5", "none")
    assert (completed[0], completed[-1]) == ("1", "6")
    left = [int(count) for count in remaining[:-1]]
    assert left == sorted(set(left), reverse=True)
    assert [6 - count for count in left] == [int(count) for count in completed[:-1]]


def test_movescu_cancels(server, six, tmp_path):
    with storescp(server, tmp_path, "--sleep-during", "1"):
        output = movescu(server, six, "--cancel", "1", check=False)
    assert "0xfe00" in output
    assert 1 <= len(list(tmp_path.iterdir())) < 6


def test_a_destination_that_is_away_is_told_to_movescu(server, six):
    output = movescu(server, six, check=False)
    assert "0xa702" in output
    assert "refuses connections" in output
    assert "1.66.1.6" in output  # Failed SOP Instance UID List


@pytest.mark.parametrize(("option", "expected"), [("+xe", EXPLICIT), ("+xw", JPEG_2000)])
def test_getscu_gets_the_pixels_in_what_it_proposes(server, tmp_path, option, expected):
    original = read(wheel_file("693_J2KI.dcm"))
    send(server, "693_J2KI.dcm")
    run(
        "getscu", server, "-S", option, "+B", "-od", str(tmp_path),
        "-k", "QueryRetrieveLevel=STUDY",
        "-k", f"StudyInstanceUID={original.StudyInstanceUID}", *address(server),
    )  # fmt: skip
    (got,) = tmp_path.iterdir()
    assert syntax_of(got) == expected
    assert (read(got).pixel_array == original.pixel_array).all()


def test_what_getscu_keeps_bit_by_bit_is_what_is_stored(server, six, tmp_path):
    run(
        "getscu", server, "-S", "+B", "-od", str(tmp_path), "-k", "QueryRetrieveLevel=STUDY",
        "-k", f"StudyInstanceUID={six}", *address(server),
    )  # fmt: skip
    stored = {data_set(f.read_bytes()) for f in object_files(server.data_dir)}
    got = [data_set(path.read_bytes()) for path in tmp_path.iterdir()]
    assert len(got) == 6
    assert set(got) <= stored

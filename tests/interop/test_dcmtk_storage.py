"""DCMTK's Storage SCUs in everything they can propose, and its terminator, which is refused."""

import csv
import re
import shutil
import warnings
from pathlib import Path

import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from tests.conftest import object_files, wheel_file
from tests.interop.test_dcmtk import address, comparable, run, server

__all__ = ["server"]
pytestmark = [
    pytest.mark.interop,
    pytest.mark.xdist_group("interop"),
    pytest.mark.skipif(
        shutil.which("storescu") is None,
        reason="NOT TESTED: DCMTK's programs are not installed (Debian package dcmtk)",
    ),
]

_ROOT = "1.2.840.10008.1.2"
# What storescu (3.6.7) can be told to propose, and the syntax that stands for.
PROPOSALS = {
    "-xi": "", "-xe": ".1", "-xb": ".2", "-xd": ".1.99", "-xr": ".5",
    "-xy": ".4.50", "-xx": ".4.51", "-xs": ".4.70", "-xt": ".4.80", "-xu": ".4.81",
    "-xv": ".4.90", "-xw": ".4.91", "-xm": ".4.100", "-xh": ".4.101", "-xn": ".4.102",
    "-xl": ".4.103", "-x2": ".4.104", "-x3": ".4.105", "-xo": ".4.106", "-x4": ".4.107",
    "-x5": ".4.108",
}  # fmt: skip


def make_file(folder, arc: str, number: int):
    """Write a CT image in a transfer syntax; as codestream, where one is due, some bytes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(wheel_file("CT_small.dcm"))
        syntax = UID(_ROOT + arc)
        if syntax.is_compressed and not syntax.is_deflated:
            dataset.PixelData = encapsulate([b"\xff\xd8" + bytes(range(200)) + b"\xff\xd9"])
            dataset["PixelData"].is_undefined_length = True
            dataset["PixelData"].VR = "OB"
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.SOPInstanceUID = f"1.2.826.0.1.3680043.8.498.{number}"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        path = folder / f"{number}.dcm"
        pydicom.dcmwrite(
            path,
            dataset,
            implicit_vr=syntax.is_implicit_VR,
            little_endian=syntax.is_little_endian,
        )
    return path


def stored(server) -> dict[str, Path]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        files = object_files(server.data_dir)
        return {pydicom.dcmread(file).SOPInstanceUID: file for file in files}


def test_storescu_in_everything_it_can_propose_and_every_element_is_kept(server, tmp_path):
    sent = {}
    for number, (option, arc) in enumerate(PROPOSALS.items(), 100):
        sent[option] = make_file(tmp_path, arc, number)
        run("storescu", server, option, *address(server), str(sent[option]))
    kept = stored(server)
    for number, (option, path) in enumerate(sent.items(), 100):
        found = comparable(kept[f"1.2.826.0.1.3680043.8.498.{number}"])
        assert found == comparable(path), option


def test_storescu_that_combines_its_syntaxes_sends_as_it_has(server, tmp_path):
    sent = ("-xy", "-xx", "-xs", "-xv", "-xw", "-xt", "-xr", "-xe")
    for number, option in enumerate(sent, 200):
        path = make_file(tmp_path, PROPOSALS[option], number)
        run("storescu", server, "+C", option, *address(server), str(path))
        kept = stored(server)[f"1.2.826.0.1.3680043.8.498.{number}"]
        assert comparable(kept) == comparable(path), option


# What DCMTK 3.6.7 does not know: JPEG XL, HTJ2K, deflated frames.
UNKNOWN_TO_DCMTK = (".1.98", ".4.110", ".4.111", ".4.201", ".4.202", ".4.203", ".8.1")


def test_dcmsend_sends_every_real_file(server, shared_dicom, tmp_path):
    with (shared_dicom / "manifest.csv").open() as manifest:
        rows = [row for row in csv.DictReader(manifest) if row["bulk"] == "yes"]
    assert len(rows) > 100
    report = tmp_path / "report.txt"
    run(
        "dcmsend", server, "-nh", "-nuc", "-dn", "+crf", str(report), *address(server),
        *(str(shared_dicom / row["file"]) for row in rows), check=False,
    )  # fmt: skip
    answers = dict(
        re.findall(
            r"^ *Filename +: (.*?)$.*?DIMSE Status +: (.*?)$",
            report.read_text(errors="replace"),
            re.MULTILINE | re.DOTALL,
        )
    )
    kept = stored(server)
    for row in rows:
        answer = answers[str(shared_dicom / row["file"])]
        if row["transfer_syntax_uid"].removeprefix(_ROOT) in UNKNOWN_TO_DCMTK:
            assert answer == "<not sent>"
        else:
            assert answer.startswith(("0x0000", "0xb007")), row["file"]
            assert row["sop_uid"] in kept, row["file"]


def test_termscu_terminates_nothing(server):
    output = run("termscu", server, *address(server), check=False)
    assert "Shutdown" not in output
    assert "Success" in run("echoscu", server, *address(server))

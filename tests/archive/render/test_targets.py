"""What is offered is decided before anything is decoded (PS3.18 §8.7.3, PS3.5 §8.2)."""

import subprocess
import sys

import pytest

from archive.dicom.instance import PixelDescription
from archive.render import targets
from archive.render.targets import TARGETS, embedded_overlay, refusal

ROOT = "1.2.840.10008.1.2."
GREY16 = PixelDescription(64, 64, 1, 16, 12, 11, 0, "MONOCHROME2")
GREY8 = PixelDescription(64, 64, 1, 8, 8, 7, 0, "MONOCHROME2")
RGB = PixelDescription(64, 64, 3, 8, 8, 7, 0, "RGB")
PALETTE = PixelDescription(64, 64, 1, 8, 8, 7, 0, "PALETTE COLOR")
BINARY = PixelDescription(64, 64, 1, 1, 1, 0, 0, "MONOCHROME2")
FLOAT = PixelDescription(64, 64, 1, 32, 0, 0, 0, "MONOCHROME2")
WIDE = PixelDescription(64, 64, 1, 32, 32, 31, 0, "MONOCHROME2")


@pytest.mark.parametrize("target", sorted(TARGETS))
@pytest.mark.parametrize(
    "stored", ["1", "2", "1.99", "5", "4.50", "4.70", "4.80", "4.90", "8.1"]
)
def test_plain_grey_goes_from_every_syntax_to_every_other(stored, target):
    assert refusal(ROOT + stored, GREY8, target) == ""


@pytest.mark.parametrize(
    ("description", "possible"),
    [
        (GREY16, {"1", "5", "4.70", "4.80", "4.90", "4.201"}),
        (GREY8, {"1", "5", "4.50", "4.70", "4.80", "4.90", "4.201"}),
        (RGB, {"1", "5", "4.50", "4.70", "4.80", "4.90", "4.201"}),
        (PALETTE, {"1", "5", "4.70", "4.80", "4.90", "4.201"}),
        (BINARY, {"1"}),
        (FLOAT, {"1"}),
        (WIDE, {"1", "5"}),
        (None, {"1"}),
    ],
    ids=["grey16", "grey8", "rgb", "palette", "binary", "float", "32bit", "no image"],
)
def test_each_kind_of_pixel_has_the_targets_the_standard_gives_it(description, possible):
    offered = {target for target in TARGETS if not refusal(ROOT + "1", description, target)}
    assert offered == {ROOT + arc for arc in possible}


@pytest.mark.parametrize("stored", ["4.100", "4.102", "4.107", "4.94", "4.205", "4.999"])
def test_video_and_what_nobody_decodes_is_refused_with_its_name(stored):
    reason = refusal(ROOT + stored, GREY8, ROOT + "1")
    assert "not decoded here" in reason
    assert "as stored" in reason


def test_a_syntax_that_is_never_written_is_refused_with_the_list_of_those_that_are():
    reason = refusal(ROOT + "1", GREY8, ROOT + "4.57")
    assert all(target in reason for target in TARGETS)


def test_without_the_extra_the_refusal_says_what_to_install(monkeypatch):
    monkeypatch.setattr(targets, "has_codecs", lambda: False)
    for stored, target in (("1", "4.201"), ("4.110", "1")):
        assert "fileroom[codecs]" in refusal(ROOT + stored, GREY8, ROOT + target)
    assert refusal(ROOT + "4.201", GREY8, ROOT + "1") == ""


def test_the_answer_needs_no_decoder():
    code = (
        "import sys; import archive.render.targets; "
        "sys.exit(any(name in sys.modules for name in ('numpy', 'openjpeg', 'imagecodecs')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_an_overlay_in_the_unused_bits_is_seen():
    # PS3.5 §8.1.2: an overlay without data of its own lies in the pixel cells.
    position = {"vr": "US", "Value": [12]}
    data = {"vr": "OW", "BulkDataURI": "bulkdata/60003000"}
    assert embedded_overlay({"60000102": position})
    assert embedded_overlay({"60020102": position, "60003000": data})
    assert not embedded_overlay({"60000102": position, "60003000": data})
    assert not embedded_overlay({"60000102": {"vr": "US", "Value": [0]}})
    assert not embedded_overlay({"60000102": {"vr": "US"}, "00280102": position})

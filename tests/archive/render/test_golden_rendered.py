"""Rendered images against an independent pipeline, pixel by pixel, over real files."""

import io
import warnings

import numpy as np
import pydicom
import pytest
from PIL import Image

from archive.auth.principal import ANONYMOUS
from archive.errors import ArchiveError
from archive.render.options import RenderOptions, Window
from tests.archive.render import reference
from tests.conftest import make_config, running_archive, store

ASKED = [
    (40.0, 400.0, "LINEAR"),
    (300.5, 901.0, "LINEAR_EXACT"),
    (128.0, 200.0, "SIGMOID"),
]


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    with running_archive(make_config(tmp_path_factory.mktemp("golden") / "data")) as archive:
        yield archive


def rendered(archive, ref, number, window=None) -> np.ndarray:
    options = RenderOptions(media_type="image/png", window=window and Window(*window))
    got = archive.render.render(ANONYMOUS, ref, number, options)
    return np.asarray(Image.open(io.BytesIO(got.body))).astype(float)


def frames_of(dataset) -> list[int]:
    count = int(str(dataset.get("NumberOfFrames") or 1).strip("A") or 1)
    return sorted({0, count // 2, count - 1})


def compare(archive, path, *, windows) -> int:
    """Compare a file's frames; how many images were compared."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(path, force=True)
        if "Rows" not in dataset or "PhotometricInterpretation" not in dataset:
            return 0
        try:
            outcome = store(archive, path)
        except ArchiveError:
            return 0
        if outcome.disposition == "held":
            return 0  # another file with its UIDs is the one that is shown
        ref, compared = outcome.ref, 0
        for index in frames_of(dataset):
            try:
                stored = reference.stored_values(path, index)
            except (ValueError, RuntimeError, AttributeError, KeyError, NotImplementedError):
                continue
            for window in (None, *windows):
                compared += compare_frame(archive, ref, dataset, stored, index, window, path)
        return compared


def compare_frame(archive, ref, dataset, stored, index, window, path) -> int:
    got = rendered(archive, ref, index + 1, window)
    if stored.ndim == 3 or dataset.PhotometricInterpretation == "PALETTE COLOR":
        if window is not None:
            return 0
        expected = reference.colour(dataset, stored, path)
    elif dataset.get("PixelPresentation") in ("COLOR", "MIXED") or stored.dtype.kind == "f":
        return 0  # tests of their own
    else:
        if dataset.BitsAllocated == 1 and window is None:
            expected = stored.astype(float) * 255
        else:
            expected = reference.grey(dataset, stored, index, window)
        if expected is None:
            return 0
    assert got.shape == expected.shape, (path.name, index, window)
    worst = np.abs(got - expected).max()
    assert worst <= 1, (path.name, index, window, worst)
    return 1


def test_every_decodable_file_of_the_wheel_is_shown_as_the_reference_says(held, wheel_files):
    compared = sum(compare(held, path, windows=ASKED) for path in wheel_files)
    assert compared > 85


def test_every_decodable_file_of_the_collection_is_shown_as_the_reference_says(
    held, shared_dicom
):
    files = sorted((shared_dicom / "valid").glob("*.dcm"))
    compared = sum(compare(held, path, windows=ASKED[:1]) for path in files)
    assert compared > 230

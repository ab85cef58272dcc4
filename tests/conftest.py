"""What every test may ask for."""

from pathlib import Path

import pydicom.data
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PYDICOM_DATA = Path(pydicom.data.__file__).resolve().parent


@pytest.fixture(scope="session")
def shared_dicom() -> Path:
    """The folder of 215 real DICOM files that lies beside the repository, where it does."""
    folder = REPOSITORY.parent / "shared" / "data" / "dicom"
    if not (folder / "manifest.csv").is_file():
        pytest.skip("NOT TESTED: the real-file collection ../shared/data/dicom is not here")
    return folder


@pytest.fixture(scope="session")
def wheel_files() -> list[Path]:
    """Every real DICOM file that pydicom's wheel carries, in a stable order."""
    folders = [PYDICOM_DATA / "test_files", PYDICOM_DATA / "charset_files"]
    return sorted(path for folder in folders for path in folder.glob("*.dcm"))

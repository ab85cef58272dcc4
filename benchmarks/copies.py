"""Many real studies from a few real files: what they hold under new UIDs, of other patients."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pydicom
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

# Instances of studies in a row: three each on average, in one series or two.
_SHAPES: Final = ((1,), (2,), (3,), (3, 1), (2, 3))
_ROOT: Final = "2.25.31415926535"


@dataclass(frozen=True)
class Copied:
    """What was written of one study."""

    study_instance_uid: str
    files: tuple[Path, ...]


def copies(sources: list[Path], folder: Path, studies: int) -> Iterator[Copied]:
    """Write studies to ``folder``, each of one source or two, and yield what was written.

    Parameters
    ----------
    sources
        Real files; those that pydicom cannot write again as they are, are passed over.
    """
    usable = [source for source in sources if _is_copied(source, folder)]
    for number in range(studies):
        shape = _SHAPES[number % len(_SHAPES)]
        study = f"{_ROOT}.{number + 1}"
        files: list[Path] = []
        for position, count in enumerate(shape, 1):
            # Another of the sources each time the same shape comes round.
            source = usable[(number + number // len(usable) + position) % len(usable)]
            dataset = pydicom.dcmread(source)
            dataset.StudyInstanceUID = study
            dataset.SeriesInstanceUID = f"{study}.{position}"
            # Two studies a patient; names stay: they are of many character sets.
            dataset.PatientID = f"M{number // 2:06d}"
            for ordinal in range(1, count + 1):
                path = folder / f"{number:06d}" / f"{position}-{ordinal}.dcm"
                path.parent.mkdir(parents=True, exist_ok=True)
                dataset.InstanceNumber = ordinal
                _write(dataset, f"{study}.{position}.{ordinal}", path)
                files.append(path)
        yield Copied(study, tuple(files))


def large(path: Path) -> None:
    """Write a CT that has more than one part of an upload: 12 MB of pixels."""
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    dataset.Rows = dataset.Columns = 2450
    dataset.PixelData = bytes(range(250)) * (2 * 2450 * 2450 // 250)
    dataset.StudyInstanceUID = f"{_ROOT}.0"
    dataset.SeriesInstanceUID = f"{_ROOT}.0.1"
    _write(dataset, f"{_ROOT}.0.1.1", path)


def _write(dataset: Dataset, uid: str, path: Path) -> None:
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
    dataset.save_as(path)


def _is_copied(source: Path, folder: Path) -> bool:
    folder.mkdir(parents=True, exist_ok=True)
    tried = folder / "tried.dcm"
    try:
        dataset = pydicom.dcmread(source)
        _write(dataset, str(dataset.SOPInstanceUID), tried)
    except Exception:  # noqa: BLE001 - whatever it is, there are others
        return False
    finally:
        tried.unlink(missing_ok=True)
    return True

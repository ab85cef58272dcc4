"""What processes have loaded: who supervises next to nothing, workers no decoders."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from archive.image import kind_of

ROOT = Path(__file__).parents[2]
DECODERS = {"numpy", "PIL", "pylibjpeg", "libjpeg", "openjpeg", "jpeg_ls", "rle"}
LARGE = DECODERS | {"requests", "cryptography", "jwt", "typer", "rich"}


def loaded(program: str) -> set[str]:
    """The modules that a fresh process has after ``program``."""
    code = f"import json, sys\n{program}\nprint(json.dumps(list(sys.modules)))"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(json.loads(ended.stdout))


@pytest.mark.parametrize("room", ["('dimse.server', 'dimse.courier')", "('dicomweb.worker',)"])
def test_workers_come_from_an_image_without_decoders(room):
    program = f"from archive import image\nimage._load(image._SHARED)\nimage._load({room})"
    assert not loaded(program) & LARGE


def test_what_is_not_in_the_image_can_be_loaded_by_who_needs_it():
    program = (
        "from archive import image\nimage._load(image._SHARED)\n"
        "import archive.render.run, archive.dicom.raster"
    )
    assert loaded(program) >= {"numpy", "PIL"}


def test_who_supervises_has_loaded_neither_settings_nor_index():
    modules = loaded("import archive.supervisor")
    large = LARGE | {"pydantic", "sqlalchemy", "pydicom", "pynetdicom", "starlette", "asyncio"}
    assert not modules & large


def test_the_command_that_serves_loads_no_archive():
    assert not loaded("import archive.cli.serving") & (DECODERS | {"sqlalchemy", "pydicom"})


def test_the_kind_of_a_worker_is_in_its_name():
    assert kind_of("dicom-12") == "dicom"

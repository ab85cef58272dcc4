"""What tests with foreign programs share."""

import os
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY
from tests.interop.browser import browser


@pytest.fixture(scope="session")
def viewer_folder(tmp_path_factory):
    """The viewer, installed as an operator does it."""
    folder = tmp_path_factory.mktemp("ohif")
    ended = subprocess.run(
        [sys.executable, "-m", "archive", "viewer", "install"],
        env=os.environ | {"FILEROOM_VIEWER__FOLDER": str(folder)},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    if ended.returncode != 0:
        pytest.skip(f"NOT TESTED: the viewer could not be installed: {ended.stderr[-400:]}")
    return folder


@pytest.fixture(scope="session")
def playwright():
    """What drives browsers."""
    driver = pytest.importorskip(
        "playwright.sync_api", reason="NOT TESTED: playwright is not installed"
    )
    with driver.sync_playwright() as started:
        yield started


@pytest.fixture(scope="session")
def chromium(playwright):
    """A headless browser."""
    with browser(playwright) as launched:
        yield launched

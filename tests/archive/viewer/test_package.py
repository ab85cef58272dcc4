"""Fetching with npm: what it is asked for, and what is said when it fails."""

import pytest

from archive.viewer.package import OHIF, ViewerError, check_integrity, fetch
from tests.conftest import REPOSITORY


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """Put a program of our own in npm's place."""
    programs = tmp_path / "programs"
    programs.mkdir()

    def make(script):
        program = programs / "npm"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")

    return make


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "scratch"
    place.mkdir()
    return place


def test_npm_is_asked_for_one_version_and_runs_no_script_of_it(npm, folder):
    npm('echo "$@" > asked; echo packed > ohif-app.tgz')
    assert fetch(OHIF, folder) == folder / "ohif-app.tgz"
    asked = (folder / "asked").read_text().split()
    assert asked[:2] == ["pack", f"@ohif/app@{OHIF.version}"]
    assert "--ignore-scripts" in asked


def test_without_npm_another_way_is_told(folder, monkeypatch):
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(ViewerError, match=r"npm is not here.*--file FILE"):
        fetch(OHIF, folder)


@pytest.mark.parametrize("mark", ["npm error", "npm ERR!"])
def test_what_npm_complains_of_is_passed_on(mark, npm, folder):
    npm(f'echo "{mark} code ENOTFOUND" >&2; echo "{mark} A complete log" >&2; exit 1')
    with pytest.raises(ViewerError, match=r"\(code ENOTFOUND\).*npm config get registry"):
        fetch(OHIF, folder)


def test_npm_that_says_well_but_leaves_no_file_is_a_failure(npm, folder):
    npm("exit 0")
    with pytest.raises(ViewerError, match="npm said nothing"):
        fetch(OHIF, folder)


def test_npm_that_hangs_is_given_up(npm, folder, monkeypatch):
    npm("exec sleep 30")
    monkeypatch.setattr("archive.viewer.package._TIMEOUT_S", 0.2)
    with pytest.raises(ViewerError, match="did not fetch"):
        fetch(OHIF, folder)


def test_a_checksum_is_over_every_byte(package, tmp_path):
    path, wanted = package
    check_integrity(path, wanted)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    altered = tmp_path / "altered.tgz"
    altered.write_bytes(content)
    with pytest.raises(ViewerError, match=r"altered\.tgz is not @example/viewer@1\.2\.3"):
        check_integrity(altered, wanted)


def test_the_image_and_the_documentation_name_the_version_that_is_known():
    for name in ("Dockerfile", "docs/viewer.md"):
        assert OHIF.spec in (REPOSITORY / name).read_text(), name

"""Unpacking the viewer: whole or not at all, and nothing outside its folder."""

import gzip
import tarfile
from dataclasses import replace

import pytest

from archive.viewer import install as installing
from archive.viewer.adapt import ROOT_MARK
from archive.viewer.install import current, install, missing_files, remove
from archive.viewer.installed import read_installed
from archive.viewer.package import ViewerError
from tests.archive.viewer.conftest import FILES, packed


@pytest.fixture
def installed(package, tmp_path):
    path, wanted = package
    return install(path, tmp_path / "viewer", package=wanted)


def test_only_what_is_served_is_unpacked(installed):
    assert sorted(installed.files) == [
        "0ddf166f7a343eda.wasm",
        "LICENSE",
        "a34f9d1faa5f3315.woff2",
        "app.bundle.0123456789abcdef.js",
        "app.bundle.css",
        "assets/icon.png",
        "index.html",
        "manifest.json",
    ]
    on_disk = {
        str(path.relative_to(installed.folder))
        for path in installed.folder.rglob("*")
        if path.is_file() and path.suffix != ".gz"
    }
    assert on_disk == set(installed.files)


def test_the_list_on_disk_is_what_was_installed(installed, package):
    assert read_installed(installed.folder.parent) == installed
    assert current(installed.folder.parent, package[1]) == installed
    assert missing_files(installed) == []
    assert installed.version == "1.2.3"


def test_scripts_find_their_place_when_they_run(installed):
    script = (installed.folder / "app.bundle.0123456789abcdef.js").read_text()
    assert 'p = "/"' not in script
    assert 'self.PUBLIC_URL || new URL("./", self.location.href).href' in script
    assert "window.PUBLIC_URL + 'dicom-microscopy-viewer/a.min.js'" in script


def test_styles_and_manifest_name_files_beside_them(installed):
    assert b"url(a34f9d1faa5f3315.woff2)" in (installed.folder / "app.bundle.css").read_bytes()
    assert b'"assets/icon.png"' in (installed.folder / "manifest.json").read_bytes()


def test_the_page_has_a_mark_where_its_path_goes_and_other_hosts_stay(installed):
    page = (installed.folder / "index.html").read_text()
    assert f'PUBLIC_URL="{ROOT_MARK}"' in page
    assert f'src="{ROOT_MARK}app.bundle.0123456789abcdef.js"' in page
    assert 'href="//elsewhere.example/"' in page


def test_the_page_starts_no_script_about_service_workers(installed):
    page = (installed.folder / "index.html").read_text()
    assert "service-worker" not in page
    assert page.count("<script") == 2


def test_what_is_worth_it_is_also_there_compressed(installed):
    for name in ("app.bundle.0123456789abcdef.js", "0ddf166f7a343eda.wasm"):
        assert installed.files[name].compressed
        whole = (installed.folder / name).read_bytes()
        assert gzip.decompress((installed.folder / f"{name}.gz").read_bytes()) == whole
    assert not installed.files["assets/icon.png"].compressed
    assert not installed.files["index.html"].compressed


def test_another_package_is_refused_and_nothing_is_written(package, tmp_path):
    path, wanted = package
    with pytest.raises(ViewerError, match="checksum"):
        install(path, tmp_path / "viewer", package=replace(wanted, integrity="sha512-AAAA"))
    assert not (tmp_path / "viewer").exists()


def test_a_file_that_is_not_there_is_named(tmp_path, package):
    with pytest.raises(ViewerError, match=r"nowhere\.tgz cannot be read"):
        install(tmp_path / "nowhere.tgz", tmp_path / "viewer", package=package[1])


@pytest.mark.parametrize(
    "name",
    [
        "package/dist/../../../outside.js",
        "package/dist/a/../../../outside.js",
        "package/dist//etc/outside.js",
        "package/dist/..\\outside.js",
        "package/dist/./index.html",
    ],
)
def test_a_name_that_leads_elsewhere_ends_it(name, tmp_path):
    path, wanted = packed(tmp_path, {**FILES, name: b"x"})
    with pytest.raises(ViewerError, match="names a file"):
        install(path, tmp_path / "deep" / "viewer", package=wanted)
    assert not list(tmp_path.rglob("outside*"))
    assert list((tmp_path / "deep" / "viewer").iterdir()) == []


def test_links_are_left_out(tmp_path):
    link = tarfile.TarInfo("package/dist/link.js")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    hard = tarfile.TarInfo("package/dist/hard.js")
    hard.type, hard.linkname = tarfile.LNKTYPE, "package/LICENSE"
    path, wanted = packed(tmp_path, members=[link, hard])
    installed = install(path, tmp_path / "viewer", package=wanted)
    assert not {"link.js", "hard.js"} & set(installed.files)
    assert not (installed.folder / "link.js").is_symlink()


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b\x08\x00broken"])
def test_what_is_no_package_is_refused_as_such(content, tmp_path, monkeypatch):
    path = tmp_path / "package.tgz"
    path.write_bytes(content)
    monkeypatch.setattr(installing, "check_integrity", lambda *_: None)
    with pytest.raises(ViewerError):
        install(path, tmp_path / "viewer")
    assert list((tmp_path / "viewer").iterdir()) == []


def test_a_package_without_a_page_is_refused(tmp_path):
    path, wanted = packed(tmp_path, {"package/dist/a.js": b"x"})
    with pytest.raises(ViewerError, match="no prebuilt viewer"):
        install(path, tmp_path / "viewer", package=wanted)


def test_a_page_that_names_no_path_is_refused(tmp_path):
    path, wanted = packed(tmp_path, {"package/dist/index.html": b"<html></html>"})
    with pytest.raises(ViewerError, match="cannot be adapted"):
        install(path, tmp_path / "viewer", package=wanted)


def test_a_failed_installation_leaves_the_old_one_whole(installed, tmp_path):
    folder = installed.folder.parent
    path, wanted = packed(tmp_path, {"package/dist/a.js": b"x"}, version="2.0.0")
    with pytest.raises(ViewerError):
        install(path, folder, package=wanted)
    assert read_installed(folder) == installed
    assert missing_files(installed) == []
    assert [path.name for path in folder.glob("ohif-*")] == [installed.folder.name]


def test_a_new_one_takes_the_place_of_the_old_one(installed, tmp_path):
    folder = installed.folder.parent
    path, wanted = packed(tmp_path, version="2.0.0")
    newer = install(path, folder, package=wanted)
    assert read_installed(folder) == newer
    assert newer.version == "2.0.0"
    assert not installed.folder.exists()


def test_one_that_lost_a_file_or_is_of_another_making_is_not_current(
    installed, package, monkeypatch
):
    folder, wanted = installed.folder.parent, package[1]
    assert current(folder, replace(wanted, integrity="sha512-AAAA")) is None
    monkeypatch.setattr(installing, "REVISION", 0)
    assert current(folder, wanted) is None
    monkeypatch.undo()
    (installed.folder / "app.bundle.css").write_bytes(b"cut")
    assert missing_files(installed) == ["app.bundle.css"]
    assert current(folder, wanted) is None


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"version": 1}', b"\xff"])
def test_a_list_that_cannot_be_read_is_no_viewer(content, tmp_path):
    (tmp_path / "installed.json").write_bytes(content)
    assert read_installed(tmp_path) is None


def test_removing_takes_the_viewer_and_nothing_else(installed):
    folder = installed.folder.parent
    (folder / "notes.txt").write_text("somebody's")
    assert remove(folder)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    assert not remove(folder)
    (folder / "notes.txt").unlink()
    assert not remove(folder)
    assert not folder.exists()
    assert not remove(folder)


def test_a_folder_that_cannot_be_made_says_which_setting(package, tmp_path):
    path, wanted = package
    (tmp_path / "file").write_text("")
    with pytest.raises(ViewerError, match=r"\[viewer\] folder"):
        install(path, tmp_path / "file" / "viewer", package=wanted)

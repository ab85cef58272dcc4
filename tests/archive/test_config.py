"""Settings refuse what is wrong in words an operator can act on."""

from pathlib import Path

import pytest

from archive.config import ConfigError, is_loopback, load_config


@pytest.fixture
def settings(tmp_path):
    """Write a settings file and read it."""

    def load(text: str):
        file = tmp_path / "config.toml"
        file.write_text(text)
        return load_config(file)

    return load


def test_an_unknown_key_of_a_peer_names_the_nearest_known_one(settings):
    with pytest.raises(ConfigError, match="'ae_title'"):
        settings('[[dimse.peers]]\nae_titel = "X"\nhost = "h"\nport = 104\n')


def test_a_list_in_the_environment_that_is_no_json_is_explained(settings, monkeypatch):
    monkeypatch.setenv("FILEROOM_AUTH__ALLOW_ANONYMOUS", "read")
    with pytest.raises(ConfigError, match=r"ALLOW_ANONYMOUS must be JSON, e\.g\. \[\"read\"\]"):
        settings("")
    monkeypatch.setenv("FILEROOM_AUTH__ALLOW_ANONYMOUS", '["read"]')
    assert settings("").auth.allow_anonymous == ("read",)


def test_a_section_in_the_environment_that_is_no_json_is_explained(settings, monkeypatch):
    monkeypatch.setenv("FILEROOM_HTTP", "8080")
    monkeypatch.setenv("FILEROOM_DIMSE", "{")
    with pytest.raises(ConfigError, match="FILEROOM_DIMSE must be JSON"):
        settings("")


def test_text_in_the_environment_is_taken_as_it_stands(settings, monkeypatch):
    monkeypatch.setenv("FILEROOM_DIMSE__AE_TITLE", "ROOM 7")
    assert settings("").dimse.ae_title == "ROOM 7"


def test_a_home_folder_is_expanded_and_a_relative_one_begins_at_the_file(settings, tmp_path):
    assert settings('[archive]\ndata_dir = "~/room"\n').archive.data_dir == Path.home() / "room"
    assert settings('[archive]\ndata_dir = "room"\n').archive.data_dir == tmp_path / "room"


def test_without_a_file_the_data_folder_begins_at_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config().archive.data_dir == tmp_path / "data"


def test_what_is_no_toml_is_named(settings):
    with pytest.raises(ConfigError, match="is not TOML"):
        settings("[http\n")


@pytest.mark.parametrize("section", ["http", "dimse"])
def test_either_face_beyond_loopback_needs_the_operators_word(settings, section):
    with pytest.raises(ConfigError, match=rf"\[{section}\] host = '10\.0\.0\.1'"):
        settings(f'[{section}]\nhost = "10.0.0.1"\n')


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True),
     ("0.0.0.0", False), ("::", False), ("", False), ("room.example.org", False)],
)  # fmt: skip
def test_only_addresses_that_never_leave_the_machine_are_loopback(host, local):
    assert is_loopback(host) is local

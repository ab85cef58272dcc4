"""What must agree across the project."""

import re
import subprocess
import sys
import tomllib

import pytest

from archive import errors
from archive.config import Config, ConfigError, load_config
from archive.ingest.outcome import Remark
from dicomweb.errors import ERRORS, WARNING_REASONS
from dimse.statement import BLOCKS, renewed
from dimse.status import STATUSES, WARNINGS
from tests.conftest import REPOSITORY


def subclasses(kind) -> set[type]:
    return {
        kind_ for direct in kind.__subclasses__() for kind_ in {direct, *subclasses(direct)}
    }


def test_every_error_has_its_line_in_both_faces():
    ours = {
        kind for kind in subclasses(errors.ArchiveError) if kind.__module__ == errors.__name__
    }
    assert set(STATUSES) == set(ERRORS) == ours
    assert set(WARNINGS) == set(Remark)
    assert set(WARNING_REASONS) == set(Remark) - {Remark.NONE}


def settings() -> dict[str, object]:
    return {
        f"{section}.{key}": field.default
        for section, of_section in Config.model_fields.items()
        for key, field in of_section.annotation.model_fields.items()
    }


def test_config_toml_holds_every_setting_with_its_default():
    text = (REPOSITORY / "config.toml").read_text()
    # Every setting stands there as a comment that could be taken away.
    for example in ("# [[dimse.peers]]", "# [[dimse.forward]]"):
        before, _, after = text.partition(example)
        text = before + after.partition("\n\n")[2]
    written = tomllib.loads(re.sub(r"(?m)^# (?=[a-z_]+ = )", "", text))
    flat = {f"{s}.{k}": v for s, keys in written.items() for k, v in keys.items()}
    tables = {"dimse.peers", "dimse.forward"}
    expected = {key: value for key, value in settings().items() if key not in tables}
    assert set(flat) == set(expected)
    for key, value in expected.items():
        plain = list(value) if isinstance(value, tuple) else value
        assert flat[key] == (
            plain if isinstance(plain, bool | int | float | list) else str(plain)
        )


def test_the_documentation_lists_every_setting():
    text = (REPOSITORY / "docs" / "configuration.md").read_text()
    missing = [key for key in settings() if f"`{key.partition('.')[2]}`" not in text]
    assert missing == []


def test_an_unknown_setting_names_the_nearest_known_one(tmp_path, monkeypatch):
    file = tmp_path / "config.toml"
    file.write_text("[http]\nprot = 1\n")
    with pytest.raises(ConfigError, match="'port'"):
        load_config(file)
    file.write_text("[htp]\nport = 1\n")
    with pytest.raises(ConfigError, match="'http'"):
        load_config(file)
    file.write_text("")
    monkeypatch.setenv("FILEROOM_DIMSE__AE_TITEL", "X")
    with pytest.raises(ConfigError, match="'ae_title'"):
        load_config(file)


def test_a_wrong_value_names_its_setting(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text("[http]\nport = 99999\n")
    with pytest.raises(ConfigError, match=r"http\.port"):
        load_config(file)


def test_the_environment_wins_over_the_file(tmp_path, monkeypatch):
    file = tmp_path / "config.toml"
    file.write_text("[http]\nport = 1234\nworkers = 3\n")
    monkeypatch.setenv("FILEROOM_HTTP__PORT", "4321")
    config = load_config(file)
    assert (config.http.port, config.http.workers) == (4321, 3)
    assert config.archive.data_dir == tmp_path / "data"


def test_an_open_address_needs_the_operators_word(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text('[http]\nhost = "0.0.0.0"\n')
    with pytest.raises(ConfigError, match="allow_anonymous"):
        load_config(file)
    file.write_text('[http]\nhost = "0.0.0.0"\n[auth]\nallow_anonymous = ["read"]\n')
    assert load_config(file).auth.allow_anonymous == ("read",)


COMMANDS = [
    "serve", "import", "export", "send", "status", "verify", "rebuild-index", "migrate-index",
    "migrate-objects", "delete", "restore", "purge", "doctor", "demo", "commitments list",
    "peer add", "forward add", "user add", "viewer install", "viewer status", "viewer remove",
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_teaches(command):
    ended = subprocess.run(
        [sys.executable, "-m", "archive", *command.split(), "--help"],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    assert ended.returncode == 0
    examples = ended.stdout.partition("\n  Examples:\n")[2]
    assert examples.startswith(f"    fileroom {command}")  # one a line, as it is written
    assert "Exit status" in ended.stdout


@pytest.mark.parametrize("statement", ["dicomweb.md", "dimse.md"])
def test_every_test_that_a_conformance_statement_names_exists(statement):
    text = (REPOSITORY / "docs" / "conformance" / statement).read_text()
    named = re.findall(r"`([a-z0-9_/]+\.py)(?:::(\w+))?`", text)
    assert len(named) > 50
    for file, function in named:
        path = REPOSITORY / "tests" / file
        assert path.is_file(), file
        assert not function or f"def {function}(" in path.read_text(), f"{file}::{function}"


def test_the_tables_of_the_dimse_statement_are_those_of_the_code():
    text = (REPOSITORY / "docs" / "conformance" / "dimse.md").read_text()
    assert len(BLOCKS) == text.count("<!-- made of ")
    assert renewed(text) == text, "run `make docs`"

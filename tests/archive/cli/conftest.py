import json

import pytest
from typer.testing import CliRunner

from archive.cli import common
from archive.cli.main import program as made
from archive.config import load_config
from tests import postgresql


class Program:
    """`fileroom` without a process of its own, on an archive of its own."""

    def __init__(self) -> None:
        self.config = load_config()

    def run(self, *arguments: str):
        return CliRunner().invoke(made(arguments), arguments)

    def report(self, *arguments: str):
        return json.loads(self.run(*arguments, "--json").stdout)


@pytest.fixture
def program(tmp_path, monkeypatch) -> Program:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FILEROOM_ARCHIVE__DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("FILEROOM_ARCHIVE__KEEP_FREE_BYTES", "0")
    if postgresql.EVERYWHERE:
        url = postgresql.index_url(tmp_path / "data")
        monkeypatch.setenv("FILEROOM_INDEX__URL", url)
    monkeypatch.setattr(common, "configure_logging", lambda level: None)
    monkeypatch.setattr(common.console, "width", 200)
    return Program()

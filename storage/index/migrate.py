"""Bring an index to the schema of this version (Alembic, forward only)."""

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from storage.index.engine import IndexEngine

_SCRIPTS: Final = Path(__file__).resolve().parent / "migrations"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    return config


def migrate(engine: IndexEngine) -> None:
    """Run the migrations that this index has not seen, in one transaction each."""
    config = _config()
    with engine.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def current_revision(engine: IndexEngine) -> str | None:
    """Return the revision the index is at; None when it is empty."""
    with engine.read() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def latest_revision() -> str | None:
    """Return the revision that this version of the program needs."""
    return ScriptDirectory.from_config(_config()).get_current_head()

"""Bring an index to the schema of this version (Alembic, forward only).

Alembic takes 10 MB and a quarter of a second to load, in every process that could migrate but
does not: it is loaded when it is asked something.
"""

import importlib
from pathlib import Path
from typing import Any, Final

from sqlalchemy import delete, select, update

from storage.index.engine import IndexEngine
from storage.index.tables import KEPT, counter, metadata

_SCRIPTS: Final = Path(__file__).resolve().parent / "migrations"


def _config() -> Any:  # noqa: ANN401 - Alembic's configuration
    config = importlib.import_module("alembic.config").Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    return config


def migrate(engine: IndexEngine) -> None:
    """Run the migrations that this index has not seen, in one transaction each."""
    config = _config()
    with engine.write() as connection:
        config.attributes["connection"] = connection
        importlib.import_module("alembic.command").upgrade(config, "head")


def empty(engine: IndexEngine) -> None:
    """Remove every row that objects can tell again, and count changes from the beginning."""
    with engine.write() as connection:
        for table in reversed(metadata.sorted_tables):
            if table is not counter and KEPT not in table.info:
                connection.execute(delete(table))
        connection.execute(update(counter).values(value=0))
        # Whoever follows the feed begins anew where the new one ends.
        connection.execute(delete(counter).where(counter.c.name != "change"))
        if engine.is_sqlite:
            connection.exec_driver_sql("INSERT INTO study_text (study_text) VALUES ('rebuild')")


def carry_over(old: IndexEngine, new: IndexEngine) -> None:
    """Copy what no object can tell from one index to another of the same schema."""
    for table in metadata.sorted_tables:
        if KEPT in table.info:
            with old.read() as connection:
                rows = [row._asdict() for row in connection.execute(select(table))]
            if rows:
                with new.write() as connection:
                    connection.execute(table.insert(), rows)


def current_revision(engine: IndexEngine) -> str | None:
    """Return the revision the index is at; None when it is empty."""
    context = importlib.import_module("alembic.runtime.migration").MigrationContext
    with engine.read() as connection:
        revision: str | None = context.configure(connection).get_current_revision()
    return revision


def latest_revision() -> str | None:
    """Return the revision that this version of the program needs."""
    scripts = importlib.import_module("alembic.script").ScriptDirectory
    revision: str | None = scripts.from_config(_config()).get_current_head()
    return revision

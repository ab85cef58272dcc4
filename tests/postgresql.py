"""PostgreSQL for the tests: a cluster of our own, and a database for each archive.

With ``TEST_INDEX=postgresql`` in the environment every archive of the tests that does
not name its index has one in PostgreSQL; without it only the tests that ask for PostgreSQL.
"""

import atexit
import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

from storage.index.engine import IndexEngine
from storage.index.migrate import migrate

EVERYWHERE = os.environ.get("TEST_INDEX") == "postgresql"
_TEMPLATE = "fileroom_template"
# Sorts as people do, which no index may: the archive's order is that of code points.
_LOCALE = ("--locale-provider=icu", "--icu-locale=en-US", "--locale=C.UTF-8")


class Cluster:
    """A PostgreSQL server on loopback that can be stopped and started.

    Parameters
    ----------
    port
        Where it listens.
    settings
        Of the server, beyond those that make it fast for tests.
    """

    def __init__(self, port: int, **settings: str) -> None:
        folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        if not folders:
            pytest.skip("NOT TESTED: PostgreSQL's programs are not installed")
        # Its server refuses to run as root: another user of this machine lends its name.
        self._as_user: list[str] = []
        if os.geteuid() == 0:
            if shutil.which("runuser") is None:
                pytest.skip("NOT TESTED: PostgreSQL does not run as root; runuser is missing")
            self._as_user = ["runuser", "-u", "postgres", "--"]
        self._programs, self.port = folders[-1], port
        self._place = Path(tempfile.mkdtemp(prefix="fileroom-postgres-", dir="/tmp"))
        self._place.chmod(0o777)
        chosen = {"listen_addresses": "127.0.0.1", "fsync": "off", "max_connections": "200"}
        self._settings = chosen | settings
        self._templates: set[str] = set()
        self._run("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "-N", *_LOCALE)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [*self._as_user, self._programs / program, "-D", self._place / "data", *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL if program == "pg_ctl" else None,
            cwd="/",
        )

    def start(self) -> None:
        """Start it; it answers when this returns."""
        settings = " ".join(f"-c {name}={value}" for name, value in self._settings.items())
        options = f"-p {self.port} -k {self._place} {settings}"
        log = str(self._place / "log")
        self._run("pg_ctl", "-w", "-t", "120", "-o", options, "-l", log, "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop it: "fast" ends sessions in order, "immediate" is a crash."""
        self._run("pg_ctl", "-w", "-t", "120", "-m", mode, "stop")

    def remove(self) -> None:
        """Stop it, if it runs, and delete everything."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self.stop("immediate")
        shutil.rmtree(self._place, ignore_errors=True)

    def url(self, name: str) -> str:
        """Return the URL of a database, as settings have it."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def execute(self, statement: str) -> None:
        """Run a statement outside of any transaction, in no database of the tests."""
        import psycopg

        address = f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres"
        with psycopg.connect(address, autocommit=True) as admin:
            admin.execute(statement)

    def new_database(self, *, migrated: bool = False) -> str:
        """Make a database, empty or with the schema; return its name."""
        name = f"test_{os.getpid()}_{time.monotonic_ns()}"
        template = "template1"
        if migrated:
            template = _TEMPLATE
            if template not in self._templates:
                self.execute(f"CREATE DATABASE {template}")
                engine = IndexEngine(self.url(template).replace("://", "+psycopg://"))
                migrate(engine)
                engine.close()
                self._templates.add(template)
        # A copy of files: with fsync off faster than a copy by way of the log.
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return name

    def drop(self, name: str) -> None:
        """Delete a database, whoever uses it."""
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


_lock = threading.Lock()
_cluster: list[Cluster] = []
# The database of each archive, by its folder.
_databases: dict[Path, str] = {}


def cluster() -> Cluster:
    """Return the server that this process of the tests shares; it is started once."""
    from tests.conftest import free_port

    with _lock:
        if not _cluster:
            made = Cluster(free_port())
            atexit.register(made.remove)
            made.start()
            _cluster.append(made)
        return _cluster[0]


def index_url(data_dir: Path) -> str:
    """Return the URL of the database of the archive in ``data_dir``, made when first asked."""
    server = cluster()
    with _lock:
        place = data_dir.resolve()
        if place not in _databases:
            _databases[place] = server.new_database(migrated=True)
        return server.url(_databases[place])


def forget_since(known: set[Path]) -> None:
    """Delete the databases of archives that are not among ``known``."""
    for place in _databases.keys() - known:
        _cluster[0].drop(_databases.pop(place))


def known() -> set[Path]:
    """Return the archives that have a database."""
    return set(_databases)

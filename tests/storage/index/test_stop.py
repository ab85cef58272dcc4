"""A read that is told to stop ends at once, in the middle of its statement."""

import threading
import time

import pytest
from sqlalchemy import text

from storage.errors import IndexBusyError
from storage.index.engine import IndexEngine, Stop

# Each runs for minutes, if it is let.
ENDLESS = {
    "sqlite": (
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 100000000000)"
        " SELECT count(*) FROM n"
    ),
    "postgresql": "SELECT pg_sleep(300)",
}


@pytest.fixture(params=sorted(ENDLESS))
def index(request, tmp_path):
    if request.param == "sqlite":
        engine = IndexEngine(f"sqlite:///{tmp_path / 'index.db'}")
    else:
        engine = IndexEngine(request.getfixturevalue("postgres_url"))
    yield engine, ENDLESS[request.param]
    engine.close()


def test_a_statement_is_interrupted_and_no_other_begins(index):
    engine, endless = index
    stop = Stop()
    stoppable = engine.stoppable(stop)
    began, ended = threading.Event(), []

    def read():
        try:
            with stoppable.read() as connection:
                began.set()
                connection.execute(text(endless))
        except IndexBusyError as error:
            ended.append(error)

    reading = threading.Thread(target=read)
    reading.start()
    assert began.wait(20)
    before = time.monotonic()
    # One that falls between two statements finds nothing to interrupt: it is said again.
    while reading.is_alive() and time.monotonic() - before < 20:
        stop.set()
        reading.join(0.1)
    assert len(ended) == 1
    with pytest.raises(IndexBusyError, match="stopped"), stoppable.read():
        pass
    with engine.read() as connection:  # what nobody stopped goes on
        assert connection.execute(text("SELECT 1")).scalar_one() == 1

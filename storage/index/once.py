"""Work that is done once over all nodes of an index: by the first who asks when it is due."""

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from storage.index.engine import IndexEngine
from storage.index.tables import counter


def due_here(engine: IndexEngine, name: str, *, now_us: int, every_us: int) -> bool:
    """Tell whether the caller is to do a piece of work now; nobody else is told so.

    Who dies of it is not replaced before the next once: for work that begins anew each time.

    Parameters
    ----------
    name
        Of the work.
    every_us
        How long nobody is told so again.
    """
    key = f"once:{name}"
    known = select(counter.c.value).where(counter.c.name == key)
    with engine.read() as connection:
        last = connection.execute(known).scalar()
    if last is None:
        return _first(engine, key, now_us)
    if last > now_us - every_us:
        return False  # most often: asked without a write
    # Whoever comes second waits for the first one's commit, and finds the condition false.
    taken = (
        update(counter)
        .where(counter.c.name == key, counter.c.value <= now_us - every_us)
        .values(value=now_us)
    )
    with engine.write() as connection:
        return connection.execute(taken).rowcount > 0


def _first(engine: IndexEngine, key: str, now_us: int) -> bool:
    try:
        with engine.write() as connection:
            connection.execute(insert(counter).values(name=key, value=now_us))
    except IntegrityError:
        return False  # another one was first
    return True

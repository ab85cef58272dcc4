"""The one place that chooses: which store, which index, and what is wired to what."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy.exc import SQLAlchemyError

from archive.auth.accounts import AccountService
from archive.auth.principal import OPERATOR
from archive.changes import ChangeService
from archive.commitment.service import CommitmentService
from archive.config import Config
from archive.errors import storage_translated
from archive.forward.queue import ForwardQueue
from archive.forward.retrying import Retrying
from archive.forward.rules import ForwardRules
from archive.forward.service import ForwardService
from archive.ingest.extract import describe
from archive.ingest.service import IngestService
from archive.lifecycle.ledger import POLICY, Ledger, LedgerEntry
from archive.lifecycle.migration import Migration
from archive.lifecycle.rebuild import REPLACE, Rebuilder
from archive.lifecycle.service import LifecycleService
from archive.lifecycle.verify import Verifier
from archive.log import get_logger
from archive.metrics import note_bucket_request
from archive.peers import PeerService
from archive.query.service import QueryService
from archive.render.cache import BoundedCache
from archive.render.pool import RenderPool
from archive.render.service import RenderService
from archive.retrieve.service import RetrieveService
from storage.errors import IndexUnavailableError, StorageError
from storage.index import clock
from storage.index.accounts import AccountRows
from storage.index.candidates import CandidateSearch
from storage.index.commitments import CommitmentTable
from storage.index.engine import IndexEngine
from storage.index.forward_deliveries import ForwardDeliveryRows
from storage.index.forward_jobs import ForwardJobRows
from storage.index.forward_rules import ForwardRuleRows
from storage.index.insertion import InstanceInserter
from storage.index.lifecycle import InstanceLifecycle
from storage.index.migrate import (
    carry_over,
    current_revision,
    empty,
    latest_revision,
    migrate,
)
from storage.index.peers import PeerRows
from storage.index.report import IndexReport
from storage.index.search import IndexSearch
from storage.index.selection import InstanceReader
from storage.index.standing import StandingReader
from storage.index.transfer import CopiedTable, count, transfer
from storage.objects.base import ObjectStore
from storage.objects.opening import open_store
from storage.objects.settings import BucketSettings

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Archive:
    """Every service of one archive, wired.

    It is a context manager: leaving it finishes what was taken in and closes the index.
    """

    config: Config
    ingest: IngestService
    query: QueryService
    retrieve: RetrieveService
    render: RenderService
    lifecycle: LifecycleService
    changes: ChangeService
    verifier: Verifier
    peers: PeerService
    accounts: AccountService
    commitments: CommitmentService
    forward: ForwardService
    engine: IndexEngine
    objects: ObjectStore

    def close(self) -> None:
        """Finish what was taken in, stop the pool, close the index."""
        self.ingest.close()
        self.render.close()
        self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def index_url(config: Config, named: str = "") -> str:
    """Return an index's URL as SQLAlchemy wants it; the settings' own, unless one is named."""
    url = named or config.index.url
    if url == "sqlite":
        return f"sqlite:///{config.archive.data_dir / 'index.db'}"
    scheme, separator, rest = url.partition("://")
    return f"postgresql+psycopg{separator}{rest}" if scheme == "postgresql" else url


def open_objects(config: Config, url: str | None = None) -> ObjectStore:
    """Return the object store that the settings name, or ``url`` where it is given.

    Raises
    ------
    UnavailableError
        If the library for buckets is not installed.
    """
    given = config.storage
    bucket = BucketSettings(
        url=url or given.url,
        endpoint=given.endpoint,
        region=given.region,
        allow_http=given.allow_http,
        path_style=given.addressing == "path",
        checksum=given.checksum,
        deadline_s=given.deadline_s,
        observe=note_bucket_request,
    )
    with storage_translated():
        return open_store(
            bucket,
            config.archive.data_dir,
            keep_free_bytes=config.archive.keep_free_bytes,
            cache_bytes=given.cache_bytes,
        )


def open_archive(config: Config, *, render_address: str | None = None) -> Archive:
    """Wire every service; the index must be prepared (`prepare`).

    Parameters
    ----------
    config
        The settings.
    render_address
        Where worker processes that decode pixels listen; without one the archive starts its
        own when the first pixel is asked for.
    """
    engine = IndexEngine(index_url(config), pool_size=config.index.pool_size)
    objects = open_objects(config)
    inserter = InstanceInserter(engine, replace=config.archive.conflict_policy == REPLACE)
    lifecycle = InstanceLifecycle(engine, describe)
    retrieve = RetrieveService(InstanceReader(engine), StandingReader(engine), objects)
    query = QueryService(IndexSearch(engine), CandidateSearch(engine))
    changes = ChangeService(IndexReport(engine))
    return Archive(
        config=config,
        ingest=IngestService(objects, inserter),
        query=query,
        retrieve=retrieve,
        render=RenderService(
            retrieve, _pool(config, render_address), BoundedCache(config.render.cache_bytes)
        ),
        lifecycle=LifecycleService(lifecycle, objects),
        changes=changes,
        verifier=Verifier(lifecycle, objects.uncached()),
        peers=PeerService(config, PeerRows(engine)),
        accounts=AccountService(config.auth, AccountRows(engine)),
        commitments=CommitmentService(
            CommitmentTable(engine), objects.uncached(), config.commitment
        ),
        forward=_forwarding(config, engine, changes, query),
        engine=engine,
        objects=objects,
    )


def _forwarding(
    config: Config, engine: IndexEngine, changes: ChangeService, query: QueryService
) -> ForwardService:
    jobs, deliveries = ForwardJobRows(engine), ForwardDeliveryRows(engine)
    rules = ForwardRules(config, ForwardRuleRows(engine))
    retrying = Retrying.of(config.dimse)
    queue = ForwardQueue(jobs, deliveries, rules, changes, query, retrying)
    return ForwardService(jobs, deliveries, rules, queue)


def prepare(config: Config, *, wait: bool = False) -> None:
    """Make the data directory and the index ready, and remove what a crash left behind.

    Runs once, before any worker: nothing may be in the middle of storing.

    Parameters
    ----------
    wait
        Whether an index that does not answer is waited for, [index] wait_s: machines that
        start together are not ready together.
    """
    config.archive.data_dir.mkdir(parents=True, exist_ok=True)
    engine = IndexEngine(index_url(config))
    try:
        with storage_translated():
            _await(engine, config.index.wait_s if wait else 0.0)
            if current_revision(engine) != latest_revision():
                migrate(engine)
            forwards = ForwardJobRows(engine)
            forwards.begin()  # what a new index holds has not newly arrived
            names = [rule.name for rule in config.dimse.forward]
            ForwardRuleRows(engine).register(names)
        objects = open_objects(config)
        with storage_translated():
            objects.require_ready()
        LifecycleService(InstanceLifecycle(engine), objects).sweep()
        if engine.is_sqlite:  # one node: whoever was at a request, or sent, is gone
            with storage_translated():
                forwards.let_go()
            table = CommitmentTable(engine)
            CommitmentService(table, objects.uncached(), config.commitment).free_all(OPERATOR)
        _record_policy(config, objects)
    finally:
        engine.close()


def _await(engine: IndexEngine, wait_s: float) -> None:
    end, pause_s = time.monotonic() + wait_s, 0.5
    while True:
        try:
            engine.probe()
        except IndexUnavailableError as error:
            if time.monotonic() + pause_s > end:
                raise
            reason = str(error)
            logger.warning("index.awaited", extra={"reason": reason, "again_in_s": pause_s})
        else:
            return
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 5.0)


def _record_policy(config: Config, objects: ObjectStore) -> None:
    # A rebuild of the index must judge each conflict by the rule that was in force.
    ledger = Ledger(objects)
    in_force = [entry.reason for entry in ledger.entries(POLICY)]
    policy = config.archive.conflict_policy
    if (in_force or ["keep-first"])[-1] != policy:
        ledger.write(LedgerEntry(POLICY, clock.now_us(), "operator", policy))


def migration(archive: Archive, source: str, target: str, *, check: bool) -> Migration:
    """Return what copies the objects of ``archive`` from one store to another.

    Raises
    ------
    UnavailableError
        If one of them cannot be used.
    """
    stores = [open_objects(archive.config, url) for url in (source, target)]
    with storage_translated():
        for store in stores:
            store.require_ready()
    return Migration(InstanceLifecycle(archive.engine), *stores, check=check)


def migrate_index(
    config: Config, source: str, target: str, note: Callable[[int, int], None]
) -> list[CopiedTable]:
    """Copy the index to another database (`storage.index.transfer`), as settings name them.

    Parameters
    ----------
    note
        Is told how many rows there are, and how many were written since it was told last.

    Raises
    ------
    UnavailableError
        If the target is not empty, or one of them cannot be used; nothing is written then.
    """
    old, new = (IndexEngine(index_url(config, url)) for url in (source, target))
    try:
        with storage_translated():
            migrate(old)
            migrate(new)
            expected = count(old)
            return transfer(old, new, lambda _table, rows: note(expected, rows))
    finally:
        old.close()
        new.close()


def rebuilder(config: Config) -> Rebuilder:
    """Return what makes a new index from this archive's objects, beside the old one.

    With SQLite it is a file of its own until `finish_rebuild`; a PostgreSQL index is emptied.
    """
    place = _rebuild_file(config)
    url = index_url(config)
    if config.index.url == "sqlite":
        place.unlink(missing_ok=True)
        url = f"sqlite:///{place}"
    engine = IndexEngine(url)
    with storage_translated():
        migrate(engine)
        empty(engine)
        if config.index.url == "sqlite":
            _carry_over(config, engine)
    return Rebuilder(engine, open_objects(config))


def finish_rebuild(config: Config, rebuilt: Rebuilder) -> None:
    """Put the new index in the place of the old one, which stays as ``index.db.old``."""
    rebuilt.close()
    if config.index.url != "sqlite":
        return
    index = config.archive.data_dir / "index.db"
    if index.exists():
        index.rename(index.with_suffix(".db.old"))
    for leftover in ("-wal", "-shm"):
        index.with_name(index.name + leftover).unlink(missing_ok=True)
    _rebuild_file(config).rename(index)


def _carry_over(config: Config, new: IndexEngine) -> None:
    """Take peers and the like along, as far as the old index can still be read."""
    if not (config.archive.data_dir / "index.db").is_file():
        return
    old = IndexEngine(index_url(config))
    try:
        migrate(old)
        carry_over(old, new)
    except (StorageError, SQLAlchemyError) as error:
        logger.warning("rebuild.not-carried-over", extra={"reason": str(error)})
    finally:
        old.close()


def _rebuild_file(config: Config) -> Path:
    return config.archive.data_dir / "index.rebuild.db"


def _pool(config: Config, address: str | None) -> RenderPool:
    if address is not None:
        return RenderPool.connect(address)
    return RenderPool(
        config.render.workers,
        timeout_s=config.render.timeout_s,
        memory_limit_bytes=config.render.memory_limit_bytes,
        decoded_bytes=config.render.decoded_bytes,
    )

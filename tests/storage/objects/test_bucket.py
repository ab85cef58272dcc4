"""The bucket store beside its contract: what it asks for, and what it makes of failures."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from archive.auth.principal import OPERATOR
from archive.ingest.incoming import Incoming
from storage.errors import NoSpaceError, ObjectMissingError, StoreUnavailableError
from storage.objects.bucket import BucketStore
from storage.objects.cache import BLOCK_BYTES
from storage.objects.remote import Bucket
from storage.objects.settings import BucketSettings
from tests.builders import dataset, part10
from tests.conftest import SOURCE, make_config, running_archive

KEY = "objects/ab/1.2/1.2.3/1.2.3.4~mhx3k2p9a7zabcd~0123456789ab.dcm"

pytestmark = pytest.mark.xdist_group("buckets")


class Counting(Bucket):
    """A bucket that notes what it is asked for."""

    def __init__(self, settings):
        super().__init__(settings)
        self.reads = []
        self.others = []

    def read(self, key, offset, length):
        self.reads.append((key, offset))
        return super().read(key, offset, length)

    def walk(self, prefix):
        self.others.append("list")
        return super().walk(prefix)

    def size(self, key):
        self.others.append("head")
        return super().size(key)


def settings_of(server, bucket: str, **changes) -> BucketSettings:
    given = {"endpoint": server.endpoint, "region": server.region, "allow_http": True}
    return BucketSettings(f"s3://{bucket}/p", **(given | {"deadline_s": 2} | changes))


@pytest.fixture
def credentials(swift, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", swift.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", swift.secret_key)
    # Another server may be that of all tests, and the environment wins over settings.
    monkeypatch.setenv("FILEROOM_STORAGE__ENDPOINT", swift.endpoint)


@pytest.fixture
def bucket(swift, credentials) -> Counting:
    return Counting(settings_of(swift, swift.make_bucket()))


@pytest.fixture
def store(bucket, tmp_path) -> BucketStore:
    return BucketStore(bucket, tmp_path, cache_bytes=100_000_000)


def test_an_object_is_read_once_from_the_bucket_and_nothing_is_listed(store, bucket, tmp_path):
    body = os.urandom(500_000)
    store.put(KEY, body)
    assert store.read_now(KEY, 0, 10) is None  # never waits for the network
    assert bucket.reads == []
    assert store.read(KEY, 1000, 10) == body[1000:1010]
    for _ in range(3):
        assert b"".join(store.iter_chunks(KEY, 0, 500_000, 65536)) == body
        assert bytes(store.read_now(KEY, 499_000, 1000)) == body[-1000:]
        assert Path(store.local_path(KEY)).read_bytes() == body
    # Another process of this node, and this one when it is started again.
    assert BucketStore(bucket, tmp_path, cache_bytes=100_000_000).read(KEY, 0, 5) == body[:5]
    assert bucket.reads == [(KEY, 0)]
    assert bucket.others == []


def test_of_a_large_object_only_the_blocks_that_are_needed_are_read(store, bucket):
    body = os.urandom(3 * BLOCK_BYTES)
    store.put(KEY, body)
    for _ in range(2):
        assert store.read(KEY, BLOCK_BYTES + 10, 100) == body[BLOCK_BYTES + 10 :][:100]
    assert bucket.reads == [(KEY, BLOCK_BYTES)]


def test_what_many_want_at_the_same_time_is_fetched_once(store, bucket):
    body = os.urandom(2_000_000)
    store.put(KEY, body)
    together = threading.Barrier(8)

    def read(number: int) -> bytes:
        together.wait()
        return store.read(KEY, number * 1000, 1000)

    with ThreadPoolExecutor(8) as pool:
        for number, piece in enumerate(pool.map(read, range(8))):
            assert piece == body[number * 1000 :][:1000]
    assert len(bucket.reads) == 1


def test_a_missing_object_is_missing_for_all_who_wait_and_may_come_later(store):
    with ThreadPoolExecutor(4) as pool:
        for one in [pool.submit(store.read, KEY, 0, 1) for _ in range(4)]:
            with pytest.raises(ObjectMissingError):
                one.result()
    store.put(KEY, b"x")
    assert store.read(KEY, 0, 1) == b"x"


def test_what_verifies_reads_the_bucket_and_not_the_cache(store, bucket):
    store.put(KEY, b"right")
    assert store.read(KEY, 0, 5) == b"right"
    bucket.put(KEY, b"wrong", 5)  # behind everybody's back
    assert store.read(KEY, 0, 5) == b"right"
    assert b"".join(store.uncached().iter_chunks(KEY, 0, 5, 100)) == b"wrong"


def test_a_cache_that_is_full_of_what_is_in_use_does_not_keep_anybody_from_reading(
    bucket, tmp_path
):
    store = BucketStore(bucket, tmp_path, cache_bytes=150_000)
    bodies = {f"objects/{number}": os.urandom(100_000) for number in range(3)}
    for key, body in bodies.items():
        store.put(key, body)
        assert store.read(key, 0, 100_000) == body
    assert store.local_path("objects/2") is None


def test_requests_are_counted_by_what_was_asked_and_what_came_of_it(
    swift, credentials, tmp_path
):
    seen = []
    settings = settings_of(swift, swift.make_bucket(), observe=lambda *one: seen.append(one))
    store = BucketStore(Bucket(settings), tmp_path)
    store.put(KEY, b"x")
    store.read(KEY, 0, 1)
    store.delete(KEY)
    with pytest.raises(ObjectMissingError):
        store.size(KEY)
    asked = [("put", "ok"), ("get", "ok"), ("delete", "ok"), ("head", "missing")]
    assert [one[:2] for one in seen] == asked
    assert all(0 < seconds < 30 for _, _, seconds in seen)


# -- failures ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "secret", "said"),
    [
        ({"url": "s3://no-such-bucket/p"}, None, "NoSuchBucket.*make the bucket"),
        ({}, "wrong", "SignatureDoesNotMatch.*AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ({"region": "eu-west-1"}, None, r"us-east-1.*set \[storage\] region"),
        ({"allow_http": False}, None, "allow_http = true"),
        ({"endpoint": "http://127.0.0.1:9"}, None, r"check \[storage\] endpoint"),
    ],
)
def test_a_wrong_setting_is_named_with_what_to_do(
    swift, credentials, bucket, tmp_path, monkeypatch, changes, secret, said
):
    settings = settings_of(swift, "unused")
    named = {"url": bucket._settings.url, "deadline_s": 0.5} | changes
    values = {name: getattr(settings, name) for name in BucketSettings.__slots__} | named
    if secret:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    store = BucketStore(Bucket(BucketSettings(**values)), tmp_path)
    with pytest.raises(StoreUnavailableError, match=said) as raised:
        store.require_ready()
    assert not store.answers()
    assert swift.secret_key not in str(raised.value)
    assert len(str(raised.value)) < 500
    with pytest.raises(StoreUnavailableError):
        store.put(KEY, b"x")
    with pytest.raises(StoreUnavailableError):
        store.read(KEY, 0, 1)


class Failing(BaseHTTPRequestHandler):
    """A server that fails so often, or for ever."""

    status, times, asked = 503, 10_000, 0

    def do_PUT(self):
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self._answer()

    def do_GET(self):
        self._answer()

    def _answer(self):
        type(self).asked += 1
        failed = self.asked <= self.times
        self.send_response(self.status if failed else 200)
        self.send_header("etag", '"x"')
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def failing(monkeypatch, tmp_path):
    """A bucket on a server that fails as told."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    servers = []

    def make(status: int, times: int = 10_000) -> BucketStore:
        handler = type("Told", (Failing,), {"status": status, "times": times, "asked": 0})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        servers.append((server, thread))
        url = f"http://127.0.0.1:{server.server_address[1]}"
        settings = BucketSettings("s3://b", endpoint=url, allow_http=True, deadline_s=1)
        return BucketStore(Bucket(settings), tmp_path)

    yield make
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_server_that_fails_now_and_then_is_asked_again(failing):
    failing(503, times=2).put(KEY, b"x")


def test_a_server_that_goes_on_failing_is_unavailable_after_the_deadline(failing):
    store = failing(503)
    with pytest.raises(StoreUnavailableError, match="503"):
        store.put(KEY, b"x")
    with pytest.raises(StoreUnavailableError, match="503"):
        store.read(KEY, 0, 1)


def test_what_could_not_be_removed_stays_in_the_journal_for_the_next_sweep(failing, tmp_path):
    store = failing(503, times=10_000)
    store._journal().add(KEY)
    store._journal().add("objects/indexed")
    store.discard([KEY])
    store.forget([KEY, "objects/indexed"])
    assert store._journal()._outstanding == {KEY}


def test_a_server_that_is_full_is_full(failing):
    with pytest.raises(NoSpaceError):
        failing(507).put(KEY, b"x")


def test_what_came_together_goes_to_the_bucket_together_and_in_order(swift, bucket, tmp_path):
    """The first of two contents under one UID is the first, whichever was put sooner."""
    first = [part10(dataset("1.2", "1.2.3", f"1.2.3.{number}")) for number in range(6)]
    other = part10(dataset("1.2", "1.2.3", "1.2.3.0", PatientComments="x" * 3_000_000))
    config = make_config(
        tmp_path / "data",
        storage={
            "url": bucket._settings.url,
            "endpoint": swift.endpoint,
            "allow_http": True,
        },
    )
    with running_archive(config) as archive:
        arrivals = [Incoming(body, SOURCE) for body in (other, *first, b"no DICOM")]
        became = archive.ingest.store_all(OPERATOR, arrivals)
        kinds = [type(one).__name__ for one in became]
        assert kinds == [
            "Outcome",
            "ConflictingInstanceError",
            *["Outcome"] * 5,
            "InvalidInstanceError",
        ]
        assert archive.verifier.verify(grace_s=0).sound
        assert list(archive.objects.strays()) == []

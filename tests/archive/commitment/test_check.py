"""What the archive stands for: there, visible, sound, and of the class that is named."""

import shutil
from pathlib import Path

import pytest
from pydicom.uid import generate_uid

from archive.auth.principal import ANONYMOUS, OPERATOR, Principal, Right
from archive.commitment.check import Check
from archive.commitment.service import CommitmentService
from archive.commitment.values import CommitmentRequest, FailureReason, Reference
from archive.errors import ForbiddenError, NotFoundError, TooLargeError, UnavailableError
from archive.identity import StudyRef
from storage.errors import StoreUnavailableError
from storage.index.scope import Scope
from tests.builders import SECONDARY_CAPTURE, dataset, part10
from tests.conftest import on_disk, spoil, store

UID = "1.2.3.9.1"
KEPT = Reference(SECONDARY_CAPTURE, UID)
GONE = Reference(SECONDARY_CAPTURE, "9.9.9")


@pytest.fixture
def kept(archive):
    store(archive, part10(dataset("1.2.3", "1.2.3.1", UID)))
    return archive


def request(*references, uid="1.2.9", title="CT1"):
    return CommitmentRequest(uid, title, references)


def outcome(archive, *references, principal=OPERATOR):
    """Ask and check to the end; return the failures."""
    asked = request(*references, uid=generate_uid())
    taken = archive.commitments.accept(principal, asked, owner="one")
    return finish(archive.commitments.check(taken)).failed


def finish(check):
    while True:
        try:
            next(check)
        except StopIteration as end:
            return end.value


def key(archive, study="1.2.3"):
    (one,) = archive.retrieve.instances(OPERATOR, [StudyRef(study)])
    return one.object_key


def test_an_instance_named_twice_has_its_outcome_twice(kept):
    assert outcome(kept, KEPT, GONE, KEPT, GONE) == {
        1: FailureReason.NO_SUCH_INSTANCE,
        3: FailureReason.NO_SUCH_INSTANCE,
    }


def test_what_the_asker_may_not_see_does_not_exist_for_it(kept):
    elsewhere = Principal(
        name="ae:CT1",
        site="",
        rights=frozenset({Right.WRITE}),
        scope=Scope(collections=frozenset({"another"}), partitions=None),
    )
    assert outcome(kept, KEPT, principal=elsewhere) == {0: FailureReason.NO_SUCH_INSTANCE}
    # Also when somebody else goes on with it: what may be seen is kept with the request.
    taken = kept.commitments.accept(elsewhere, request(KEPT, uid="1.2.10"), owner="one")
    kept.commitments.leave(taken)
    (claimed,) = kept.commitments.claim_due(OPERATOR, owner="courier", limit=1)
    assert claimed.principal.scope == elsewhere.scope
    assert finish(kept.commitments.check(claimed)).failed


def test_of_a_sop_uid_in_several_studies_every_one_must_be_sound(kept):
    store(kept, part10(dataset("1.2.4", "1.2.4.1", UID)))
    assert outcome(kept, KEPT) == {}
    spoil(kept, key(kept, "1.2.4"), lambda body: body[:-1] + b"\1")
    assert outcome(kept, KEPT) == {0: FailureReason.PROCESSING_FAILURE}


@on_disk
def test_a_file_that_cannot_be_read_is_a_processing_failure(kept):
    broken = Path(kept.objects.local_path(key(kept)))
    broken.unlink()
    broken.mkdir()
    assert outcome(kept, KEPT) == {0: FailureReason.PROCESSING_FAILURE}


@on_disk
def test_while_the_store_is_away_nothing_is_said_of_what_it_holds(kept, monkeypatch):
    shutil.move(kept.config.archive.data_dir / "objects", kept.config.archive.data_dir / "away")
    taken = kept.commitments.accept(OPERATOR, request(KEPT), owner="one")
    with pytest.raises(UnavailableError):
        finish(kept.commitments.check(taken))


def test_what_is_away_after_every_attempt_is_a_resource_limitation(kept, monkeypatch):
    def refuse(*_):
        raise StoreUnavailableError("too many files are open")

    monkeypatch.setattr(kept.commitments._objects, "size", refuse)
    taken = kept.commitments.accept(OPERATOR, request(KEPT, GONE), owner="one")
    for attempt in range(4):
        with pytest.raises(UnavailableError):
            finish(kept.commitments.check(taken))
        kept.commitments.postpone(taken, "too many files are open")
        (state,) = kept.commitments.requests(OPERATOR)
        assert (state.state, state.attempts) == ("accepted", attempt + 1)
        kept.commitments._table.change(state_id(kept), "", due_at=0)
        (taken,) = kept.commitments.claim_due(OPERATOR, owner="one", limit=1)
    assert finish(kept.commitments.check(taken)).failed == {
        0: FailureReason.RESOURCE_LIMITATION,
        1: FailureReason.NO_SUCH_INSTANCE,
    }


def state_id(archive):
    return archive.commitments._table.rows()[0].id


def test_checking_gives_way_between_pieces_of_an_object(archive):
    big = dataset("1.2.3", "1.2.3.1", UID, Rows=1, Columns=1, BitsAllocated=8)
    big.add_new(0x7FE00010, "OB", bytes(5 << 20))
    store(archive, part10(big))
    check = Check(
        archive.commitments._table,
        archive.objects,
        scope=OPERATOR.scope,
        asker="CT1",
        last=False,
    ).run((KEPT,))
    assert len(list(check)) >= 5


def test_who_may_nothing_is_refused_and_nothing_is_kept(archive):
    nobody = Principal("nobody", "", frozenset(), ANONYMOUS.scope)
    with pytest.raises(ForbiddenError):
        archive.commitments.accept(nobody, request(GONE), owner="one")
    for act in (
        lambda: archive.commitments.requests(ANONYMOUS),
        lambda: archive.commitments.retry(ANONYMOUS, "1.2"),
        lambda: archive.commitments.claim_due(ANONYMOUS, owner="one", limit=1),
    ):
        with pytest.raises(ForbiddenError):
            act()
    assert not archive.commitments.requests(OPERATOR)


def test_a_request_that_names_too_much_is_refused(archive, monkeypatch):
    monkeypatch.setattr("archive.commitment.service._MOST_REFERENCES", 1)
    with pytest.raises(TooLargeError):
        archive.commitments.accept(OPERATOR, request(GONE, KEPT), owner="one")


def test_a_lease_that_was_lost_lets_nothing_be_written(kept):
    taken = kept.commitments.accept(OPERATOR, request(KEPT), owner="one")
    kept.commitments._table.free_all()
    (other,) = kept.commitments.claim_due(OPERATOR, owner="two", limit=1)
    assert kept.commitments.hold(other)
    assert not kept.commitments.hold(taken)
    kept.commitments.reported(taken, 0)
    kept.commitments.postpone(taken, "too late")
    (state,) = kept.commitments.requests(OPERATOR)
    assert (state.state, state.reason) == ("accepted", "")


def test_an_operator_has_requests_tried_again_or_forgotten(kept):
    taken = kept.commitments.accept(OPERATOR, request(KEPT), owner="one")
    kept.commitments.reported(finish(kept.commitments.check(taken)), 0)
    assert kept.commitments.retry(OPERATOR, "1.2.9") == 1
    (state,) = kept.commitments.requests(OPERATOR)
    assert (state.state, state.answer) == ("accepted", "")
    assert kept.commitments.remove(OPERATOR, "1.2.9") == 1
    with pytest.raises(NotFoundError):
        kept.commitments.remove(OPERATOR, "1.2.9")


def test_what_is_finished_is_forgotten_after_the_days_that_are_set(kept):
    settings = kept.config.commitment.model_copy(update={"keep_days": 0})
    service = CommitmentService(kept.commitments._table, kept.objects, settings)
    taken = service.accept(OPERATOR, request(KEPT), owner="one")
    assert service.forget_finished(OPERATOR) == 0
    service.reported(finish(service.check(taken)), 0)
    assert service.forget_finished(OPERATOR) == 1

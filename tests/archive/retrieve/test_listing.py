"""Instances that are to be sent, listed in short."""

import tracemalloc
from dataclasses import replace

import pytest

from archive.auth.principal import OPERATOR
from archive.errors import ForbiddenError
from archive.identity import InstanceRef, SeriesRef, StudyRef
from archive.retrieve.listing import ListedInstance, Listing
from tests.builders import dataset, part10
from tests.conftest import store

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


@pytest.fixture
def stored(archive) -> list[str]:
    """Two series of three instances, stored backwards; one of another class."""
    uids = [f"1.1.{series}.{number}" for series in (1, 2) for number in (1, 2, 3)]
    for uid in reversed(uids):
        _, _, series, number = uid.split(".")
        made = dataset("1.1", f"1.1.{series}", uid, InstanceNumber=number, SeriesNumber=series)
        if uid == "1.1.2.2":
            made.SOPClassUID = CT
        store(archive, part10(made))
    return uids


def listed(archive, *refs) -> Listing:
    return archive.retrieve.listing(OPERATOR, refs)


def read(listing, kinds=None) -> list[tuple[str, bool]]:
    return [
        (entry.sop_instance_uid, found is not None)
        for entry, found in listing.read(kinds or listing.kinds())
    ]


def test_instances_are_listed_by_series_and_number_each_once(archive, stored):
    listing = listed(archive, StudyRef("1.1"), SeriesRef("1.1", "1.1.2"))
    assert len(listing) == 6
    assert read(listing) == [(uid, True) for uid in stored]


def test_kinds_are_told_and_can_be_read_apart(archive, stored):
    listing = listed(archive, StudyRef("1.1"))
    assert len(listing.kinds()) == 2
    assert read(listing, {(CT, EXPLICIT)}) == [("1.1.2.2", True)]


def test_what_is_deleted_after_it_was_listed_is_told_so(archive, stored):
    listing = listed(archive, StudyRef("1.1"))
    gone = InstanceRef("1.1", "1.1.1", "1.1.1.2")
    archive.lifecycle.delete(OPERATOR, gone, reason="a test")
    assert read(listing)[:3] == [("1.1.1.1", True), ("1.1.1.2", False), ("1.1.1.3", True)]


def test_what_nobody_may_read_is_not_listed(archive, stored):
    blind = replace(OPERATOR, rights=frozenset())
    with pytest.raises(ForbiddenError):
        archive.retrieve.listing(blind, [StudyRef("1.1")])


def test_known_instances_are_a_listing_too(archive, stored):
    known = list(archive.retrieve.instances(OPERATOR, [SeriesRef("1.1", "1.1.2")]))
    assert read(Listing.of(known)) == [(uid, True) for uid in stored[3:]]


def test_a_listing_of_50_000_is_small_and_looked_up_a_few_at_a_time():
    asked: list[int] = []

    def fetch(keys):
        asked.append(len(keys))
        return {}

    tracemalloc.start()
    try:
        entries = [
            ListedInstance(n, f"1.2.826.0.1.3680043.8.498.{n:040d}", CT, EXPLICIT)
            for n in range(50_000)
        ]
        listing = Listing(entries, fetch)
        assert sum(1 for _ in listing.read(listing.kinds())) == 50_000
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert max(asked) <= 100
    assert most < 20_000_000

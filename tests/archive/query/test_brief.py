"""Matches made of columns are the matches that the stored JSON makes."""

from dataclasses import replace

import pytest

from archive.auth.principal import OPERATOR
from archive.query import service
from archive.query.request import Level, SearchKey, SearchRequest
from tests.builders import dataset, part10
from tests.conftest import store

FIELDS = frozenset(
    {"00080016", "00080018", "00080060", "00083002", "0020000D", "0020000E", "00200013"}
)
ASKED = SearchRequest(
    Level.INSTANCE, (SearchKey(("0020000D",), "1.2.9"),), fields=FIELDS, only_fields=True
)


def matches(archive, request):
    return list(archive.query.search(OPERATOR, request))


@pytest.mark.parametrize("odd", [False, True])
def test_columns_and_stored_json_say_the_same(archive, monkeypatch, odd):
    for n in range(30):
        made = dataset("1.2.9", f"1.2.9.{n % 2}", f"1.2.9.{n % 2}.{n}", InstanceNumber=n)
        if odd and n == 7:
            del made.InstanceNumber
        store(archive, part10(made))
    brief = matches(archive, ASKED)
    monkeypatch.setattr(service, "is_brief", lambda _request: False)
    assert brief == matches(archive, ASKED)
    assert len(brief) == 30
    assert all(match.keys() == FIELDS for match in brief)
    everything = matches(archive, replace(ASKED, only_fields=False))
    assert brief == [{tag: match[tag] for tag in sorted(FIELDS)} for match in everything]

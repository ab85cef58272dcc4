"""Accounts: a name and a password prove somebody, and nothing else does."""

import pytest

from archive.auth.principal import ANONYMOUS, OPERATOR, Right
from archive.errors import ForbiddenError, InvalidRequestError, UnauthenticatedError
from storage.index.accounts import AccountRows
from storage.index.engine import IndexEngine
from storage.index.migrate import migrate

PASSWORD = "correct horse"


@pytest.fixture
def accounts(archive, monkeypatch):
    monkeypatch.setattr("archive.auth.accounts.time.sleep", pauses.append)
    pauses.clear()
    archive.accounts.add(OPERATOR, "anna", PASSWORD, rights=[Right.READ], site="north")
    return archive.accounts


pauses: list[float] = []


def test_the_right_password_gives_the_rights_and_the_site(accounts):
    anna = accounts.by_password("anna", PASSWORD)
    assert (anna.name, anna.site, anna.rights) == ("user:anna", "north", {Right.READ})
    assert accounts.by_password("anna", PASSWORD) == anna


@pytest.mark.parametrize(
    ("name", "password"),
    [("anna", "wrong horse"), ("anna", ""), ("nobody", PASSWORD), ("", ""), ("Anna", PASSWORD)],
)
def test_anything_else_is_refused_in_the_same_words(accounts, name, password):
    with pytest.raises(UnauthenticatedError, match=f"no user '{name}' with this password"):
        accounts.by_password(name, password)


def test_each_failure_under_a_name_waits_longer_until_it_is_right(accounts):
    for _ in range(6):
        with pytest.raises(UnauthenticatedError):
            accounts.by_password("anna", "wrong horse")
    assert pauses == [0.25, 0.5, 1.0, 2.0, 4.0, 4.0]
    accounts.by_password("anna", PASSWORD)
    with pytest.raises(UnauthenticatedError):
        accounts.by_password("anna", "wrong horse")
    assert pauses[-1] == 0.25


def test_a_changed_password_counts_at_once(accounts):
    accounts.by_password("anna", PASSWORD)
    assert accounts.set_password(OPERATOR, "anna", "another horse")
    with pytest.raises(UnauthenticatedError):
        accounts.by_password("anna", PASSWORD)
    accounts.by_password("anna", "another horse")


def test_who_is_removed_is_nobody_at_once(accounts):
    accounts.by_password("anna", PASSWORD)
    assert accounts.remove(OPERATOR, "anna") is True
    assert accounts.remove(OPERATOR, "anna") is False
    with pytest.raises(UnauthenticatedError):
        accounts.by_password("anna", PASSWORD)


def test_what_was_right_a_moment_ago_costs_little(accounts, monkeypatch):
    accounts.by_password("anna", PASSWORD)
    monkeypatch.setattr("archive.auth.passwords._verified", None)
    accounts.by_password("anna", PASSWORD)


def test_the_password_is_kept_as_a_hash_alone(archive, accounts):
    row = AccountRows(archive.engine).find("anna")
    assert row.password_hash.startswith("$argon2id$")
    assert PASSWORD not in repr(accounts.all())


def test_only_who_administers_may_change_accounts(accounts):
    for act in (
        lambda: accounts.add(ANONYMOUS, "b", PASSWORD, rights=[], site=""),
        lambda: accounts.set_password(ANONYMOUS, "anna", PASSWORD),
        lambda: accounts.remove(ANONYMOUS, "anna"),
    ):
        with pytest.raises(ForbiddenError):
            act()


@pytest.mark.parametrize(
    ("name", "password"),
    [("", PASSWORD), ("a\nb", PASSWORD), ("a" * 65, PASSWORD), ("b", "short")],
)
def test_what_is_no_name_or_password_is_refused(accounts, name, password):
    with pytest.raises(InvalidRequestError):
        accounts.add(OPERATOR, name, password, rights=[], site="")


def test_accounts_are_kept_in_postgresql_too(postgres_url):
    engine = IndexEngine(postgres_url)
    migrate(engine)
    rows = AccountRows(engine)
    assert rows.put("anna", password_hash="x", rights="read write", site="") is False
    assert rows.put("anna", password_hash="y", rights="read", site="n") is True
    assert (rows.find("anna").password_hash, len(rows.all())) == ("y", 1)
    assert rows.set_password("anna", "z")
    assert rows.remove("anna")
    assert not rows.remove("anna")
    engine.close()

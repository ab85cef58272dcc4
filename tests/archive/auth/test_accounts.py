"""Accounts: a name and a password prove somebody, and nothing else does."""

import pytest

from archive.assembly import finish_rebuild, open_archive, rebuilder
from archive.auth.principal import ANONYMOUS, OPERATOR, Right
from archive.errors import ForbiddenError, InvalidRequestError, UnauthenticatedError
from storage.index.accounts import AccountRows
from storage.index.engine import IndexEngine
from storage.index.migrate import migrate

PASSWORD = "correct horse"


@pytest.fixture
def accounts(archive):
    archive.accounts.add(OPERATOR, "anna", PASSWORD, rights=[Right.READ], site="north")
    return archive.accounts


def by_password(accounts, name: str, password: str, remote: str = "10.0.0.1"):
    return accounts.by_password(name, password, remote=remote)


def test_the_right_password_gives_the_rights_and_the_site(accounts):
    anna = by_password(accounts, "anna", PASSWORD)
    assert (anna.name, anna.site, anna.rights) == ("user:anna", "north", {Right.READ})
    assert by_password(accounts, "anna", PASSWORD) == anna


@pytest.mark.parametrize(
    ("name", "password"),
    [("anna", "wrong horse"), ("anna", ""), ("nobody", PASSWORD), ("", ""), ("Anna", PASSWORD)],
)
def test_anything_else_is_refused_in_the_same_words(accounts, name, password):
    with pytest.raises(UnauthenticatedError, match=f"no user '{name}' with this password"):
        by_password(accounts, name, password)


def test_who_guesses_is_not_looked_at_right_or_wrong_and_others_are(accounts):
    for number in range(5):
        with pytest.raises(UnauthenticatedError, match="with this password"):
            by_password(accounts, "anna", f"guess {number}")
    with pytest.raises(UnauthenticatedError, match="not looked at"):
        by_password(accounts, "anna", PASSWORD)
    assert by_password(accounts, "anna", PASSWORD, remote="10.0.0.2")


def test_a_name_and_a_password_are_the_same_however_they_are_composed(accounts):
    accounts.add(OPERATOR, " Zo\u00eb ", "caf\u00e9 noir", rights=[Right.READ], site="")
    assert by_password(accounts, "Zoe\u0308", "cafe\u0301 noir").name == "user:Zo\u00eb"
    assert accounts.remove(OPERATOR, "Zoe\u0308")


def test_a_password_without_end_is_not_worth_a_look(accounts, monkeypatch):
    monkeypatch.setattr("archive.auth.passwords._verified", None)
    with pytest.raises(UnauthenticatedError):
        by_password(accounts, "anna", "x" * 60000)


def test_accounts_outlive_a_new_index(archive, accounts):
    accounts.add(OPERATOR, "ben", PASSWORD, rights=[Right.READ], site="")
    archive.engine.close()
    finish_rebuild(archive.config, rebuilder(archive.config))
    with open_archive(archive.config) as again:
        assert [one.name for one in again.accounts.all(OPERATOR)] == ["anna", "ben"]
        assert by_password(again.accounts, "ben", PASSWORD)


def test_a_changed_password_counts_at_once(accounts):
    by_password(accounts, "anna", PASSWORD)
    assert accounts.set_password(OPERATOR, "anna", "another horse")
    with pytest.raises(UnauthenticatedError):
        by_password(accounts, "anna", PASSWORD)
    by_password(accounts, "anna", "another horse")


def test_who_is_removed_is_nobody_at_once(accounts):
    by_password(accounts, "anna", PASSWORD)
    assert accounts.remove(OPERATOR, "anna") is True
    assert accounts.remove(OPERATOR, "anna") is False
    with pytest.raises(UnauthenticatedError):
        by_password(accounts, "anna", PASSWORD)


def test_what_was_right_a_moment_ago_costs_little(accounts, monkeypatch):
    by_password(accounts, "anna", PASSWORD)
    monkeypatch.setattr("archive.auth.passwords._verified", None)
    by_password(accounts, "anna", PASSWORD)


def test_the_password_is_kept_as_a_hash_alone(archive, accounts):
    row = AccountRows(archive.engine).find("anna")
    assert row.password_hash.startswith("$argon2id$")
    assert PASSWORD not in repr(accounts.all(OPERATOR))


def test_only_who_administers_may_change_accounts(accounts):
    for act in (
        lambda: accounts.add(ANONYMOUS, "b", PASSWORD, rights=[], site=""),
        lambda: accounts.set_password(ANONYMOUS, "anna", PASSWORD),
        lambda: accounts.remove(ANONYMOUS, "anna"),
        lambda: accounts.all(ANONYMOUS),
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

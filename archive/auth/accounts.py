"""Who is who: accounts with passwords, and tokens of others (PS3.7 §D.3.3.7)."""

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from archive.auth.guessing import Guard
from archive.auth.passwords import SHORTEST_PASSWORD, PasswordChecks, composed, hashed
from archive.auth.principal import PUBLIC_SCOPE, Principal, Right
from archive.config import AuthSection
from archive.errors import (
    ForbiddenError,
    InvalidRequestError,
    UnauthenticatedError,
    storage_translated,
)
from storage.index import clock
from storage.index.accounts import AccountRows

if TYPE_CHECKING:
    from archive.auth.tokens import TokenChecks

_LONGEST_NAME: Final = 64
_LONGEST_SUBJECT: Final = 255
_LONGEST_PASSWORD: Final = 1024


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who may prove who they are; the password is not told."""

    name: str
    rights: frozenset[Right]
    site: str
    created_at: datetime


class AccountService:
    """Accounts, and what is made of a password or a token.

    Parameters
    ----------
    settings
        Which tokens are taken.
    rows
        The accounts of the index.
    """

    def __init__(self, settings: AuthSection, rows: AccountRows) -> None:
        self._rows = rows
        self._passwords = PasswordChecks()
        self._tokens = _token_checks(settings)
        self._guard = Guard()

    def by_password(self, name: str, password: str, *, remote: str) -> Principal:
        """Return who has this name and password.

        Parameters
        ----------
        remote
            The address it comes from: where failures are counted.

        Raises
        ------
        UnauthenticatedError
            If nobody has, whether there is such a name is not told; or there were too many
            failures.
        """
        name = _plain(name)
        self._guard.require_patience(name, remote)
        with storage_translated():
            row = self._rows.find(name)
        kept = row.password_hash if row else None
        if len(password) > _LONGEST_PASSWORD or not self._passwords.is_right(kept, password):
            row = None
        if row is None:
            self._guard.failed(name, remote)
            raise UnauthenticatedError(f"no user {name!r} with this password")
        self._guard.succeeded(name, remote)
        return _principal(row.name, row.site, row.rights.split())

    def by_token(self, token: str) -> Principal:
        """Return whom a JSON Web Token names.

        Its ``sub`` is the name, ``site`` the site, and ``rights``, a list, or ``scope``, words
        separated by spaces (RFC 8693 §4.2), what it may do. A token without rights has none.

        Raises
        ------
        UnauthenticatedError
            If it is not one to be trusted.
        """
        if self._tokens is None:
            raise UnauthenticatedError(
                "tokens are not taken here: [auth] jwt_key_file is not set"
            )
        claims = self._tokens.claims(token)
        subject, site = claims["sub"], claims.get("site", "")
        if not _is_name(subject):
            raise UnauthenticatedError("the token's sub is no name")
        if site != "" and not _is_name(site):
            raise UnauthenticatedError("the token's site is no name")
        given = claims.get("rights", claims.get("scope", ""))
        words = given.split() if isinstance(given, str) else given
        if not isinstance(words, list):
            raise UnauthenticatedError("the token's rights are neither text nor a list")
        return _principal(subject, site, words)

    def all(self, principal: Principal) -> list[Account]:
        """Return every account, by name. Raises ForbiddenError."""
        _require_admin(principal)
        with storage_translated():
            rows = self._rows.all()
        return [
            Account(
                row.name, _rights(row.rights.split()), row.site, clock.from_us(row.created_at)
            )
            for row in rows
        ]

    def add(
        self,
        principal: Principal,
        name: str,
        password: str,
        *,
        rights: Iterable[Right],
        site: str,
    ) -> bool:
        """Make an account; return whether it replaced one of the same name.

        Raises
        ------
        ForbiddenError
            If the principal may not administer.
        InvalidRequestError
            If the name or the password is none that is taken.
        """
        _require_admin(principal)
        name = _plain(name)
        if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
            raise InvalidRequestError(f"a name has 1 to {_LONGEST_NAME} printable characters")
        _require_password(password)
        with storage_translated():
            return self._rows.put(
                name,
                password_hash=hashed(password),
                rights=" ".join(sorted(rights)),
                site=site,
            )

    def set_password(self, principal: Principal, name: str, password: str) -> bool:
        """Change a password; return whether there is such an account. Raises as `add` does."""
        _require_admin(principal)
        _require_password(password)
        with storage_translated():
            return self._rows.set_password(_plain(name), hashed(password))

    def remove(self, principal: Principal, name: str) -> bool:
        """Delete an account; return whether there was one. Raises ForbiddenError."""
        _require_admin(principal)
        with storage_translated():
            return self._rows.remove(_plain(name))


def _token_checks(settings: AuthSection) -> "TokenChecks | None":
    # What checks signatures is large, and most archives take no tokens.
    if not settings.jwt_key_file:
        return None
    checks: TokenChecks = importlib.import_module("archive.auth.tokens").TokenChecks(settings)
    return checks


def _plain(name: str) -> str:
    return composed(name.strip())


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_SUBJECT and value.isprintable()


def _principal(name: str, site: str, words: Iterable[Any]) -> Principal:
    return Principal(f"user:{name}", site, _rights(words), PUBLIC_SCOPE)


def _rights(words: Iterable[Any]) -> frozenset[Right]:
    known = {right.value: right for right in Right}
    return frozenset(known[word] for word in words if isinstance(word, str) and word in known)


def _require_admin(principal: Principal) -> None:
    if Right.ADMIN not in principal.rights:
        raise ForbiddenError(f"{principal.name} may not see or change accounts")


def _require_password(password: str) -> None:
    if not SHORTEST_PASSWORD <= len(password) <= _LONGEST_PASSWORD:
        raise InvalidRequestError(
            f"a password has {SHORTEST_PASSWORD} characters at least, and {_LONGEST_PASSWORD} "
            "at most"
        )

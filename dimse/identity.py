"""User identity negotiation (PS3.7 §D.3.3.7): who is behind an association, and proves it."""

from typing import Any, Final

from archive.auth.accounts import AccountService
from archive.auth.principal import Principal
from archive.errors import UnauthenticatedError

_USER_NAME: Final = 1
_PASSCODE: Final = 2
_TOKEN: Final = 5
_UNKNOWN: Final = {3: "Kerberos", 4: "SAML"}


def identified(accounts: AccountService, item: Any, *, remote: str) -> Principal:  # noqa: ANN401 - pynetdicom's
    """Return who a User Identity sub-item names (PS3.7 Table D.3-14).

    Parameters
    ----------
    item
        Of the association request.
    remote
        The address it came from.

    Raises
    ------
    UnauthenticatedError
        If it proves nothing: a wrong passcode or token, a name alone, a kind not taken here.
    """
    kind = int(item.user_identity_type or 0)
    if kind == _PASSCODE:
        name, passcode = _text(item.primary_field), _text(item.secondary_field)
        return accounts.by_password(name, passcode, remote=remote)
    if kind == _TOKEN:
        return accounts.by_token(_text(item.primary_field))
    if kind == _USER_NAME:
        raise UnauthenticatedError("a user name without a passcode proves nothing")
    raise UnauthenticatedError(
        f"user identity of type {kind} ({_UNKNOWN.get(kind, 'unknown')}) is not taken here; "
        "passcode (2) and JSON Web Token (5) are"
    )


def _text(field: bytes | None) -> str:
    """Return a field, which is UTF-8 (PS3.7 Table D.3-14)."""
    try:
        return (field or b"").decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnauthenticatedError("a user identity that is not in UTF-8") from error

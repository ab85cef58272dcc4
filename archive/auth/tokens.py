"""JSON Web Tokens (RFC 7519): a name, a site and rights, signed by whom the settings trust."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import jwt

from archive.auth.reloading import Reloaded
from archive.config import AuthSection, ConfigError
from archive.errors import UnauthenticatedError

_SYMMETRIC: Final = "HS"
_SHORTEST_SECRET_BYTES: Final = 32  # RFC 7518 §3.2
_PEM: Final = b"-----BEGIN "


class TokenChecks:
    """Checks tokens against the key of the settings, which may be replaced at any time.

    Parameters
    ----------
    settings
        Key file, algorithms, issuer, audience.

    Raises
    ------
    ConfigError
        If the key cannot be used with the algorithms.
    """

    def __init__(self, settings: AuthSection) -> None:
        self._settings = settings
        self._key: Reloaded[bytes] | None = None
        if settings.jwt_key_file:
            file = Path(settings.jwt_key_file)
            self._key = Reloaded("token key", [file], lambda: read_key(settings))

    def claims(self, token: str) -> Mapping[str, Any]:
        """Return what a token says, once its signature, times, issuer and audience are right.

        Raises
        ------
        UnauthenticatedError
            If they are not; the text says what, and holds nothing of the token.
        """
        if self._key is None:
            raise UnauthenticatedError(
                "tokens are not taken here: [auth] jwt_key_file is not set"
            )
        settings = self._settings
        try:
            found: Mapping[str, Any] = jwt.decode(
                token,
                self._key.get(),
                algorithms=list(settings.jwt_algorithms),
                issuer=settings.jwt_issuer or None,
                audience=settings.jwt_audience or None,
                leeway=settings.jwt_leeway_s,
                options={"require": ["exp", "sub"], "verify_aud": bool(settings.jwt_audience)},
            )
        except jwt.PyJWTError as error:
            raise UnauthenticatedError(f"the token is no good: {error}") from error
        return found


def read_key(settings: AuthSection) -> bytes:
    """Return the key that tokens are checked with.

    Raises
    ------
    ConfigError
        If it cannot be read, or is no key for the algorithms of the settings.
    """
    file = settings.jwt_key_file
    try:
        key = Path(file).read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"[auth] jwt_key_file {file}: {error.strerror}") from error
    secret = [name for name in settings.jwt_algorithms if name.startswith(_SYMMETRIC)]
    # A public key is no secret: whoever has it could sign with it.
    if key.startswith(_PEM) and secret:
        raise ConfigError(
            f"[auth] jwt_key_file {file} is a public key: not to be used with {secret[0]}"
        )
    if not key.startswith(_PEM) and len(secret) < len(settings.jwt_algorithms):
        raise ConfigError(
            f"[auth] jwt_key_file {file} is not in PEM: {settings.jwt_algorithms[0]} needs a "
            "public key; for a shared secret set jwt_algorithms to HS256 alone"
        )
    if not key.startswith(_PEM) and len(key) < _SHORTEST_SECRET_BYTES:
        raise ConfigError(f"[auth] jwt_key_file {file}: a secret has 32 bytes at least")
    return key

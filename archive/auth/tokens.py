"""JSON Web Tokens (RFC 7519): a name, a site and rights, signed by whom the settings trust.

A key file holds public keys or a shared secret, never both, and the settings say which
signatures there are: no token can have a public key taken for a secret, or have none (RFC 8725
§3.1).
"""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from archive.auth.reloading import Reloaded
from archive.config import AuthSection, ConfigError
from archive.errors import UnauthenticatedError

_SYMMETRIC: Final = "HS"
_SHORTEST_SECRET_BYTES: Final = 32  # RFC 7518 §3.2
_LONGEST_TOKEN: Final = 16384
_PEM: Final = b"-----BEGIN "
# What the library lets through: keys of another kind, numbers without end, endless nesting.
_OF_OTHER_SHAPES: Final = (TypeError, ValueError, OverflowError, RecursionError)

# A key, and the identifier (``kid``) it has in a set.
_Keys = list[tuple[str | None, Any]]


class TokenChecks:
    """Checks tokens against the keys of the settings, which may be replaced at any time.

    Parameters
    ----------
    settings
        Key file, which there must be, algorithms, issuer, audience.
    """

    def __init__(self, settings: AuthSection) -> None:
        self._settings = settings
        file = Path(settings.jwt_key_file)
        self._keys = Reloaded("token key", [file], partial(read_keys, settings))

    def claims(self, token: str) -> Mapping[str, Any]:
        """Return what a token says, once its signature, times, issuer and audience are right.

        A token that names an audience is for nobody else: without ``jwt_audience`` it is not
        for us (RFC 8725 §3.9).

        Raises
        ------
        UnauthenticatedError
            If they are not; the text says what, and holds nothing of the token.
        """
        if len(token) > _LONGEST_TOKEN:
            raise UnauthenticatedError("the token is no good: it has more than 16 KiB")
        settings = self._settings
        try:
            found: Mapping[str, Any] = jwt.decode(
                token,
                _chosen(self._keys.get(), jwt.get_unverified_header(token)),
                algorithms=list(settings.jwt_algorithms),
                issuer=settings.jwt_issuer or None,
                audience=settings.jwt_audience or None,
                leeway=settings.jwt_leeway_s,
                options={"require": ["exp", "sub"]},
            )
        except ConfigError as error:
            raise UnauthenticatedError(f"tokens cannot be checked: {error}") from error
        except jwt.InvalidAudienceError as error:
            raise UnauthenticatedError(
                "the token is no good: it is for another audience ([auth] jwt_audience)"
            ) from error
        except jwt.PyJWTError as error:
            raise UnauthenticatedError(f"the token is no good: {error}") from error
        except _OF_OTHER_SHAPES as error:
            raise UnauthenticatedError("the token is no good: it is not understood") from error
        return found


def _chosen(keys: _Keys, header: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a key of any kind
    named = [key for identifier, key in keys if identifier == header.get("kid")]
    if not named and len(keys) == 1:
        return keys[0][1]  # it cannot be another
    if not named:
        raise jwt.InvalidKeyError("there is no key of its kid")
    return named[0]


def check_tokens(settings: AuthSection) -> None:
    """Make sure that tokens can be checked as the settings want it.

    Raises
    ------
    ConfigError
        If the key cannot be used with the algorithms.
    """
    if settings.jwt_key_file:
        read_keys(settings)


def read_keys(settings: AuthSection) -> _Keys:
    """Return the keys that tokens are checked with.

    Raises
    ------
    ConfigError
        If they cannot be read, or are none for the algorithms of the settings.
    """
    file = settings.jwt_key_file
    try:
        content = Path(file).read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"[auth] jwt_key_file {file}: {error.strerror}") from error
    is_public = content.startswith((_PEM, b"{"))
    secret = [name for name in settings.jwt_algorithms if name.startswith(_SYMMETRIC)]
    # A public key is no secret: whoever has it could sign with it.
    if is_public and secret:
        raise ConfigError(
            f"[auth] jwt_key_file {file} is a public key: not to be used with {secret[0]}"
        )
    if not is_public and len(secret) < len(settings.jwt_algorithms):
        raise ConfigError(
            f"[auth] jwt_key_file {file} is not in PEM, nor a JSON Web Key Set: "
            f"{settings.jwt_algorithms[0]} needs a public key; for a shared secret set "
            "jwt_algorithms to HS256 alone"
        )
    if not is_public and len(content) < _SHORTEST_SECRET_BYTES:
        raise ConfigError(f"[auth] jwt_key_file {file}: a secret has 32 bytes at least")
    return _public_keys(file, content) if is_public else [(None, content)]


def _public_keys(file: str, content: bytes) -> _Keys:
    try:
        if content.startswith(b"{"):
            return _of_set(json.loads(content))
        if b"BEGIN CERTIFICATE" in content:
            return [(None, x509.load_pem_x509_certificate(content).public_key())]
        return [(None, serialization.load_pem_public_key(content))]
    except (jwt.PyJWTError, AttributeError, *_OF_OTHER_SHAPES) as error:
        raise ConfigError(
            f"[auth] jwt_key_file {file} holds no public key that can be used: expected PEM "
            "(PUBLIC KEY or CERTIFICATE) or a JSON Web Key Set"
        ) from error


def _of_set(document: dict[str, Any]) -> _Keys:
    """Return the keys for signatures; those that are not understood are left out (RFC 7517)."""
    keys = [
        (key.key_id, key.key)
        for key in jwt.PyJWKSet(document.get("keys", [document])).keys
        if key.public_key_use in (None, "sig")
        and key.key_type != "oct"  # a shared secret has no place among public keys
    ]
    if not keys:
        raise ValueError("no public key for signatures in it")
    return keys

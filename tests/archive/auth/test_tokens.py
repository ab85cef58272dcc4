"""JSON Web Tokens: trusted when signed by whom the settings name, and only then (RFC 8725)."""

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from archive.auth.accounts import AccountService
from archive.auth.principal import Right
from archive.auth.tokens import TokenChecks
from archive.config import AuthSection, ConfigError
from archive.errors import UnauthenticatedError

SECRET = b"0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def key():
    return rsa.generate_private_key(65537, 2048)


def pem(key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public(key) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture
def settings(tmp_path, key):
    file = tmp_path / "key.pem"
    file.write_bytes(public(key))
    return AuthSection(
        jwt_key_file=str(file), jwt_issuer="https://id.example.org", jwt_audience="fileroom"
    )


def token(key, algorithm="RS256", **changes) -> str:
    claims = {
        "sub": "anna",
        "iss": "https://id.example.org",
        "aud": "fileroom",
        "exp": time.time() + 300,
        "rights": ["read", "write"],
        "site": "north",
    } | changes
    return jwt.encode(
        {name: value for name, value in claims.items() if value is not None}, key, algorithm
    )


def test_a_good_token_names_a_principal(settings, key):
    anna = AccountService(settings, None).by_token(token(pem(key)))
    assert (anna.name, anna.site) == ("user:anna", "north")
    assert anna.rights == {Right.READ, Right.WRITE}


@pytest.mark.parametrize(
    ("changes", "rights"),
    [
        ({"rights": None, "scope": "openid read"}, {Right.READ}),
        ({"rights": ["read", "everything"]}, {Right.READ}),
        ({"rights": None}, set()),
        ({"rights": "read delete"}, {Right.READ, Right.DELETE}),
    ],
)
def test_rights_are_those_of_the_archive_that_the_token_names(settings, key, changes, rights):
    assert AccountService(settings, None).by_token(token(pem(key), **changes)).rights == rights


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": time.time() - 300},
        {"exp": None},
        {"sub": None},
        {"nbf": time.time() + 300},
        {"aud": "another"},
        {"aud": None},
        {"iss": "https://evil.example.org"},
        {"iss": None},
        {"rights": {"read": True}},
    ],
)
def test_a_claim_that_is_wrong_or_missing_is_refused(settings, key, changes):
    with pytest.raises(UnauthenticatedError):
        AccountService(settings, None).by_token(token(pem(key), **changes))


def test_clocks_may_differ_a_little(settings, key):
    AccountService(settings, None).by_token(token(pem(key), exp=time.time() - 10))


def test_another_key_another_algorithm_and_none_are_refused(settings, key):
    checks = TokenChecks(settings)
    other = rsa.generate_private_key(65537, 2048)
    unsigned = jwt.encode({"sub": "anna"}, None, "none")
    # The public key, which everybody may know, taken for a shared secret.
    header = _part({"alg": "HS256", "typ": "JWT"})
    body = _part({"sub": "anna", "exp": time.time() + 300, "aud": "fileroom"})
    mac = hmac.digest(public(key).strip(), f"{header}.{body}".encode(), hashlib.sha256)
    confused = f"{header}.{body}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
    for bad in (token(pem(other)), token(pem(key), "RS512"), unsigned, confused, "", "a.b.c"):
        with pytest.raises(UnauthenticatedError):
            checks.claims(bad)


def _part(value: dict) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_without_a_key_no_token_is_taken(key):
    with pytest.raises(UnauthenticatedError, match="jwt_key_file"):
        TokenChecks(AuthSection()).claims(token(pem(key)))


def test_a_shared_secret_is_taken_for_its_algorithm_alone(tmp_path):
    file = tmp_path / "secret"
    file.write_bytes(SECRET)
    settings = AuthSection(jwt_key_file=str(file), jwt_algorithms=("HS256",))
    found = TokenChecks(settings).claims(jwt.encode({"sub": "a", "exp": 1e10}, SECRET, "HS256"))
    assert found["sub"] == "a"


@pytest.mark.parametrize(
    ("content", "algorithms", "why"),
    [
        (None, ("RS256",), "No such file"),
        (SECRET, ("RS256",), "not in PEM"),
        (b"short", ("HS256",), "32 bytes"),
        ("public", ("HS256",), "public key"),
        ("public", ("RS256", "HS256"), "public key"),
    ],
)
def test_a_key_that_does_not_fit_its_algorithms_is_said_at_the_start(
    tmp_path, key, content, algorithms, why
):
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(public(key) if content == "public" else content)
    with pytest.raises(ConfigError, match=why):
        TokenChecks(AuthSection(jwt_key_file=str(file), jwt_algorithms=algorithms))


def test_a_key_is_replaced_without_a_restart(settings, tmp_path):
    checks = TokenChecks(settings)
    new = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(UnauthenticatedError):
        checks.claims(token(pem(new), "ES256"))
    Path(settings.jwt_key_file).write_bytes(public(new))
    assert checks.claims(token(pem(new), "ES256"))["sub"] == "anna"

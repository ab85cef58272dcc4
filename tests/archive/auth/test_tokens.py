"""JSON Web Tokens: trusted when signed by whom the settings name, and only then (RFC 8725)."""

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from archive.auth.accounts import AccountService
from archive.auth.principal import Right
from archive.auth.tokens import TokenChecks, check_tokens
from archive.config import AuthSection, ConfigError
from archive.errors import UnauthenticatedError
from tests.certificates import Authority

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
        ({"rights": ["read", 7, {}, None, "READ"]}, {Right.READ}),
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
        {"exp": "soon"},
        {"exp": float("inf")},
        {"sub": ""},
        {"sub": "a\nb"},
        {"sub": "x" * 256},
        {"site": "a\nb"},
        {"site": ["north"]},
    ],
)
def test_a_claim_that_is_wrong_or_missing_is_refused(settings, key, changes):
    with pytest.raises(UnauthenticatedError):
        AccountService(settings, None).by_token(token(pem(key), **changes))


def test_a_token_for_somebody_is_not_for_an_archive_that_names_no_audience(settings, key):
    nobody = settings.model_copy(update={"jwt_audience": ""})
    with pytest.raises(UnauthenticatedError, match="jwt_audience"):
        AccountService(nobody, None).by_token(token(pem(key)))
    assert AccountService(nobody, None).by_token(token(pem(key), aud=None))


def forged(header: object, payload: object) -> str:
    return f"{_part(header)}.{_part(payload)}."


def test_rubbish_is_refused_and_nothing_worse(settings):
    checks = TokenChecks(settings)
    for rubbish in (
        "x", "....", "\u00e9.\u00e9.\u00e9", "eyJ" * 4000, "x" * 20000,
        forged({"alg": "RS256", "kid": 7}, {}), forged({"alg": ["RS256"]}, {}), forged(7, 7),
        *(forged({"alg": name}, {"sub": "anna"}) for name in ("none", "None", "NONE", "")),
        f"{_encoded(b'[' * 9000)}.{_part({})}.",
        f"{_part({'alg': 'RS256'})}.{_encoded(b'[' * 9000)}.",
    ):  # fmt: skip
        with pytest.raises(UnauthenticatedError) as refused:
            checks.claims(rubbish)
        assert rubbish[:40] not in str(refused.value) or len(rubbish) < 5


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


def _part(value: object) -> str:
    return _encoded(json.dumps(value).encode())


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


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
        (b'{"keys": []}', ("HS256",), "public key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n", ("RS256",), "no public key that can be used"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n", ("RS256",), "no public key that can be used"),
        (b'{"keys": []}', ("RS256",), "no public key that can be used"),
        (b'{"keys": 7}', ("RS256",), "no public key that can be used"),
        (b'{"keys": [{"kty": "oct", "k": "AAAA"}]}', ("RS256",), "no public key that can"),
        (b"{", ("RS256",), "no public key that can be used"),
    ],
)
def test_a_key_that_does_not_fit_its_algorithms_is_said_at_the_start(
    tmp_path, key, content, algorithms, why
):
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(public(key) if content == "public" else content)
    settings = AuthSection(jwt_key_file=str(file), jwt_algorithms=algorithms)
    with pytest.raises(ConfigError, match=why):
        check_tokens(settings)
    # A worker that begins while the file is no good serves all the same.
    with pytest.raises(UnauthenticatedError, match="cannot be checked"):
        TokenChecks(settings).claims(token(pem(key)))


def test_a_key_is_replaced_without_a_restart(settings, tmp_path):
    checks = TokenChecks(settings)
    new = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(UnauthenticatedError):
        checks.claims(token(pem(new), "ES256"))
    Path(settings.jwt_key_file).write_bytes(public(new))
    assert checks.claims(token(pem(new), "ES256"))["sub"] == "anna"
    Path(settings.jwt_key_file).write_text("-----BEGIN what is this?")
    assert checks.claims(token(pem(new), "ES256"))["sub"] == "anna"


def key_set(**keys) -> str:
    kinds = {
        rsa.RSAPublicKey: jwt.algorithms.RSAAlgorithm,
        ec.EllipticCurvePublicKey: jwt.algorithms.ECAlgorithm,
        ed25519.Ed25519PublicKey: jwt.algorithms.OKPAlgorithm,
    }
    entries = [
        {"kty": "unheard of", "kid": "new"},
        {"kty": "oct", "k": "AAAA", "kid": "secret"},
    ]
    for identifier, private in keys.items():
        public_key = private.public_key()
        (kind,) = [made for known, made in kinds.items() if isinstance(public_key, known)]
        entries.append({**json.loads(kind.to_jwk(public_key)), "kid": identifier})
    return json.dumps({"keys": entries})


def test_a_key_set_has_a_key_for_each_identifier(settings, key):
    other = rsa.generate_private_key(65537, 2048)
    curve, edwards = (
        ec.generate_private_key(ec.SECP256R1()),
        ed25519.Ed25519PrivateKey.generate(),
    )
    Path(settings.jwt_key_file).write_text(key_set(a=key, b=other, c=curve, d=edwards))
    checks = TokenChecks(settings)

    def signed(by, identifier, algorithm) -> str:
        claims = jwt.decode(token(pem(key)), options={"verify_signature": False})
        headers = {"kid": identifier} if identifier else None
        return jwt.encode(claims, by, algorithm, headers=headers)

    for good in ((key, "a", "RS256"), (other, "b", "RS256"), (curve, "c", "ES256"),
                 (edwards, "d", "EdDSA")):  # fmt: skip
        assert checks.claims(signed(*good))["sub"] == "anna"
    for bad in ((key, "b", "RS256"), (key, "x", "RS256"), (key, "c", "RS256"),
                (curve, "a", "ES256"), (key, "", "RS256")):  # fmt: skip
        with pytest.raises(UnauthenticatedError):
            checks.claims(signed(*bad))


def test_a_certificate_holds_a_key_too(settings, tmp_path):
    pair = Authority(tmp_path).issue("issuer", kind="rsa")
    certified = settings.model_copy(update={"jwt_key_file": str(pair.certificate)})
    assert TokenChecks(certified).claims(token(pair.key.read_bytes()))["sub"] == "anna"

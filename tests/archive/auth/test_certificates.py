"""Certificates and keys of the settings: what is wrong with them, said before serving."""

import os
import shutil
import subprocess
import sys

import pytest

from archive.auth.certificates import check_tls, read_certificate
from archive.config import ConfigError, load_config
from tests.certificates import Authority, encrypt
from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def ours(authority, tmp_path):
    """A pair of files that a test may spoil."""
    pair = authority.issue("fileroom.example")
    for file in (pair.certificate, pair.key):
        shutil.copy(file, tmp_path / f"ours{file.suffix}")
    shutil.copy(authority.certificate, tmp_path / "ca.pem")
    return tmp_path


def settings(folder, **changes):
    lines = {
        "tls": "required",
        "tls_certificate": "ours.pem",
        "tls_key": "ours.key",
        "tls_client_ca": "ca.pem",
        "tls_client_certificates": "optional",
    } | changes
    file = folder / "config.toml"
    file.write_text(
        "[dimse]\nport = 0\n[http]\nport = 0\n".replace(
            "port = 0\n[http]",
            "".join(f'{key} = "{value}"\n' for key, value in lines.items())
            + "port = 0\n[http]",
        )
    )
    return file


def test_files_are_relative_to_the_settings(ours):
    config = load_config(settings(ours))
    assert config.dimse.tls_certificate == str(ours / "ours.pem")
    check_tls(config.dimse)
    assert read_certificate(config.dimse).subject == "CN=fileroom.example,O=Test Hospital"
    assert 28 <= read_certificate(config.dimse).days_left <= 30


def test_certificate_and_key_may_stand_in_one_file(ours):
    both = (ours / "ours.key").read_text() + (ours / "ours.pem").read_text()
    (ours / "both.pem").write_text(both)
    config = load_config(settings(ours, tls_certificate="both.pem", tls_key=""))
    check_tls(config.dimse)
    assert read_certificate(config.dimse).days_left > 0


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"tls_certificate": ""}, "need a certificate"),
        ({"tls_client_ca": ""}, "needs tls_client_ca"),
        ({"tls": "off"}, "no effect"),
        ({"tls": "perhaps"}, "dimse.tls"),
        ({"tls_client_certificates": "some"}, "tls_client_certificates"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(ours, changes, why):
    with pytest.raises(ConfigError, match=why):
        load_config(settings(ours, **changes))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"tls_certificate": "gone.pem"}, "cannot read .*gone.pem"),
        ({"tls_key": "gone.key"}, "cannot read .*gone.key"),
        ({"tls_client_ca": "gone.pem"}, "cannot read .*gone.pem"),
        ({"tls_certificate": "ours.key"}, "no certificate in PEM"),
        ({"tls_key": "ours.pem"}, "no private key in PEM"),
        ({"tls_key": ""}, "set tls_key"),
        ({"tls_key": "other.key"}, "not the key of the certificate"),
        ({"tls_key": "locked.key"}, "is encrypted"),
        ({"tls_key": "cut.key"}, "cannot be used"),
        ({"tls_client_ca": "ours.key"}, "tls_client_ca: .* no certificate"),
        ({"tls_peer_ca": "rubbish.pem"}, "tls_peer_ca: .* no certificate"),
    ],
)
def test_a_file_that_will_not_do_is_named_with_what_is_wrong(ours, authority, changes, why):
    authority.issue("other").key.rename(ours / "other.key")
    shutil.copy(ours / "ours.key", ours / "locked.key")
    encrypt(ours / "locked.key")
    (ours / "cut.key").write_text(
        (ours / "ours.key").read_text()[:60] + "\n-----END PRIVATE KEY-----\n"
    )
    (ours / "rubbish.pem").write_text("what is this?")
    config = load_config(settings(ours, **changes))
    with pytest.raises(ConfigError, match=why):
        check_tls(config.dimse)


def run(folder, *command):
    return subprocess.run(
        [sys.executable, "-m", "archive", *command, "--config", folder / "config.toml"],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=60,
    )


def test_serve_does_not_start_with_a_wrong_key_and_the_doctor_tells(ours, authority):
    settings(ours, tls_key="other.key")
    authority.issue("other").key.rename(ours / "other.key")
    ended = run(ours, "serve")
    assert ended.returncode == 2
    assert "not the key of the certificate" in ended.stderr
    looked = run(ours, "doctor")
    assert looked.returncode == 1
    assert "not the key of the certificate" in looked.stdout


def test_the_doctor_tells_how_long_a_certificate_lasts(ours, authority):
    settings(ours)
    (ours / "ours.key").chmod(0o604)
    looked = run(ours, "doctor").stdout
    assert "TLS certificate: CN=fileroom.example,O=Test Hospital, 29 days left" in looked
    assert "everyone may read" in looked
    pair = authority.issue("ending", days=5)
    for file in (pair.certificate, pair.key):
        shutil.copy(file, ours / f"ours{file.suffix}")
    looked = run(ours, "doctor")
    assert looked.returncode == 1
    assert "4 days left" in looked.stdout
    assert "renew it" in looked.stdout

"""`fileroom user`, run by hand beside an archive that serves."""

import json
import subprocess
import sys

import pytest
from pynetdicom import AE
from pynetdicom.presentation import build_context

from tests.conftest import Served, wait_until
from tests.dimse.test_identity import identity


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    started = Served(tmp_path_factory.mktemp("users"), FILEROOM_DIMSE__REQUIRE_IDENTITY="true")
    started.start()
    yield started
    assert started.stop() == 0


def user(server, *arguments: str, password: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "archive", "user", *arguments],
        env=server.environment,
        cwd=server.data_dir,
        capture_output=True,
        text=True,
        timeout=60,
        input=password,
    )


def is_let_in(server, name: str, password: str) -> bool:
    association = AE("ANY").associate(
        "127.0.0.1",
        server.dicom_port,
        contexts=[build_context("1.2.840.10008.1.1")],
        ae_title="FILEROOM",
        ext_neg=[identity(2, name, password)],
    )
    if association.is_established:
        association.release()
        return True
    return False


def test_users_are_made_changed_listed_and_removed_while_it_runs(server):
    made = user(server, "add", "anna", "--password-stdin", "--site", "north",
                password="correct horse\n")  # fmt: skip
    assert made.returncode == 0, made.stderr
    wait_until(lambda: is_let_in(server, "anna", "correct horse"), 20, "anna to be let in")
    (listed,) = json.loads(user(server, "list", "--json").stdout)
    assert (listed["name"], listed["rights"], listed["site"]) == ("anna", ["read"], "north")
    assert "anna" in user(server, "list").stdout
    assert (
        user(
            server, "passwd", "anna", "--password-stdin", password="another horse\n"
        ).returncode
        == 0
    )
    assert not is_let_in(server, "anna", "correct horse")
    wait_until(lambda: is_let_in(server, "anna", "another horse"), 20, "the new password")
    assert user(server, "remove", "anna").returncode == 0
    assert not is_let_in(server, "anna", "another horse")
    assert user(server, "remove", "anna").returncode == 1


def test_what_is_refused_is_said(server):
    short = user(server, "add", "ben", "--password-stdin", password="short\n")
    assert short.returncode == 1
    assert "8 characters" in short.stderr
    assert user(server, "add", "ben", "--right", "everything").returncode == 2
    nobody = user(server, "passwd", "nobody", "--password-stdin", password="correct horse\n")
    assert nobody.returncode == 1
    assert "no user nobody" in nobody.stderr

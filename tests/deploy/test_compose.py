"""The Compose file is what Compose takes, its settings exist, and the image is as it says."""

import functools
import ipaddress
import json
import os
import re
import shutil
import subprocess
import tomllib

import pytest
import yaml

from archive.config import Config, load_config
from dicomweb.routes import HEALTH_ROUTES
from tests.conftest import REPOSITORY
from tests.deploy import front

FOLDER = REPOSITORY / "deploy"
NODES = ("http", "dicom", "background")
SECRETS = ("POSTGRES_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def variables() -> dict[str, str]:
    """What the example has, and a secret for each that it leaves out."""
    lines = re.findall(r"(?m)^([A-Z_]+)=(.*)$", (FOLDER / ".env.example").read_text())
    return {name: value.strip("'") or "secret" for name, value in lines}


def interpolated(text: str) -> str:
    """Do with ${...} what Compose does."""
    known = variables()

    def value(match: re.Match[str]) -> str:
        name, how, rest = match.groups()
        given = known.get(name, "")
        return given if given or how in (None, ":?") else rest

    return re.sub(r"\$\{([A-Z_]+)(?:(:-|-|:\?)([^}]*))?\}", value, text)


@functools.cache
def compose() -> dict:
    # Before YAML: a value of the environment is text, whatever it looks like.
    loaded = yaml.safe_load((FOLDER / "docker-compose.yml").read_text())
    return json.loads(json.dumps(loaded), object_hook=_interpolated_values)


def _interpolated_values(table: dict) -> dict:
    return {
        key: [interpolated(one) if isinstance(one, str) else one for one in value]
        if isinstance(value, list)
        else interpolated(value)
        if isinstance(value, str)
        else value
        for key, value in table.items()
    }


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


@pytest.fixture(params=NODES)
def node(request) -> dict:
    return compose()["services"][request.param] | {"role": request.param}


@pytest.fixture
def settings(node, monkeypatch) -> Config:
    """What a node makes of its environment, which the image's own is part of."""
    image = re.findall(r"(FILEROOM_\w+)=(\S+)", (REPOSITORY / "Dockerfile").read_text())
    for name, value in (dict(image) | node["environment"]).items():
        monkeypatch.setenv(name, value)
    return load_config()


def test_compose_takes_it(tmp_path):
    for command in (["docker", "compose"], ["docker-compose"]):
        program = shutil.which(command[0])
        if (
            program
            and not subprocess.run([*command, "version"], capture_output=True).returncode
        ):
            break
    else:
        pytest.skip("NOT TESTED: no Compose here (Debian: apt install docker-compose)")
    shutil.copytree(FOLDER, tmp_path / "deploy")
    shutil.copyfile(FOLDER / ".env.example", tmp_path / "deploy" / ".env")
    filled = os.environ | dict.fromkeys(SECRETS, "secret")
    checked = subprocess.run(
        [*command, "config"],
        env=filled,
        cwd=tmp_path / "deploy",
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stderr
    services = yaml.safe_load(checked.stdout)["services"]
    assert set(services) == {*NODES, "nginx", "postgres", "garage"}
    assert (
        services["http"]["environment"]["FILEROOM_AUTH__ALLOW_ANONYMOUS"] == '["read", "write"]'
    )
    filled.pop("POSTGRES_PASSWORD")
    refused = subprocess.run(
        [*command, "config", "-q"],
        env=filled,
        cwd=tmp_path / "deploy",
        capture_output=True,
        text=True,
    )
    assert refused.returncode != 0
    assert "POSTGRES_PASSWORD" in refused.stderr


def test_no_secret_is_in_the_example():
    text = (FOLDER / ".env.example").read_text()
    for name in (*SECRETS, "GARAGE_RPC_SECRET"):
        assert re.search(rf"(?m)^{name}=$", text)
    assert "/deploy/.env\n" in (REPOSITORY / ".gitignore").read_text()


def test_every_setting_of_a_node_is_one(settings):
    assert settings.index.url == "postgresql://fileroom@postgres/fileroom"
    assert settings.storage.url == "s3://fileroom/archive"
    assert settings.storage.allow_http
    assert settings.auth.allow_anonymous == ("read", "write")
    assert str(settings.archive.data_dir) == "/data"


def test_a_node_starts_its_role_and_has_time_to_end(node, settings):
    assert node["command"] == ["serve", "--role", node["role"]]
    assert seconds(node["stop_grace_period"]) > settings.archive.drain_timeout_s + 2
    assert node["restart"] == "unless-stopped"
    # Its own folder: an unnamed volume, which no other container is given.
    assert node["volumes"] == ["/data"]


def test_health_is_asked_for_where_it_is(node, settings):
    asked = re.search(r"http://127\.0\.0\.1:(\d+)(/\S+)'", node["healthcheck"]["test"][-1])
    assert int(asked[1]) == settings.http.port
    assert asked[2] in {resource.path for resource in HEALTH_ROUTES}
    dockerfile = (REPOSITORY / "Dockerfile").read_text()
    assert asked[0].rstrip("'") in dockerfile


def test_nginx_is_believed_and_finds_the_nodes(settings):
    (network,) = compose()["networks"]["fileroom"]["ipam"]["config"]
    assert settings.http.proxies == (ipaddress.ip_network(network["subnet"]),)
    http = (front.FOLDER / "compose" / "http.conf").read_text()
    dicom = (front.FOLDER / "compose" / "dicom.conf").read_text()
    assert f"server http:{settings.http.port} resolve" in http
    assert f"server dicom:{settings.dimse.port} resolve" in dicom
    for name in ("http.conf", "dicom.conf"):
        kinds = (front.FOLDER / folder / name for folder in ("nodes", "compose"))
        upstreams = {re.search(r"upstream (\w+)", file.read_text())[1] for file in kinds}
        assert len(upstreams) == 1


def test_postgresql_takes_the_connections_of_ten_nodes(settings):
    command = compose()["services"]["postgres"]["command"]
    (most,) = [int(one.partition("=")[2]) for one in command if one.startswith("max_conn")]
    processes = max(settings.http.workers, settings.dimse.workers) + 1
    assert most >= 10 * processes * settings.index.pool_size


def test_garage_syncs_before_it_acknowledges():
    settings = tomllib.loads((FOLDER / "garage.toml").read_text())
    assert settings["data_fsync"]
    assert settings["metadata_fsync"]
    assert settings["s3_api"]["s3_region"] == "garage"
    assert compose()["services"]["http"]["environment"]["FILEROOM_STORAGE__REGION"] == "garage"


def test_every_file_that_is_mounted_is_there():
    for service in compose()["services"].values():
        for volume in service.get("volumes", []):
            if volume.startswith("./"):
                assert (FOLDER / volume.partition(":")[0]).exists(), volume


def test_everything_the_image_is_built_from_is_there():
    text = (REPOSITORY / "Dockerfile").read_text()
    ignored = (REPOSITORY / ".dockerignore").read_text().split()
    copied = re.findall(r"(?m)^COPY (?!--from)(.+)$", text)
    for line in copied:
        *sources, _target = line.split()
        for source in sources:
            assert (REPOSITORY / source).exists(), source
            assert source not in ignored

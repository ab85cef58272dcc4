"""The manifests agree with each other, with the program, and with Kubernetes."""

import functools
import re
import shutil
import subprocess
import warnings

import pytest
import yaml

from archive.config import Config, load_config
from dicomweb.routes import HEALTH_ROUTES
from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "deploy" / "kubernetes"
ROLES = ("http", "dicom", "background")
VERSIONS = ("1.30", "1.37")
COMPONENT = "app.kubernetes.io/component"


@functools.cache
def manifests() -> list[dict]:
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    return [
        one
        for name in kustomization["resources"]
        for one in yaml.safe_load_all((FOLDER / name).read_text())
    ]


def of_kind(kind: str) -> dict[str, dict]:
    return {one["metadata"]["name"]: one for one in manifests() if one["kind"] == kind}


def pod(role: str) -> dict:
    return of_kind("Deployment")[role]["spec"]["template"]


def container(role: str) -> dict:
    (only,) = pod(role)["spec"]["containers"]
    return only


def size(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", text).groups()
    return int(number) * {"Mi": 1 << 20, "Gi": 1 << 30}[unit]


@pytest.fixture
def settings(monkeypatch) -> Config:
    """What a node makes of its ConfigMap and the environment of the image."""
    monkeypatch.setenv("FILEROOM_ARCHIVE__DATA_DIR", "/data")
    return load_config(FOLDER / "config.toml")


def test_every_file_is_part_of_it():
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    (generated,) = kustomization["configMapGenerator"]
    named = {*kustomization["resources"], *generated["files"]}
    there = {file.name for file in FOLDER.iterdir()} - {"secret.env"}
    assert there == named | {"kustomization.yaml", "secret.example.env"}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_is_what_kubernetes_takes(version):
    kubernetes_validate = pytest.importorskip(
        "kubernetes_validate", reason="NOT TESTED: kubernetes-validate is not installed"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the library, about itself
        for one in manifests():
            kubernetes_validate.validate(one, version, strict=True)


def test_kustomize_puts_it_together():
    program = shutil.which("kubectl")
    if program is None:
        pytest.skip("NOT TESTED: no kubectl on this machine")
    made = subprocess.run([program, "kustomize", FOLDER], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    rendered = list(yaml.safe_load_all(made.stdout))
    assert len(rendered) == len(manifests()) + 1
    (config_map,) = [one for one in rendered if one["kind"] == "ConfigMap"]
    assert config_map["data"]["config.toml"] == (FOLDER / "config.toml").read_text()
    for one in rendered:
        assert one["kind"] == "Namespace" or one["metadata"]["namespace"] == "fileroom"
        if one["kind"] == "Deployment":
            volumes = one["spec"]["template"]["spec"]["volumes"]
            (config,) = [volume for volume in volumes if "configMap" in volume]
            assert config["configMap"]["name"] == config_map["metadata"]["name"]


def test_the_settings_are_settings(settings):
    assert settings.index.url.startswith("postgresql://")
    assert settings.storage.url.startswith("s3://")
    assert settings.dimse.strangers == ()
    assert settings.http.workers
    assert settings.dimse.workers
    assert settings.render.workers
    secret = (FOLDER / "secret.example.env").read_text()
    assert re.findall(r"(?m)^(\w+)=(.*)$", secret) == [
        ("PGPASSWORD", ""), ("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", ""),
    ]  # fmt: skip


def test_every_role_has_a_deployment_that_starts_it():
    assert set(of_kind("Deployment")) == set(ROLES)
    for role in ROLES:
        assert container(role)["args"] == ["serve", "--role", role]


@pytest.mark.parametrize("role", ROLES)
def test_ports_and_probes_are_those_of_the_program(role, settings):
    ports = {port["name"]: port["containerPort"] for port in container(role)["ports"]}
    assert ports.pop("http") == settings.http.port
    assert ports == ({"dicom": settings.dimse.port} if role == "dicom" else {})
    paths = {resource.path for resource in HEALTH_ROUTES}  # what every role answers
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = container(role)[probe]["httpGet"]
        assert asked["path"] in paths
        assert asked["port"] == "http"
    assert container(role)["livenessProbe"]["httpGet"]["path"] == "/health/live"
    notes = pod(role)["metadata"]["annotations"]
    assert notes["prometheus.io/path"] in paths
    assert int(notes["prometheus.io/port"]) == settings.http.port


@pytest.mark.parametrize("role", ROLES)
def test_a_node_has_the_time_it_needs_to_end(role, settings):
    (_, waits) = container(role)["lifecycle"]["preStop"]["exec"]["command"]
    needed = int(waits) + settings.archive.drain_timeout_s + 2
    assert pod(role)["spec"]["terminationGracePeriodSeconds"] > needed


@pytest.mark.parametrize("role", ROLES)
def test_a_node_has_the_room_it_needs(role, settings):
    volumes = {volume["name"]: volume for volume in pod(role)["spec"]["volumes"]}
    room = size(volumes["data"]["emptyDir"]["sizeLimit"])
    assert room > settings.storage.cache_bytes * 3 / 2
    memory = size(container(role)["resources"]["limits"]["memory"])
    assert settings.render.memory_limit_bytes <= memory
    mounted = {mount["mountPath"] for mount in container(role)["volumeMounts"]}
    assert mounted == {"/etc/fileroom", "/data", "/tmp"}
    assert container(role)["workingDir"] == "/etc/fileroom"


@pytest.mark.parametrize("role", ROLES)
def test_a_node_may_do_as_little_as_it_needs(role):
    dockerfile = (REPOSITORY / "Dockerfile").read_text()
    whole, own = pod(role)["spec"]["securityContext"], container(role)["securityContext"]
    assert f"--uid {whole['runAsUser']} " in dockerfile
    assert whole["runAsNonRoot"]
    assert own["readOnlyRootFilesystem"]
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert not own["allowPrivilegeEscalation"]


def test_selectors_find_the_pods_they_mean():
    labels = [pod(role)["metadata"]["labels"] for role in ROLES]
    assert labels == [{COMPONENT: role} for role in ROLES]
    for name, one in of_kind("Deployment").items():
        assert one["spec"]["selector"]["matchLabels"] == {COMPONENT: name}
    for name, one in of_kind("Service").items():
        role = one["spec"]["selector"][COMPONENT]
        assert name.startswith(role)
        named = {port["name"] for port in container(role)["ports"]}
        assert {port["targetPort"] for port in one["spec"]["ports"]} <= named
    for kind in ("PodDisruptionBudget", "HorizontalPodAutoscaler"):
        assert set(of_kind(kind)) == {"http", "dicom"}
    for name, one in of_kind("PodDisruptionBudget").items():
        assert one["spec"]["selector"]["matchLabels"] == {COMPONENT: name}
    for one in of_kind("NetworkPolicy").values():
        for chosen in one["spec"]["podSelector"].get("matchLabels", {}).values():
            assert chosen in ROLES
        for term in one["spec"]["podSelector"].get("matchExpressions", []):
            assert set(term["values"]) <= set(ROLES)


def test_what_is_scaled_has_no_number_of_its_own():
    for name, one in of_kind("HorizontalPodAutoscaler").items():
        assert one["spec"]["scaleTargetRef"]["name"] == name
        assert one["spec"]["minReplicas"] >= 2
        assert "replicas" not in of_kind("Deployment")[name]["spec"]
        assert "cpu" in container(name)["resources"]["requests"]


def test_the_ingress_leads_to_a_service_under_the_public_name(settings):
    (ingress,) = of_kind("Ingress").values()
    (rule,) = ingress["spec"]["rules"]
    assert settings.archive.public_url == f"https://{rule['host']}"
    paths = rule["http"]["paths"]
    for path in paths:
        service = of_kind("Service")[path["backend"]["service"]["name"]]
        ports = {port["name"] for port in service["spec"]["ports"]}
        assert path["backend"]["service"]["port"]["name"] in ports
    led = {path["path"] for path in paths if path["pathType"] == "Prefix"}
    assert led == {"/dicom-web", "/wado", "/api", "/viewer"}  # no numbers, no health

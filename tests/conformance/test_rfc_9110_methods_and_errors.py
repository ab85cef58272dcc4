"""What every resource owes to HTTP: methods, errors, other origins (RFC 9110, RFC 9457)."""

import pytest

from dicomweb.resources import Resource
from dicomweb.routes import ROUTES
from tests.conftest import http_client, make_config, running_archive, store, wheel_file

NOWHERE = "1.2.3.4.5"
TAKEN = ("GET", "POST", "PUT", "PATCH", "DELETE", "TRACE")


def filled(path: str) -> str:
    """A path of a template, naming nothing that is stored."""
    values = {
        "{study}": NOWHERE,
        "{series}": NOWHERE,
        "{instance}": NOWHERE,
        "{frames}": "1",
        "{path:path}": "7FE00010",
    }
    for name, value in values.items():
        path = path.replace(name, value)
    return path


RESOURCES = [route for route in ROUTES if isinstance(route, Resource)]
by_path = pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.path)


def absolute(room, path: str) -> str:
    return str(room.client.base_url.copy_with(path=path))


@by_path
def test_options_lists_the_methods_without_asking_who(room, resource):
    response = room.client.options(absolute(room, filled(resource.path)))
    assert response.status_code in (200, 204)
    assert response.headers["Allow"] == resource.allow
    assert "OPTIONS" in resource.allow


@by_path
def test_other_methods_are_405_and_name_those_that_are_taken(room, resource):
    for method in TAKEN:
        if method in resource.allow:
            continue
        response = room.client.request(method, absolute(room, filled(resource.path)))
        assert response.status_code == 405, method
        assert set(response.headers["Allow"].split(", ")) == set(resource.allow.split(", "))
        assert_problem(response)


@by_path
def test_head_answers_like_get_without_a_body(room, resource):
    if "GET" not in resource.allow:
        return
    url = absolute(room, filled(resource.path))
    got, head = room.client.get(url), room.client.head(url)
    assert head.status_code == got.status_code
    assert head.content == b""
    if resource.path != "/metrics":  # which counts this very request
        assert head.headers.get("Content-Length") == got.headers.get("Content-Length")
    assert head.headers.get("Content-Type") == got.headers.get("Content-Type")


def assert_problem(response):
    """RFC 9457, readable from other origins."""
    assert response.headers["Content-Type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == response.status_code
    assert body["title"]
    assert body["detail"]
    assert body["type"] == "about:blank"
    assert_surrounded(response)


def assert_surrounded(response):
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    for name in ("ETag", "Content-Range", "Warning", "X-Total-Count", "Content-Location"):
        assert name in response.headers["Access-Control-Expose-Headers"]
    assert response.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["X-Request-Id"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nothing", 404),
        ("/studies/1.2.3/nothing", 404),
        (f"/studies/{NOWHERE}", 404),
        (f"/studies/{NOWHERE}/metadata", 404),
        (f"/studies/{NOWHERE}/series/{NOWHERE}/instances/{NOWHERE}/frames/1", 404),
        ("/studies/abc/metadata", 400),
        ("/studies/abc", 400),
        ("/studies/1.2.abc/series", 400),
        (f"/studies/{NOWHERE}/series/x/metadata", 400),
        (f"/studies/{NOWHERE}/series/{NOWHERE}/instances/-1/metadata", 400),
        ("/studies/" + "1" * 65, 400),
        ("/studies/1..2/metadata", 400),
        ("/studies/1.2%00/metadata", 400),
        ("/studies/1.2%0A/metadata", 400),
        ("/studies/%E9/metadata", 400),
        ("/studies/1%2E2%zz", 400),
        ("/studies?PatientName=%", 400),
        ("/studies?PatientName=%E9", 400),
        ("/studies?PatientName=a%00b", 400),
        ("/studies?limit=-1", 400),
    ],
)
def test_errors_are_problems(room, path, status):
    response = room.client.get(str(room.client.base_url).rstrip("/") + path)
    assert response.status_code == status
    assert_problem(response)


@pytest.mark.parametrize("slashes", ["/", "//"])
def test_a_slash_too_many_is_no_other_resource(room, slashes):
    assert room.get("/studies" + slashes).json() == room.get("/studies").json()
    study = room.study_url("CT_small.dcm")
    assert room.get(study + "/series" + slashes).status_code == 200
    doubled = room.client.get(absolute(room, "/dicom-web/" + slashes + "studies"))
    assert doubled.status_code == 200


def test_a_slash_too_many_loses_no_body(client):
    body = wheel_file("CT_small.dcm").read_bytes()
    response = client.post(
        "/studies/", content=body, headers={"Content-Type": "application/dicom"}
    )
    assert response.status_code == 200


def test_answers_of_every_kind_can_be_read_from_other_origins(room):
    url = room.url("CT_small.dcm")
    origin = {"Origin": "https://viewer.example.org"}
    first = room.get(url + "/metadata", headers=origin)
    assert_surrounded(first)
    again = room.get(
        url + "/metadata", headers=origin | {"If-None-Match": first.headers["ETag"]}
    )
    assert again.status_code == 304
    assert_surrounded(again)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
@pytest.mark.parametrize(
    "asked", ["", "accept", "authorization,content-type", "range, if-none-match", "x-other"]
)
def test_preflights_need_no_credentials_and_allow_what_is_asked(room, method, asked):
    headers = {"Origin": "https://viewer.example.org", "Access-Control-Request-Method": method}
    if asked:
        headers["Access-Control-Request-Headers"] = asked
    response = room.client.options("/studies", headers=headers)
    assert response.status_code in (200, 204)
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert method in response.headers["Access-Control-Allow-Methods"]
    allowed = response.headers["Access-Control-Allow-Headers"].lower().split(", ")
    wanted = {"accept", "authorization", "content-type", "range", "if-none-match"}
    wanted |= {"if-match", "if-range", *(name.strip() for name in asked.split(",") if name)}
    assert wanted <= set(allowed)


def test_a_preflight_cannot_put_a_header_of_its_own(room):
    response = room.client.options(
        "/studies",
        headers={
            "Origin": "https://viewer.example.org",
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": 'bad name, "quoted", fine',
        },
    )
    allowed = response.headers["Access-Control-Allow-Headers"]
    assert allowed.endswith(", fine")
    assert "quoted" not in allowed


def test_only_the_origins_of_the_settings_may_read(tmp_path):
    config = make_config(tmp_path / "data")
    http = config.http.model_copy(update={"cors_origins": ("https://viewer.example.org",)})
    with (
        running_archive(config.model_copy(update={"http": http})) as archive,
        http_client(archive) as client,
    ):
        ours = client.get("/studies", headers={"Origin": "https://viewer.example.org"})
        assert ours.headers["Access-Control-Allow-Origin"] == "https://viewer.example.org"
        other = client.get("/studies", headers={"Origin": "https://other.example.org"})
        assert "Access-Control-Allow-Origin" not in other.headers
        assert "Origin" in other.headers["Vary"]


def test_what_fails_unexpectedly_is_a_problem_without_a_trace(archive, client, monkeypatch):
    def fail(*_arguments, **_named):
        raise RuntimeError("the patient's name is Doe")

    monkeypatch.setattr(type(archive.query), "page", fail)
    response = client.get("/studies")
    assert response.status_code == 500
    assert_problem(response)
    assert "Doe" not in response.text


def test_a_study_is_there_under_every_method_that_is_taken(archive, client):
    ref = store(archive, wheel_file("CT_small.dcm")).ref
    url = f"/studies/{ref.study_instance_uid}"
    assert client.head(url).status_code == 200
    assert client.options(url).headers["Allow"] == "GET, HEAD, POST, DELETE, OPTIONS"

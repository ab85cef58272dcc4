"""Retrieve Capabilities (PS3.18 §8.9, Annex H), and the same as OpenAPI."""

import re

import defusedxml.ElementTree
import httpx
import pytest

from dicomweb.interface import DESCRIBED
from dicomweb.resources import Resource
from dicomweb.routes import ROUTES

WADL = "application/vnd.sun.wadl+xml"
NAMESPACE = "{http://wadl.dev.java.net/2009/02}"
DESCRIBING = [
    resource
    for resource in ROUTES
    if isinstance(resource, Resource) and re.match(r"/($|dicom-web|api|wado)", resource.path)
]
by_path = pytest.mark.parametrize("resource", DESCRIBING, ids=lambda resource: resource.path)


@pytest.fixture
def web(room):
    """A client that counts paths from the root."""
    with httpx.Client(base_url=room.client.base_url.copy_with(path="/"), timeout=30) as client:
        yield client


def filled(resource) -> str:
    return re.sub(r"\{(\w+)(?::\w+)?\}", "1", resource.path)


def options(web, resource, accept=None):
    headers = {} if accept is None else {"Accept": accept}
    return web.options(filled(resource), headers=headers)


@by_path
@pytest.mark.parametrize("accept", [None, WADL, "*/*", "application/xml;q=0.5, */*;q=0.1"])
def test_every_resource_describes_itself_as_wadl(web, resource, accept):
    response = options(web, resource, accept)
    assert response.status_code == 200
    assert response.headers["Allow"] == resource.allow
    if accept in (None, WADL, "*/*"):
        assert response.headers["Content-Type"] == WADL
    document = defusedxml.ElementTree.fromstring(response.content)
    assert document.tag == NAMESPACE + "application"
    (resources,) = document.findall(NAMESPACE + "resources")
    assert resources.get("base").startswith(str(web.base_url).rstrip("/"))
    assert len(list(resources.iter(NAMESPACE + "method"))) >= len(resource.operations)


@by_path
def test_every_resource_describes_itself_as_json(web, resource):
    response = options(web, resource, "application/json")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    document = response.json()
    own = re.sub(r":\w+\}", "}", resource.path)
    assert own in document["paths"]
    assert all(path.startswith(own.rstrip("/")) for path in document["paths"])


def test_the_service_describes_all_its_transactions(web):
    document = defusedxml.ElementTree.fromstring(web.options("/dicom-web/").content)
    (resources,) = document.findall(NAMESPACE + "resources")
    assert resources.get("base") == str(web.base_url).rstrip("/") + "/dicom-web"
    studies = resources.find(f"{NAMESPACE}resource[@path='studies']")
    assert [m.get("name") for m in studies.findall(NAMESPACE + "method")] == ["GET", "POST"]
    study = studies.find(f"{NAMESPACE}resource[@path='{{study}}']")
    names = {m.get("name") for m in study.findall(NAMESPACE + "method")}
    assert names == {"GET", "POST", "DELETE"}
    below = {child.get("path") for child in study.findall(NAMESPACE + "resource")}
    assert {"metadata", "rendered", "thumbnail", "series", "instances"} <= below
    search = studies.find(NAMESPACE + "method")
    parameters = {p.get("name") for p in search.iter(NAMESPACE + "param")}
    assert {"limit", "offset", "includefield", "fuzzymatching", "Accept"} <= parameters
    given = {r.get("mediaType") for r in search.iter(NAMESPACE + "representation")}
    assert "application/dicom+json" in given


def test_another_media_type_is_406_and_names_what_there_is(web):
    response = web.options("/dicom-web/studies", headers={"Accept": "image/png"})
    assert response.status_code == 406
    assert WADL in response.json()["detail"]


def test_get_of_the_service_leads_on(web):
    for path in ("/dicom-web", "/dicom-web/"):
        body = web.get(path).json()
        assert web.get(body["studies"]).status_code == 200
        assert web.get(body["openapi"]).json()["openapi"].startswith("3.1")
    assert web.get("/dicom-web", headers={"Accept": WADL}).headers["Content-Type"] == WADL


# -- OpenAPI -----------------------------------------------------------------------------------


def test_every_route_is_a_resource_and_described():
    assert [route for route in ROUTES if not isinstance(route, Resource)] == []
    routed = {of.name for route in ROUTES for of in route.answered.values()}
    assert routed - set(DESCRIBED) == set()


def test_every_route_and_method_is_in_the_description(web):
    paths = web.get("/api/openapi.json").json()["paths"]
    for resource in ROUTES:
        item = paths[re.sub(r":\w+\}", "}", resource.path)]
        methods = {name.upper() for name in item if name != "parameters"}
        assert methods == set(resource.allow.split(", ")), resource.path
    assert len(paths) == len(ROUTES)


def test_the_description_is_consistent(web):
    document = web.get("/api/openapi.json").json()
    identifiers = [
        operation["operationId"]
        for item in document["paths"].values()
        for name, operation in item.items()
        if name != "parameters"
    ]
    assert len(set(identifiers)) == len(identifiers)
    for reference in re.findall(r'"\$ref": ?"#/([^"]+)"', web.get("/api/openapi.json").text):
        node = document
        for part in reference.split("/"):
            node = node[part]
    assert document["servers"] == [{"url": str(web.base_url).rstrip("/")}]


def test_the_description_leads_through_the_proxy(web):
    headers = {"X-Forwarded-Host": "example.org", "X-Forwarded-Prefix": "/room"}
    document = web.get("/api/openapi.json", headers=headers).json()
    assert document["servers"] == [{"url": "http://example.org/room"}]


def test_the_page_names_every_resource_and_loads_nothing(web):
    page = web.get("/api/").text
    for resource in ROUTES:
        assert re.sub(r":\w+\}", "}", resource.path) in page
    assert "<script" not in page
    assert not re.search(r'(src|href)="(?!http://127\.0\.0\.1)', page)

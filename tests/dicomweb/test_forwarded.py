"""Where links lead: the asker's own view of this server (RFC 7239, PS3.18 §8.3)."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from archive.config import ArchiveSection, HttpSection
from dicomweb.forwarded import is_host, is_trusted, reached
from tests.conftest import http_client, make_config, running_archive, store, wheel_file

TOLD = {
    "nothing": ({}, "http://here:80"),
    "Forwarded": ({"Forwarded": "for=1.2.3.4;proto=https;host=example.org"}, "https://example.org"),
    "quoted": ({"Forwarded": 'host="example.org:8443"; proto="https"'}, "https://example.org:8443"),
    "IPv6": ({"Forwarded": 'for="[::1]:9";host="[2001:db8::1]:81"'}, "http://[2001:db8::1]:81"),
    "any case": ({"Forwarded": "PROTO=HTTPS;Host=example.org"}, "https://example.org"),
    "the first of several": (
        {"Forwarded": "host=first.example;proto=https, host=second.example"},
        "https://first.example",
    ),
    "X-Forwarded": (
        {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "example.org"}, "https://example.org",
    ),
    "the first X-Forwarded": (
        {"X-Forwarded-Proto": "https, http", "X-Forwarded-Host": "a.example, b.example"},
        "https://a.example",
    ),
    "port": (
        {"X-Forwarded-Host": "example.org", "X-Forwarded-Port": "8443",
         "X-Forwarded-Proto": "https"},
        "https://example.org:8443",
    ),
    "the scheme's own port": (
        {"X-Forwarded-Host": "example.org", "X-Forwarded-Port": "443",
         "X-Forwarded-Proto": "https"},
        "https://example.org",
    ),
    "port beside a host that has one": (
        {"X-Forwarded-Host": "example.org:81", "X-Forwarded-Port": "82"}, "http://example.org:81",
    ),
    "prefix": (
        {"X-Forwarded-Host": "example.org", "X-Forwarded-Prefix": "/room/a/"},
        "http://example.org/room/a",
    ),
    "Forwarded over X-Forwarded": (
        {"Forwarded": "host=a.example", "X-Forwarded-Host": "b.example",
         "X-Forwarded-Proto": "https"},
        "https://a.example",
    ),
}  # fmt: skip
HOSTILE = {
    "quote in a host": {"X-Forwarded-Host": 'a"b'},
    "angle in a host": {"Forwarded": 'host="<script>"'},
    "blank in a host": {"X-Forwarded-Host": "a b"},
    "path in a host": {"X-Forwarded-Host": "evil.example/x"},
    "user in a host": {"X-Forwarded-Host": "user@evil.example"},
    "line end": {"Forwarded": 'host="a\r\nSet-Cookie: x"'},
    "scheme of a script": {"X-Forwarded-Proto": "javascript"},
    "no port": {"X-Forwarded-Port": "0"},
    "large port": {"X-Forwarded-Port": "70000"},
    "other digits": {"X-Forwarded-Port": "٣"},
    "angle in a prefix": {"X-Forwarded-Prefix": "/<script>"},
    "prefix of another host": {"X-Forwarded-Prefix": "//evil.example"},
    "prefix without a slash": {"X-Forwarded-Prefix": "evil"},
    "no pairs": {"Forwarded": ";;==,,"},
    "unfinished quote": {"Forwarded": 'host="evil.example'},
}


@pytest.mark.parametrize(("headers", "url"), TOLD.values(), ids=TOLD)
def test_what_a_trusted_proxy_says_is_where_links_lead(headers, url):
    assert reached("http", "here:80", Headers(headers), trusted=True).url == url


@pytest.mark.parametrize(("headers", "_url"), TOLD.values(), ids=TOLD)
def test_what_others_say_is_not_believed(headers, _url):
    assert reached("http", "here:80", Headers(headers), trusted=False).url == "http://here:80"


@pytest.mark.parametrize("headers", HOSTILE.values(), ids=HOSTILE)
def test_what_cannot_stand_in_a_url_is_not_believed(headers):
    told = Headers(raw=[(k.encode(), v.encode("utf-8")) for k, v in headers.items()])
    lower = Headers(raw=[(k.lower(), v) for k, v in told.raw])
    assert reached("http", "here", lower, trusted=True).url == "http://here"


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=60))
def test_whatever_is_told_a_link_is_a_link(forwarded, host, prefix):
    raw = [(b"forwarded", forwarded.encode()), (b"x-forwarded-host", host.encode()),
           (b"x-forwarded-prefix", prefix.encode())]  # fmt: skip
    url = reached("http", "here", Headers(raw=raw), trusted=True).url
    scheme, _, rest = url.partition("://")
    assert scheme in ("http", "https")
    assert is_host(rest.partition("/")[0])
    assert not set(url) & set("\"'<>\\ \r\n\t\0?#")


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("::ffff:127.0.0.1", True),
     ("10.0.0.1", False), ("::2", False), ("", False), ("testclient", False)],
)  # fmt: skip
def test_loopback_is_trusted_unless_told_otherwise(peer, trusted):
    assert is_trusted(peer, HttpSection().proxies) is trusted


def test_other_proxies_are_trusted_when_written():
    networks = HttpSection(trusted_proxies=("10.0.0.0/8",)).proxies
    assert networks == (ipaddress.ip_network("10.0.0.0/8"),)
    assert is_trusted("10.1.2.3", networks)
    assert not is_trusted("127.0.0.1", networks)


@pytest.mark.parametrize("wrong", ["example.org", "10.0.0.0/99", "", "<x>"])
def test_a_proxy_that_is_no_network_is_refused(wrong):
    with pytest.raises(ValueError, match="trusted_proxies"):
        HttpSection(trusted_proxies=(wrong,))


@pytest.mark.parametrize(
    "wrong", ["example.org", "ftp://example.org", "https://a b", 'https://a"b', "https://a/?x"]
)
def test_a_public_url_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match="public_url"):
        ArchiveSection(public_url=wrong)


# -- over a real socket ------------------------------------------------------------------------

FORWARDED = {
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "images.example.org",
    "X-Forwarded-Prefix": "/room",
}


def every_link(client, headers) -> set[str]:
    """All URLs that search and metadata give."""
    match = client.get("/studies", headers=headers).json()[0]
    study = f"/studies/{match['0020000D']['Value'][0]}"
    links = {match["00081190"]["Value"][0]}
    for metadata in client.get(study + "/metadata", headers=headers).json():
        links |= {e["BulkDataURI"] for e in metadata.values() if "BulkDataURI" in e}
    return links


def test_every_link_leads_through_the_proxy(client, archive):
    store(archive, wheel_file("CT_small.dcm"))
    assert all(
        link.startswith("https://images.example.org/room/dicom-web/studies/")
        for link in every_link(client, FORWARDED)
    )


@pytest.mark.parametrize("path", ["/room/dicom-web/studies", "/dicom-web/studies"])
def test_the_proxy_may_strip_its_prefix_or_not(client, path):
    url = client.base_url.copy_with(path=path)
    assert client.get(url, headers=FORWARDED).status_code == 200


@pytest.fixture
def public(tmp_path):
    section = ArchiveSection(
        data_dir=tmp_path / "data", keep_free_bytes=0, public_url="https://example.org/room/"
    )
    with running_archive(make_config(tmp_path, archive=section)) as archive:
        store(archive, wheel_file("CT_small.dcm"))
        with http_client(archive) as client:
            yield client


def test_the_public_url_of_the_settings_wins(public):
    for headers in ({}, FORWARDED, {"Host": "other.example"}):
        assert all(
            link.startswith("https://example.org/room/dicom-web/studies/")
            for link in every_link(public, headers)
        )
    url = public.base_url.copy_with(path="/room/dicom-web/studies")
    assert public.get(url).status_code == 200


@pytest.mark.parametrize(
    ("host", "completed"),
    [("127.0.0.1", True), ("localhost", True), ("127.0.0.1:99", False), ("[::1]", True),
     ("example.org", False), ("example.org:99", False)],
)  # fmt: skip
def test_a_name_of_this_machine_without_a_port_is_completed(host, completed, client, archive):
    store(archive, wheel_file("CT_small.dcm"))
    port = client.base_url.port
    (study,) = client.get("/studies", headers={"Host": host}).json()
    expected = f"{host}:{port}" if completed else host
    assert study["00081190"]["Value"][0].startswith(f"http://{expected}/dicom-web/studies/")


def test_the_hosts_of_requests_are_where_their_links_lead(client, archive):
    store(archive, wheel_file("CT_small.dcm"))
    for host in ("example.org", "example.org:81", "[2001:db8::1]:8080"):
        assert all(
            link.startswith(f"http://{host}/dicom-web/")
            for link in every_link(client, {"Host": host})
        )

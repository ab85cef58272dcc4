"""Whatever is asked is answered, and never with a failure of ours: requests as raw bytes."""

import http.client
import socket
import string

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicomweb.openapi import template
from dicomweb.routes import ROUTES

SEGMENTS = st.one_of(
    st.sampled_from(
        [
            "studies", "series", "instances", "frames", "metadata", "rendered", "thumbnail",
            "bulkdata", "pixeldata", "1.2.3", "1", "0", "-1", "1,2",
            "1,,2", "%2F", "%00", "%zz",
            "..", "%2e%2e", ".", "", "%E9", "%C3%A9", "*", "{study}", "1.2.3;x=y", "count", "~",
            "7FE00010", "00091002/1/00080018", "wado", "api", "changes",
            "latest", "viewer", "1"
        ]
    ),
    st.text(
        st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="?#"), max_size=12
    ),
)  # fmt: skip
NAMES = st.one_of(
    st.sampled_from(
        [
            "limit", "offset", "includefield", "fuzzymatching", "accept", "charset",
            "orderby", "PatientName", "StudyDate", "StudyTime", "00080020", "0020000D",
            "ModalitiesInStudy", "RequestAttributesSequence.ScheduledProcedureStepID",
            "00400275.00400009", "window", "viewport", "quality", "annotation", "iccprofile",
            "requestType", "objectUID", "since", "kind", "wait", "strict", "count",
            "TimezoneOffsetFromUTC", "00091002", "private.00091002", "transfer-syntax",
            "contentType", "region", "rows", "frameNumber", "windowCenter",
        ]
    ),
    st.text(max_size=8),
)  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(
        [
            "", "*", "?", "%25", "a*b?c", "20200101-20191231",
            "-", "19000101-", "-19000101", "1,2",
            "1\\2", "\\", '"', "'", "0", "-1", "1e9",
            "NaN", "inf", "99999999999999999999999", "true",
            "image/png", "application/dicom+json;q=0", "multipart/related; type=",
            "512,512", "0,0",
            "1,1,-1,-1,2,2", "100000,100000", "40,400,linear", "0,0,0,0", "1.2.840.10008.1.2.1",
            "=^=", "^", "A^B^C^D^E=山田^太郎", "\r\nX: y", "é", "\U0001f600", "WADO", "patient",
            "yes", "0.5,0.5,0.1,0.1", "latest", "stored,deleted", "UTF-8", "utf-16", "1" * 300,
        ]
    ),
    st.text(max_size=20),
)  # fmt: skip
HEADER_VALUES = st.one_of(
    st.sampled_from(
        [
            "bytes=0-0", "bytes=5-", "bytes=-5", "bytes=-0", "bytes=9-5", "bytes=0-1,3-4",
            "bytes=", "bytes=99999999999999999999-", "*", '"x"', 'W/"x", "y"',
            "gzip, zstd;q=0.1", "identity;q=0", "*;q=0", "Thu, 01 Jan 1970 00:00:00 GMT",
            "Thu, 99 Foo", "application/dicom",
            'multipart/related; type="application/octet-stream"; transfer-syntax=*',
            "text/html", "multipart/related; type=application/dicom; transfer-syntax=1.2.3",
            "*/*;q=nan", ";;,,", "image/jpeg, image/gif;q=0.9", "application/zip",
            "application/dicom+xml", '"', "for=_x", 'host="a:b:c"',
            "text/event-stream;q=0, */*", "https", "/prefix", "-1", "application/json",
        ]
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30),
)  # fmt: skip
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "Accept", "Accept-Encoding", "Accept-Charset", "Range", "If-Range",
            "If-None-Match", "If-Match", "If-Modified-Since", "If-Unmodified-Since",
            "Forwarded", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port",
            "X-Forwarded-Prefix", "Origin", "Cookie", "Access-Control-Request-Method",
            "Access-Control-Request-Headers", "Authorization", "Last-Event-ID",
            "Content-Type", "TE", "Expect",
        ]
    ),
    HEADER_VALUES,
    max_size=4,
)  # fmt: skip
TEMPLATES = st.sampled_from([template(route) for route in ROUTES])


@st.composite
def targets(draw, real):
    """A request target: of a route, of what is stored, or of anything."""
    kind = draw(st.integers(0, 3))
    if kind == 0:
        path = "/" + "/".join(draw(st.lists(SEGMENTS, max_size=7)))
    elif kind == 1:
        path = draw(TEMPLATES)
        while "{" in path:
            before, _, rest = path.partition("{")
            path = before + draw(SEGMENTS).replace("{", "%7B") + rest.partition("}")[2]
    else:
        tails = ["", "/metadata", "/rendered", "/thumbnail", "/frames/1", "/frames/1/rendered",
                 "/bulkdata/7FE00010", "/pixeldata", "/frames/9"]  # fmt: skip
        path = "/dicom-web" + draw(st.sampled_from(real)) + draw(st.sampled_from(tails))
    pairs = draw(st.lists(st.tuples(NAMES, VALUES), max_size=3))
    query = "&".join(f"{escaped(name)}={escaped(value)}" for name, value in pairs)
    return path + ("?" + query if pairs else "")


def escaped(text: str) -> str:
    """Percent-encoded where it must be, and a plain % left as it is."""
    kept = b"!$'()*,-./:;=@[]\\^_`{|}~%" + string.ascii_letters.encode() + b"0123456789"
    return "".join(
        chr(byte) if byte in kept else f"%{byte:02X}"
        for byte in text.encode("utf-8", "replace")
    )


def test_no_request_makes_the_archive_fail_or_hang(room):
    # Small ones: how long a decoder takes is another test's matter.
    names = {"CT_small.dcm", "MR_small.dcm", "test-SR.dcm", "rtplan.dcm"} & set(room.refs)
    assert len(names) > 1
    real = [
        url(name)
        for name in sorted(names)
        for url in (room.url, room.series_url, room.study_url)
    ]
    place = room.client.base_url

    @settings(
        max_examples=600,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(["GET", "HEAD", "OPTIONS", "GET", "PUT"]), targets(real), HEADERS)
    def ask(method, target, headers):
        # Events do not end by themselves.
        if "text/event-stream" in (target + str(headers)):
            return
        target = target.replace("wait=", "weight=")
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        with socket.create_connection((place.host, place.port), timeout=60) as connection:
            connection.sendall("\r\n".join(lines).encode("utf-8") + b"\r\n\r\n")
            response = http.client.HTTPResponse(connection, method=method)
            response.begin()
            body = response.read()
        assert response.status < 500, (method, target, headers, response.status, body)
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        length = response.headers["Content-Length"]
        if length is not None and method != "HEAD" and response.status != 304:
            assert len(body) == int(length)

    ask()

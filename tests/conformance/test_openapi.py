"""The interface is as its own description says: schemathesis asks, the archive answers."""

import contextlib
import re

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    negative_data_rejection,
    positive_data_acceptance,
)

from archive.errors import ArchiveError
from dicomweb.interface import DESCRIBED
from dicomweb.openapi import template
from dicomweb.routes import ROUTES
from tests.conftest import http_client, make_config, running_archive, store, wheel_file

NAMES = (
    "CT_small.dcm", "693_J2KI.dcm", "SC_rgb_rle_2frame.dcm", "test-SR.dcm", "rtplan.dcm",
    "examples_palette.dcm", "waveform_ecg.dcm", "liver_1frame.dcm",
)  # fmt: skip
EXAMPLES = {"GET": 8, "POST": 6, "DELETE": 4}


BODIES = (
    "application/dicom",
    "multipart/related",
    "application/dicom+json",
    "application/dicom+xml",
)
for body in BODIES:
    schemathesis.openapi.media_type(body, st.binary(min_size=1, max_size=300))


@schemathesis.serializer(*BODIES)
def as_it_is(_context, value):
    return value


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    """The description of a running archive that holds a few real files, and what it holds."""
    config = make_config(tmp_path_factory.mktemp("described") / "data")
    with running_archive(config) as archive, http_client(archive) as client:
        refs = []
        for name in NAMES:
            with contextlib.suppress(ArchiveError):
                refs.append(store(archive, wheel_file(name)).ref)
        url = client.base_url.copy_with(path="/api/openapi.json")
        schema = schemathesis.openapi.from_dict(client.get(url).json())
        schema.config.update(base_url=str(client.base_url.copy_with(path="/")))
        yield schema, refs


def existing(case, ref) -> None:
    """Let the path name what is stored."""
    real = {
        "study": ref.study_instance_uid,
        "series": ref.series_instance_uid,
        "instance": ref.sop_instance_uid,
        "frames": "1",
        "path": "7FE00010",
    }
    for name in case.path_parameters or {}:
        case.path_parameters[name] = real[name]


# What no schema can say: how long we wait, which attributes there are, what we accept.
HARMLESS = {"wait": 0, "strict": "false", "orderby": "PatientName", "accept": "*/*"}
OPERATIONS = [(resource, method) for resource in ROUTES for method in resource.answered]
WITH_PARAMETERS = [
    (resource, method)
    for resource, method in OPERATIONS
    if method == "GET" and DESCRIBED[resource.answered[method].name].parameters
]


def named(operations) -> dict:
    return {"ids": [f"{method} {resource.path}" for resource, method in operations]}


@pytest.mark.parametrize(("resource", "method"), OPERATIONS, **named(OPERATIONS))
def test_every_answer_is_as_described(described, resource, method):
    schema, refs = described
    asking(schema[template(resource)][method], refs, EXAMPLES.get(method, 1))()


@pytest.mark.parametrize(("resource", "method"), WITH_PARAMETERS, **named(WITH_PARAMETERS))
def test_what_is_not_as_described_is_answered_too(described, resource, method):
    schema, refs = described
    operation = schema[template(resource)][method]
    asking(operation, refs, EXAMPLES.get(method, 1), GenerationMode.NEGATIVE)()


def asking(operation, refs, examples, mode=GenerationMode.POSITIVE):
    """A run of requests to one operation: most of them for what is stored."""
    excluded = [negative_data_rejection]
    if re.search("rendered|thumbnail|wado|^POST", operation.label):
        # Whether a region lies inside an image, or a body is DICOM, no schema says.
        excluded.append(positive_data_acceptance)

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), ref=st.sampled_from([None, *refs]))
    def ask(case, ref):
        if ref is not None and case.method in ("GET", "HEAD"):
            existing(case, ref)
        for name, harmless in HARMLESS.items():
            if case.query and name in case.query:
                case.query[name] = harmless
        case.call_and_validate(timeout=20, excluded_checks=excluded)

    return ask

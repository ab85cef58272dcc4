"""Bulk values in matches: their addresses resolve, or are left out (PS3.18 §10.6)."""

import re

import pytest
from pydicom.dataset import Dataset

from tests import synthetic
from tests.conftest import store

IMPLICIT = "1.2.840.10008.1.2"


@pytest.fixture
def long_values(client, archive):
    dataset = synthetic.image(rows=50, columns=100, number_of_frames=1, bits_allocated=8)
    dataset.AccessionNumber = "7" * 70_000
    dataset.SeriesDescription = "s" * 70_000
    dataset.PixelData = bytes(5000)
    dataset.IconImageSequence = [Dataset()]
    dataset.IconImageSequence[0].add_new("RedPaletteColorLookupTableData", "OW", bytes(2000))
    return store(archive, synthetic.part10(dataset, IMPLICIT)).ref


@pytest.mark.parametrize("level", ["studies", "series", "instances"])
@pytest.mark.parametrize("include", ["", "all", "PixelData,AccessionNumber,IconImageSequence"])
def test_every_bulk_data_uri_of_a_match_resolves(client, long_values, level, include):
    fields = {"includefield": include} if include else {}
    response = client.get(f"/{level}", params=fields)
    assert response.status_code == 200
    for uri in re.findall(r'"BulkDataURI":"([^"]*)"', response.text):
        assert client.get(uri).status_code == 200, uri


def test_a_bulk_value_that_is_asked_for_comes_by_its_address(client, long_values):
    fields = {"includefield": "PixelData,IconImageSequence"}
    (match,) = client.get("/instances", params=fields).json()
    url = match["00081190"]["Value"][0]
    assert match["7FE00010"]["BulkDataURI"] == f"{url}/bulkdata/7FE00010"
    inside = match["00880200"]["Value"][0]["00281201"]
    assert inside["BulkDataURI"] == f"{url}/bulkdata/00880200/0/00281201"


@pytest.mark.parametrize("level", ["studies", "series"])
def test_a_value_too_long_to_be_told_has_no_address_above_instances(client, long_values, level):
    (match,) = client.get(f"/{level}", params={"includefield": "00080050"}).json()
    assert match["00080050"] == {"vr": "SH"}

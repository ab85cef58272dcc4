"""Images and decoded frames that are kept are shown while what they were made of stands."""

import io

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian

from archive.auth.principal import OPERATOR, Principal, Right
from archive.config import ArchiveSection
from archive.errors import NotFoundError
from archive.identity import InstanceRef, SeriesRef
from storage.index.scope import Scope
from tests.conftest import http_client, make_config, running_archive, store, wheel_file
from tests.synthetic import image, part10

STUDY, SERIES = "1.2.3.4", "1.2.3.4.5"
URL = f"/studies/{STUDY}/series/{SERIES}"
JPEG = {"Accept": "image/jpeg"}
NATIVE = {"Accept": "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1"}


def slice_of(number: int, level: int = 100) -> bytes:
    made = image(rows=8, columns=8, number_of_frames=1, bits_allocated=8)
    made.PixelData = np.full((8, 8), level, np.uint8).tobytes()
    made.StudyInstanceUID, made.SeriesInstanceUID = STUDY, SERIES
    made.SOPInstanceUID, made.InstanceNumber = f"{SERIES}.{number}", number
    return part10(made, ExplicitVRLittleEndian)


def level_of(body: bytes) -> int:
    return int(np.asarray(Image.open(io.BytesIO(body)).convert("L")).mean().round())


def get_twice(client, url, headers):
    first, again = client.get(url, headers=headers), client.get(url, headers=headers)
    assert (first.status_code, first.content) == (again.status_code, again.content)
    assert first.headers["etag"] == again.headers["etag"]
    return again


def test_what_is_deleted_is_shown_no_more_though_it_was_made(archive, client):
    store(archive, slice_of(1))
    urls = [f"{URL}/instances/{SERIES}.1/rendered", f"{URL}/rendered", f"{URL}/thumbnail"]
    for url in urls:
        assert get_twice(client, url, JPEG).status_code == 200
    assert client.delete(f"{URL}/instances/{SERIES}.1").status_code == 204
    for url in urls:
        assert client.get(url, headers=JPEG).status_code == 404


def test_decoded_frames_that_are_kept_go_with_their_instance(archive, client):
    outcome = store(archive, wheel_file("JPEG2000.dcm"))
    ref = outcome.ref
    url = (
        f"/studies/{ref.study_instance_uid}/series/{ref.series_instance_uid}"
        f"/instances/{ref.sop_instance_uid}"
    )
    assert get_twice(client, f"{url}/frames/1", NATIVE).status_code == 200
    assert client.delete(url).status_code == 204
    assert client.get(f"{url}/frames/1", headers=NATIVE).status_code == 404


def test_who_stands_for_a_series_is_chosen_again_when_it_grows(archive, client):
    store(archive, slice_of(1))
    assert (
        f"{SERIES}.1/"
        in get_twice(client, f"{URL}/thumbnail", JPEG).headers["content-location"]
    )
    for number in (2, 3):
        store(archive, slice_of(number))
    assert (
        f"{SERIES}.2/"
        in get_twice(client, f"{URL}/thumbnail", JPEG).headers["content-location"]
    )
    assert client.delete(f"{URL}/instances/{SERIES}.1").status_code == 204
    assert (
        f"{SERIES}.3/"
        in get_twice(client, f"{URL}/thumbnail", JPEG).headers["content-location"]
    )


def test_what_replaces_an_instance_is_what_is_shown(tmp_path):
    settings = ArchiveSection(
        data_dir=tmp_path / "data", keep_free_bytes=0, conflict_policy="replace"
    )
    config = make_config(tmp_path / "data", archive=settings)
    with running_archive(config) as archive, http_client(archive) as client:
        url = f"{URL}/instances/{SERIES}.1/rendered"
        for level in (50, 200):
            store(archive, slice_of(1, level))
            assert level_of(get_twice(client, url, JPEG).content) == pytest.approx(level, abs=1)


def test_what_one_may_see_is_not_recalled_for_another(archive):
    store(archive, slice_of(1))
    instance, series = InstanceRef(STUDY, SERIES, f"{SERIES}.1"), SeriesRef(STUDY, SERIES)
    views = archive.render.views
    nobody = Principal("nobody", "", frozenset({Right.READ}), Scope(None, frozenset()))
    for ref in (instance, series):
        assert views.recall(OPERATOR, ref) is None
        shown = views.representative(OPERATOR, ref)
        assert views.recall(OPERATOR, ref) is shown
        for ask in (views.recall, views.representative):
            with pytest.raises(NotFoundError):
                ask(nobody, ref)
        archive.render.views._subjects._known.clear()

"""What makes large archives fast finds the same as what is simple."""

import itertools
import sqlite3

import psycopg
import pytest

from archive.auth.principal import OPERATOR
from archive.ingest.extract import describe
from archive.query.parameters import parse_search
from archive.query.request import Level
from archive.query.service import QueryService
from benchmarks.filling import fill
from benchmarks.population import instances, study_uid
from storage.index import planning, skipping
from storage.index.candidates import CandidateSearch
from storage.index.engine import IndexEngine
from storage.index.insertion import InstanceInserter
from storage.index.lifecycle import Act, InstanceLifecycle
from storage.index.scope import Scope
from storage.index.search import IndexSearch
from storage.index.selection import Target
from tests.conftest import new_database

STUDIES = 400
EVERYTHING = Scope(collections=None, partitions=None)
ACT = Act(principal="operator", reason="", at_us=5)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("growth") / "index.db"
    fill(path, STUDIES)
    return path


@pytest.fixture(scope="module")
def url(postgres_cluster):
    url = new_database(postgres_cluster)
    fill(url, STUDIES)
    return url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def query(request):
    if request.param == "sqlite":
        engine = IndexEngine(f"sqlite:///{request.getfixturevalue('path')}")
    else:
        engine = IndexEngine(driven(request.getfixturevalue("url")))
    yield QueryService(IndexSearch(engine), CandidateSearch(engine))
    engine.close()


def driven(url):
    return url.replace("://", "+psycopg://")


def found(query, level=Level.STUDY, **keys) -> tuple[list[str], bool, int | None]:
    limit, offset = keys.pop("limit", "20"), keys.pop("offset", "0")
    parameters = [*keys.items(), ("limit", limit), ("offset", offset)]
    page = query.page(OPERATOR, parse_search(parameters, level, ()).request)
    tag = "0020000D" if level is Level.STUDY else "0020000E"
    uids = [match[tag]["Value"][0] for match in page.matches]
    return uids, page.more, page.remaining


TEXTS = [
    {"PatientName": "mu*"},
    {"PatientName": "*ler*"},
    {"PatientName": "*an*^*a*"},
    {"PatientName": "*lerm*", "StudyDate": "20150101-20261231"},
    {"PatientID": "*100*"},
    {"StudyDescription": "ct*"},
    {"StudyDescription": "*chest*", "ModalitiesInStudy": "CT"},
    {"ModalitiesInStudy": "CT,NM"},
    {"ModalitiesInStudy": "NM,PT", "PatientName": "*a*"},
    {"AccessionNumber": "A2000001?"},
]


@pytest.mark.parametrize("keys", TEXTS, ids=str)
@pytest.mark.parametrize("level", [Level.STUDY, Level.SERIES])
def test_an_index_of_text_finds_what_looking_at_every_study_finds(
    query, monkeypatch, keys, level
):
    asked = []
    for few, weight in ((-1, 1e9), (1e9, 0)):
        monkeypatch.setattr(planning, "_FEW", few)
        monkeypatch.setattr(planning, "_WEIGHT", weight)
        asked.append([found(query, level, **keys), found(query, level, offset="7", **keys)])
    in_order, by_index = asked
    assert in_order == by_index
    assert in_order[0][0]


def test_series_by_modality_of_studies_by_modality(query):
    both = found(query, Level.SERIES, Modality="CT", ModalitiesInStudy="CT")
    assert both == found(query, Level.SERIES, Modality="CT")
    assert both[0]
    assert not found(query, Level.SERIES, Modality="CT", ModalitiesInStudy="MR")[0]


ATTRIBUTES = [
    {"KVP": "120"},
    {"KVP": "120", "ConvolutionKernel": "B*"},
    {"ManufacturerModelName": "aera"},
    {"InstitutionName": "*pital 7"},
    {"ImageType": "AXIAL"},
    {"SliceThickness": "0.6"},
    {"SoftwareVersions": "v?.1"},
]


@pytest.mark.parametrize("keys", ATTRIBUTES, ids=str)
@pytest.mark.parametrize("level", [Level.STUDY, Level.SERIES])
def test_series_that_are_listed_are_those_that_are_asked_one_by_one(
    query, monkeypatch, keys, level
):
    asked = []
    for most in (-1, 1e9):
        monkeypatch.setattr(planning, "_MOST_SERIES", most)
        asked.append([found(query, level, **keys), found(query, level, offset="3", **keys)])
    one_by_one, listed = asked
    assert one_by_one == listed
    assert listed[0][0]


def test_a_deep_page_begins_where_the_pages_before_it_end(query, monkeypatch):
    whole = found(query, limit=str(STUDIES + 1))[0]
    assert len(whole) == STUDIES
    monkeypatch.setattr(skipping, "_DEEP", {"sqlite": 1, "postgresql": 1})
    for offset in (1, 2, 57, 199, 200, STUDIES - 1, STUDIES, STUDIES + 5):
        expected = whole[offset : offset + 20]
        behind = max(STUDIES - offset - 20, 0)
        assert found(query, offset=str(offset)) == (expected, behind > 0, behind)


def test_a_deep_page_skips_nothing_where_studies_have_no_date(tmp_path, monkeypatch):
    fill(tmp_path / "index.db", 20)
    connection = sqlite3.connect(tmp_path / "index.db")
    connection.execute("UPDATE study SET study_date = '' WHERE id % 2")
    connection.commit()
    connection.close()
    engine = IndexEngine(f"sqlite:///{tmp_path / 'index.db'}")
    query = QueryService(IndexSearch(engine), CandidateSearch(engine))
    whole = found(query)[0]
    monkeypatch.setattr(skipping, "_DEEP", {"sqlite": 1, "postgresql": 1})
    pages = [found(query, limit="3", offset=str(offset))[0] for offset in range(0, 24, 3)]
    assert list(itertools.chain(*pages)) == whole
    engine.close()


def test_the_studies_of_each_day_are_counted_whatever_becomes_of_them(tmp_path):
    path = tmp_path / "index.db"
    fill(path, 30)
    engine = IndexEngine(f"sqlite:///{path}")
    lifecycle = InstanceLifecycle(engine, describe)
    assert days(path) == counted(path)
    for number in (3, 4, 5):
        lifecycle.delete(EVERYTHING, Target(study_uid(number)), ACT)
    assert days(path) == counted(path)
    lifecycle.restore(EVERYTHING, Target(study_uid(4)), ACT)
    assert days(path) == counted(path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE study SET study_date = '20200101', partition = 'x' WHERE id < 9")
    connection.execute("DELETE FROM study WHERE id > 25")
    connection.commit()
    connection.close()
    assert days(path) == counted(path)
    assert sum(days(path).values()) == 23
    engine.close()


@pytest.mark.postgresql
def test_the_studies_of_each_day_are_counted_on_postgresql(postgres_cluster):
    url = new_database(postgres_cluster)
    fill(url, 10)
    engine = IndexEngine(driven(url))
    inserter, lifecycle = InstanceInserter(engine), InstanceLifecycle(engine, describe)
    for number in range(10, 30):
        inserter.insert(list(instances(number)))
    assert days(url) == counted(url)
    for number in (3, 4, 15):
        lifecycle.delete(EVERYTHING, Target(study_uid(number)), ACT)
    assert days(url) == counted(url)
    lifecycle.restore(EVERYTHING, Target(study_uid(4)), ACT)
    assert days(url) == counted(url)
    with psycopg.connect(url) as connection:
        connection.execute(
            "UPDATE study SET study_date = '20200101', partition = 'x' WHERE id < 9"
        )
    assert days(url) == counted(url)
    assert sum(days(url).values()) == 28
    engine.close()


def days(path):
    return rows(path, "SELECT * FROM study_day WHERE studies <> 0")


def counted(path):
    return rows(
        path,
        "SELECT study_date, collection, partition, count(*) FROM study"
        " WHERE number_of_instances > 0 GROUP BY 1, 2, 3",
    )


def rows(place, statement):
    is_url = isinstance(place, str)
    connection = psycopg.connect(place) if is_url else sqlite3.connect(place)
    found = {row[:-1]: row[-1] for row in connection.execute(statement)}
    connection.close()
    return found

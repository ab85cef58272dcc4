"""The engine and a matcher written from PS3.4 §C.2.2.2 find the same, on both databases."""

import fnmatch
import re
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archive.auth.principal import ANONYMOUS
from archive.dicom.normalise import normalise_text
from archive.ingest.columns import instance_columns, series_row, study_row
from archive.query.request import Level, SearchKey, SearchRequest
from archive.query.service import QueryService
from storage.index import search as search_module
from storage.index.candidates import CandidateSearch
from storage.index.engine import IndexEngine
from storage.index.insertion import InstanceInserter
from storage.index.levels import SearchLevel
from storage.index.migrate import migrate
from storage.index.rows import InstanceRow, NewInstance, Source
from storage.index.search import IndexQuery, IndexSearch


@dataclass(frozen=True)
class Study:
    name: str
    patient_id: str
    date: str
    modality: str
    description: str


_NAMES = [
    "Doe^Jane",
    "DOE^JOHN",
    "Müller^Åsa",
    "O'Brien^100%",
    "a_b^c[d]",
    "山田^太郎=やまだ^たろう",
    "",
]
_STUDIES = st.builds(
    Study,
    name=st.sampled_from(_NAMES),
    patient_id=st.sampled_from(["P1", "p1", "P_1", "P%", "12", ""]),
    date=st.sampled_from(["20240101", "20240131", "20231231", ""]),
    modality=st.sampled_from(["CT", "MR", "US"]),
    description=st.sampled_from(["Chest", "CHEST AP", "Tête", ""]),
)
_KEYS = st.fixed_dictionaries(
    {},
    optional={
        "00100010": st.sampled_from(
            [
                "doe^jane",
                "Doe*",
                "*o*",
                "D?E^J*",
                "muller*",
                "*100%*",
                "a_b*",
                "*[d]",
                "山田*",
                "*",
            ]
        ),
        "00100020": st.sampled_from(["P1", "P?", "*1", "P_1", "P%", "*%*", "1*"]),
        "00080020": st.sampled_from(
            ["20240101", "20240101-20240131", "-20240101", "20240131-"]
        ),
        "00080061": st.sampled_from(["CT", "CT,MR", "CT\\US", "XX"]),
        "00081030": st.sampled_from(["chest", "chest*", "*AP", "tete", "?hest"]),
    },
)


def new(number: int, study: Study) -> NewInstance:
    groups = dict(zip(("Alphabetic", "Ideographic"), study.name.split("="), strict=False))
    attributes = {
        "00080020": {"vr": "DA", "Value": [study.date]} if study.date else {"vr": "DA"},
        "00080060": {"vr": "CS", "Value": [study.modality]},
        "00081030": {"vr": "LO", "Value": [study.description]},
        "00100010": {"vr": "PN", "Value": [groups]},
        "00100020": {"vr": "LO", "Value": [study.patient_id]},
        "0020000D": {"vr": "UI", "Value": [f"1.{number}"]},
        "0020000E": {"vr": "UI", "Value": [f"1.{number}.1"]},
    }
    columns = instance_columns(attributes)
    from datetime import UTC, datetime

    import zstandard

    return NewInstance(
        study=study_row(attributes),
        series=series_row(attributes),
        instance=InstanceRow(
            sop_instance_uid=f"1.{number}.1.1",
            sop_class_uid="1.2",
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            **{name: getattr(columns, name) for name in columns.__slots__},
            object_key=f"o/{number}",
            size_bytes=1,
            dataset_offset=0,
            digest=bytes(32),
            received_at=datetime(2026, 1, 1, tzinfo=UTC),
            warnings=0,
            metadata=zstandard.compress(b"{}"),
            bulk=b"",
            frames=b"",
        ),
        source=Source("", "default", "import", "x"),
        source_key="k",
    )


def matches(study: Study, keys: dict[str, str]) -> bool:
    return all(_matches(study, tag, value) for tag, value in keys.items())


def _like(text: str, pattern: str) -> bool:
    escaped = pattern.replace("[", "\0").replace("]", "\1")
    expression = fnmatch.translate(escaped).replace("\0", r"\[").replace("\1", r"\]")
    return re.fullmatch(expression, text) is not None


def _matches(study: Study, tag: str, value: str) -> bool:
    if value == "*":
        return True
    if tag == "00100010":
        pattern = normalise_text(value)
        groups = [normalise_text(group) for group in study.name.split("=")]
        whole = "=".join(groups)
        return any(_like(group, pattern) for group in groups) or (
            pattern[:1] == pattern[-1:] == "*" and _like(whole, pattern)
        )
    if tag == "00100020":
        return _like(study.patient_id, value)
    if tag == "00081030":
        return _like(normalise_text(study.description), normalise_text(value))
    if tag == "00080061":
        return study.modality in re.split(r"[,\\]", value)
    low, dash, high = value.partition("-")
    if not dash:
        return study.date == value
    return bool(study.date) and (low or "0") <= study.date <= (high or "9")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def fresh_engine(request, tmp_path_factory):
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('index') / 'index.db'}"
    else:
        url = request.getfixturevalue("postgres_url")
    engine = IndexEngine(url)
    migrate(engine)
    yield engine
    engine.close()


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(studies=st.lists(_STUDIES, min_size=1, max_size=8), queries=st.lists(_KEYS, max_size=6))
def test_every_query_finds_what_the_standard_says(fresh_engine, studies, queries):
    from storage.index.migrate import empty

    empty(fresh_engine)
    InstanceInserter(fresh_engine).insert([new(n, study) for n, study in enumerate(studies)])
    service = QueryService(IndexSearch(fresh_engine), CandidateSearch(fresh_engine))
    for keys in queries:
        request = SearchRequest(
            Level.STUDY, keys=tuple(SearchKey((tag,), value) for tag, value in keys.items())
        )
        found = {m["0020000D"]["Value"][0] for m in service.search(ANONYMOUS, request)}
        expected = {f"1.{n}" for n, study in enumerate(studies) if matches(study, keys)}
        assert found == expected, keys
        assert service.count(ANONYMOUS, request) == len(expected)


def plan(engine, *predicates) -> str:
    query = IndexQuery(SearchLevel.STUDY, tuple(predicates), limit=101)
    with engine.read() as connection:
        statement, values = search_module._statement(connection, ANONYMOUS.scope, query)
        compiled = statement.params(values).compile(
            connection.engine, compile_kwargs={"literal_binds": True}
        )
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}").fetchall()
    return "; ".join(row[3] for row in rows)


def test_a_study_list_reads_an_index_in_the_order_of_the_answer(tmp_path):
    from storage.index.predicates import Between, OneOf

    engine = IndexEngine(f"sqlite:///{tmp_path / 'index.db'}")
    migrate(engine)
    try:
        newest = plan(engine)
        assert "ix_study_listed" in newest
        assert "TEMP B-TREE" not in newest
        exact = plan(engine, OneOf("study.patient_id", ("P1",)))
        assert "ix_study_patient_id" in exact
        month = plan(
            engine,
            OneOf("study_modality.modality", ("CT",)),
            Between("study.study_date", "20240101", "20240131"),
        )
        assert "ix_study_modality_modality_study_date" in month
        assert "TEMP B-TREE" not in month
    finally:
        engine.close()

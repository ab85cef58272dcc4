"""C-FIND and QIDO-RS find the same for the same question, whatever is asked."""

import contextlib
import threading
from dataclasses import dataclass

import httpx
import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation
from pynetdicom.presentation import build_context

from archive.dicom.dictionary import public_vr
from archive.errors import ArchiveError
from dimse.server import DicomServer
from tests.builders import dataset, item, part10
from tests.conftest import (
    http_client,
    listening_socket,
    make_config,
    running_archive,
    store,
)

PATIENT_ROOT = "1.2.840.10008.5.1.4.1.2.1.1"
RESOURCES = {"STUDY": "/studies", "SERIES": "/series", "IMAGE": "/instances"}
IDENTITY = {"STUDY": "0020000D", "SERIES": "0020000E", "IMAGE": "00080018"}
UIDS = [f"1.2.7.{n}" for n in range(4)]
NAMES = ["Doe^Jane", "Doe^John", "Müller^Jürg", "Smith", "Yamada^Tarou=山田^太郎", ""]
WORDS = ["chest", "Head", "CT chest", "a_b%c", "", "über"]
DATES = ["20200101", "20200102", "20200103", "20191231", ""]
TIMES = ["000000", "101112", "1011", "235959.5", ""]


def fill(archive) -> None:
    """Every value above, in different company each time."""
    for n in range(24):
        study, series = f"1.2.7.{n % 8}", f"1.2.7.{n % 8}.{n % 3}"
        made = dataset(
            study, series, f"{series}.{n}", PatientID=f"P{n % 5}",
            PatientName=NAMES[n % 8 % len(NAMES)], StudyDescription=WORDS[n % 8 % len(WORDS)],
            SeriesDescription=WORDS[n % 3], StudyDate=DATES[n % 8 % len(DATES)],
            StudyTime=TIMES[n % 8 % len(TIMES)], AccessionNumber=["A1", "a1", ""][n % 8 % 3],
            SeriesNumber=n % 3, InstanceNumber=n, Rows=256 * (1 + n % 2),
            ContentDate=DATES[n % 5], ImageComments=WORDS[n % 6], KVP=[80, 120.5][n % 2],
            OperatorsName=NAMES[n % 6], AcquisitionDateTime=["20200101101112", ""][n % 2],
            SpecificCharacterSet="ISO_IR 192",
            RequestAttributesSequence=[
                item(
                    ScheduledProcedureStepID=f"S{n % 3}", RequestedProcedureDescription="chest"
                )
            ],
        )  # fmt: skip
        made.Modality = ["CT", "MR", "SR"][n % 3]
        made.add_new(0x00090010, "LO", "ACME")
        made.add_new(0x00091001, "LO", WORDS[n % 3])
        made.add_new(0x00091002, "DS", str(n % 4))
        with contextlib.suppress(ArchiveError):
            store(archive, part10(made))


@dataclass
class Both:
    """The two faces of one archive."""

    client: httpx.Client
    literal: Association
    fuzzy: Association

    def by_find(self, level: str, keys: dict[tuple[str, ...], str], fuzzy: bool):
        wanted = Dataset()
        wanted.QueryRetrieveLevel = level
        wanted.SpecificCharacterSet = "ISO_IR 192"
        wanted.add_new(int(IDENTITY[level], 16), "UI", "")
        for path, value in keys.items():
            place = wanted
            for tag in path[:-1]:
                number = int(tag, 16)
                if number not in place:
                    place.add_new(number, "SQ", [Dataset()])
                place = place[number].value[0]
            number = int(path[-1], 16)
            vr = "" if number >> 16 & 1 else public_vr(number)[:2]
            # Numbers as text, under a VR that is not theirs: devices write that too.
            place.add_new(number, "LO" if vr in ("", "DS", "IS", "US") else vr, value)
        association = self.fuzzy if fuzzy else self.literal
        *pending, (final, _) = association.send_c_find(wanted, PATIENT_ROOT)
        if final.Status != 0:
            return final.Status
        return [str(found[int(IDENTITY[level], 16)].value) for _, found in pending]

    def by_qido(self, level: str, keys: dict[tuple[str, ...], str], fuzzy: bool):
        query = {".".join(path): value for path, value in keys.items()}
        query |= {"fuzzymatching": str(fuzzy).lower(), "limit": "5000"}
        answer = self.client.get(RESOURCES[level], params=query)
        if answer.status_code == 400:
            return 0xA900
        answer.raise_for_status()
        return [match[IDENTITY[level]]["Value"][0] for match in answer.json()]


@pytest.fixture(scope="module", params=["direct", "stock"])
def both(request, tmp_path_factory):
    config = make_config(tmp_path_factory.mktemp("both") / "data")
    dimse = config.dimse.model_copy(update={"engine": request.param, "network_timeout_s": 300})
    config = config.model_copy(update={"dimse": dimse})
    with running_archive(config) as archive, http_client(archive) as client:
        fill(archive)
        listening = listening_socket()
        server = DicomServer(archive, listening)
        thread = threading.Thread(target=server.serve)
        thread.start()
        literal, fuzzy = (associated(server, agreed) for agreed in (b"\1\1\0", b"\1\1\1"))
        yield Both(client, literal, fuzzy)
        literal.release()
        fuzzy.release()
        server.stop()
        thread.join()
        listening.close()


def associated(server, agreed: bytes) -> Association:
    extended = SOPClassExtendedNegotiation()
    extended.sop_class_uid = PATIENT_ROOT
    extended.service_class_application_information = agreed
    entity = AE("TEST")
    entity.network_timeout = None
    association = entity.associate(
        "127.0.0.1", server.port, ae_title="FILEROOM", ext_neg=[extended],
        contexts=[build_context(PATIENT_ROOT, ["1.2.840.10008.1.2.1"])],
    )  # fmt: skip
    assert association.is_established
    return association


def spoilt(values: list[str]) -> st.SearchStrategy[str]:
    """A value, or a part of one with wildcards, or something else altogether."""
    some = st.sampled_from([value for value in values if value])
    cut = st.tuples(some, st.integers(0, 5), st.sampled_from(["*", "?", "", "*?", "**"]))
    other = st.text("abcdeC1^=*?%_ üD山", max_size=6)
    return st.one_of(
        some,
        cut.map(lambda c: c[0][: c[1]] + c[2]),
        cut.map(lambda c: c[2] + c[0][c[1] :]),
        some.map(str.upper),
        st.just("*"),
        other,
    )


def ranged(values: list[str]) -> st.SearchStrategy[str]:
    some = st.sampled_from([value for value in values if value])
    return st.one_of(
        some,
        st.tuples(some, some).map(lambda ends: "-".join(sorted(ends))),
        some.map(lambda end: f"-{end}"),
        some.map(lambda end: f"{end}-"),
        st.sampled_from(["2020", "yesterday", "-", "20201301", "9999"]),
    )


VALUES: dict[tuple[str, ...], st.SearchStrategy[str]] = {
    ("00100010",): spoilt(NAMES),
    ("00100020",): spoilt(["P0", "P1", "P4"]),
    ("00081030",): spoilt(WORDS),
    ("00080050",): spoilt(["A1", "a1"]),
    ("00080020",): ranged(DATES),
    ("00080030",): ranged(TIMES),
    ("0020000D",): st.lists(st.sampled_from([*UIDS, "9.9"]), min_size=1, max_size=3).map(
        "\\".join
    ),
    ("00080061",): st.sampled_from(["CT", "MR", "C?", "CT\\MR", "XX", "*"]),
    ("00201208",): st.sampled_from(["1", "3", "x"]),
    ("00080060",): st.sampled_from(["CT", "SR", "?R", "ct"]),
    ("0008103E",): spoilt(WORDS),
    ("00200011",): st.sampled_from(["0", "1", "1\\2", "x"]),
    ("00081070",): spoilt(NAMES),
    ("00280010",): st.sampled_from(["256", "512", "1"]),
    ("00080023",): ranged(DATES),
    ("00204000",): spoilt(WORDS),
    ("00180060",): st.sampled_from(["80", "120.5", "80.0", "x"]),
    ("0008002A",): ranged(["20200101101112", "20200101"]),
    ("00400275", "00400009"): spoilt(["S0", "S1"]),
    ("00400275", "00321060"): spoilt(["chest"]),
    ("00091001",): spoilt(["chest", "Head"]),
    ("00091002",): st.sampled_from(["1", "2.0", "7"]),
    ("00080056",): st.sampled_from(["ONLINE", "OFFLINE", "ON*"]),
}


@st.composite
def questions(draw):
    level = draw(st.sampled_from(sorted(RESOURCES)))
    paths = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=3, unique=True))
    return level, {path: draw(VALUES[path]) for path in paths}, draw(st.booleans())


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(questions())
@example(("IMAGE", {("00100010",): "="}, False))
@example(("IMAGE", {("00081070",): " "}, False))
def test_the_same_question_has_the_same_answer_in_the_same_order(both, question):
    level, keys, fuzzy = question
    expected = both.by_qido(level, keys, fuzzy)
    event("refused" if expected == 0xA900 else "found" if expected else "nothing found")
    assert both.by_find(level, keys, fuzzy) == expected

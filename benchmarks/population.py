"""A population of studies without pixels: who was examined when, and with what.

Study ``number`` is always the same study, whatever else is made. Ten studies hold a hundred
instances in twenty series. Names, dates, modalities and descriptions are as unevenly spread as
they are in a hospital: a few of them are most of what there is, and most of them are rare.
"""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import orjson

from archive.dicom.compression import compress
from archive.ingest.columns import instance_columns, series_row, study_row
from archive.ingest.terms import terms_of
from storage.index.rows import InstanceRow, NewInstance, Source
from storage.objects.keys import instance_key

SOURCE: Final = Source(
    site="central", collection="archive", protocol="C-STORE", principal="peer:SCANNER",
    calling_ae_title="SCANNER", called_ae_title="FILEROOM", remote="192.0.2.1",
)  # fmt: skip
SOURCE_KEY: Final = "0123456789ab"
ROOT: Final = "1.2.840.99999.7"
# Three thousand studies are of a thousand patients.
_STUDIES_A_BLOCK: Final = 3000
_PATIENTS_A_BLOCK: Final = 1000
# What became of ten studies in a row: instances of each of their series.
_SHAPES: Final = (
    (5,), (2, 18), (1,), (4, 4, 4), (1,), (2,), (1, 12, 12), (2,), (1, 1, 3, 20), (2, 1, 4),
)  # fmt: skip
_LAST_DAY: Final = date(2025, 12, 31)
_DAYS: Final = 7300
_SYLLABLES: Final = (
    "mu", "ler", "son", "berg", "ka", "no", "vi", "ros", "ta", "el", "man", "ha", "dri", "ko",
    "stein", "lu", "pe", "ja", "ni", "wal", "ter", "qui", "zo", "mar",
)  # fmt: skip
_GIVEN: Final = tuple(
    first + second
    for first in ("An", "Be", "Ca", "Da", "El", "Fa", "Gi", "Ha", "Is", "Jo", "Ka", "Lu")
    for second in ("na", "rt", "rlo", "vid", "sa", "tima", "ulia", "nnes", "mael", "seph")
)
# Modality, its SOP class, and how many of a hundred studies are of it.
_MODALITIES: Final = (
    ("CT", "1.2.840.10008.5.1.4.1.1.2", 26), ("MR", "1.2.840.10008.5.1.4.1.1.4", 19),
    ("DX", "1.2.840.10008.5.1.4.1.1.1.1", 22), ("US", "1.2.840.10008.5.1.4.1.1.6.1", 14),
    ("CR", "1.2.840.10008.5.1.4.1.1.1", 8), ("MG", "1.2.840.10008.5.1.4.1.1.1.2", 5),
    ("XA", "1.2.840.10008.5.1.4.1.1.12.1", 3), ("PT", "1.2.840.10008.5.1.4.1.1.128", 2),
    ("NM", "1.2.840.10008.5.1.4.1.1.20", 1),
)  # fmt: skip
_WHEEL: Final = tuple(m for m in _MODALITIES for _ in range(m[2]))
_PARTS: Final = (
    "CHEST", "ABDOMEN", "HEAD", "KNEE", "SPINE", "PELVIS", "SHOULDER", "NECK", "HAND", "HIP",
    "ANKLE", "BREAST", "HEART", "LIVER", "WRIST", "FOOT", "ELBOW", "SINUS", "AORTA", "KIDNEY",
)  # fmt: skip
_PLANES: Final = ("AX", "COR", "SAG", "PA", "LAT", "AP", "3D", "SCOUT")
_MAKERS: Final = (
    ("SIEMENS", ("Definition AS", "Aera", "Skyra", "Force")),
    ("GE MEDICAL SYSTEMS", ("LightSpeed", "Revolution", "Optima")),
    ("Philips", ("Brilliance", "Ingenia", "DigitalDiagnost")),
    ("TOSHIBA", ("Aquilion", "Aplio")), ("FUJIFILM", ("FDR D-EVO",)),
)  # fmt: skip
_KERNELS: Final = ("B30f", "B70f", "STANDARD", "LUNG", "FC18", "FC52", "I31f")
_DOCTORS: Final = 240


def _skewed(chance: random.Random, count: int) -> int:
    """Return a number below ``count``; low ones are common, high ones rare."""
    return int(count * chance.random() ** 3)


def family_name(number: int) -> str:
    """Return one of some 14,000 family names."""
    first, second, third = number % 24, number // 24 % 24, number // 576 % 25
    last = _SYLLABLES[third - 1] if third else ""
    return (_SYLLABLES[first] + _SYLLABLES[second] + last).capitalize()


def _element(vr: str, *values: object) -> dict[str, Any]:
    return {"vr": vr, "Value": list(values)}


def _person(name: str) -> dict[str, Any]:
    return _element("PN", {"Alphabetic": name})


def patient_of(number: int) -> int:
    """Return the patient of a study; one patient's studies lie years apart."""
    return number // _STUDIES_A_BLOCK * _PATIENTS_A_BLOCK + number % _PATIENTS_A_BLOCK


def study_uid(number: int) -> str:
    return f"{ROOT}.{10_000_000 + number}"


def _patient(number: int) -> dict[str, Any]:
    chance = random.Random(f"patient {number}")
    name = f"{family_name(_skewed(chance, 14_000))}^{_GIVEN[_skewed(chance, len(_GIVEN))]}"
    born = date(1930, 1, 1) + timedelta(days=chance.randrange(33_000))
    return {
        "00100010": _person(name),
        "00100020": _element("LO", f"P{1_000_000 + number}"),
        "00100030": _element("DA", f"{born:%Y%m%d}"),
        "00100040": _element("CS", chance.choice("MF")),
    }


def _study(number: int, chance: random.Random) -> dict[str, Any]:
    modality, sop_class, _ = _WHEEL[chance.randrange(100)]
    part = _PARTS[_skewed(chance, len(_PARTS))]
    day = _LAST_DAY - timedelta(days=_skewed(chance, _DAYS))
    maker, models = _MAKERS[_skewed(chance, len(_MAKERS))]
    model = chance.choice(models)
    device = chance.randrange(40)
    words = (
        modality,
        part,
        chance.choice(("", "W CONTRAST", "WO CONTRAST", "ROUTINE", "FOLLOW UP")),
    )
    doctor = f"{family_name(_skewed(chance, _DOCTORS))}^Dr"
    time = f"{chance.randrange(7, 20):02d}{chance.randrange(60):02d}{chance.randrange(60):02d}"
    attributes = {
        "00080005": _element("CS", "ISO_IR 192"),
        "00080016": _element("UI", sop_class),
        "00080020": _element("DA", f"{day:%Y%m%d}"),
        "00080030": _element("TM", time),
        "00080050": _element("SH", f"A{20_000_000 + number}"),
        "00080060": _element("CS", modality),
        "00080070": _element("LO", maker),
        "00080080": _element("LO", f"Hospital {chance.randrange(8)}"),
        "00080090": _person(doctor),
        "00081010": _element("SH", f"{modality}{device:02d}"),
        "00081030": _element("LO", " ".join(word for word in words if word)),
        "00081090": _element("LO", model),
        "00101010": _element("AS", f"{chance.randrange(90):03d}Y"),
        "00180015": _element("CS", part),
        "00181000": _element("LO", f"{device * 7717 % 99991:05d}"),
        "00181020": _element("LO", f"v{device % 7}.{device % 3}"),
        "0020000D": _element("UI", study_uid(number)),
        "00200010": _element("SH", f"{number}"),
        "00280002": _element("US", 1),
        "00280004": _element("CS", "MONOCHROME2"),
        "00280010": _element("US", 512),
        "00280011": _element("US", 512),
        "00280100": _element("US", 16),
        "00280101": _element("US", 12),
        "00280102": _element("US", 11),
        "00280103": _element("US", 0),
    }
    if modality in ("CT", "DX", "CR", "MG", "XA"):
        attributes["00180060"] = _element(
            "DS", chance.choice((80, 100, 110, 120, 120, 120, 140))
        )
    return dict(sorted((attributes | _patient(patient_of(number))).items()))


def _series(study: dict[str, Any], number: int, chance: random.Random) -> dict[str, Any]:
    modality = study["00080060"]["Value"][0]
    plane = chance.choice(_PLANES)
    uid = f"{study['0020000D']['Value'][0]}.{number}"
    attributes = study | {
        "00080008": _element("CS", "ORIGINAL", "PRIMARY", "AXIAL"),
        "00080018": {},
        "00080021": study["00080020"],
        "00080023": study["00080020"],
        "00080033": {},
        "00200013": {},
        "00200032": {},
        "00080031": study["00080030"],
        "0008103E": _element("LO", f"{study['00180015']['Value'][0]} {plane}"),
        "00181030": _element(
            "LO", f"{modality} {study['00180015']['Value'][0]} {chance.randrange(12)}"
        ),
        "0020000E": _element("UI", uid),
        "00200011": _element("IS", number),
        "00200052": _element("UI", f"{uid}.9"),
        "00280030": _element("DS", *[round(0.3 + 0.01 * chance.randrange(60), 2)] * 2),
    }
    if modality in ("CT", "MR", "PT"):
        attributes["00180050"] = _element("DS", chance.choice((0.6, 1, 1.25, 2, 3, 5, 5, 5)))
    if modality == "CT":
        attributes["00181210"] = _element("SH", _KERNELS[_skewed(chance, len(_KERNELS))])
    if modality == "MR":
        attributes["00180081"] = _element("DS", chance.randrange(5, 120))
    return attributes


def instances(number: int, shape: tuple[int, ...] | None = None) -> Iterator[NewInstance]:
    """Yield the instances of study ``number``, series by series, ready to be inserted.

    Parameters
    ----------
    shape
        Instances of each series; by default as the number has it.
    """
    chance = random.Random(f"study {number}")
    study = _study(number, chance)
    of_study = study_row(study)
    for position, count in enumerate(shape or _SHAPES[number % len(_SHAPES)], 1):
        attributes = dict(sorted(_series(study, position, chance).items()))
        of_series = series_row(_of_instance(attributes, 1))
        first = None
        for ordinal in range(1, count + 1):
            own = _of_instance(attributes, ordinal)
            made = _instance(own, ordinal, first)
            first = first or made
            yield NewInstance(
                study=of_study,
                series=of_series,
                instance=made,
                source=SOURCE,
                source_key=SOURCE_KEY,
                terms=terms_of(own),
            )


def _of_instance(attributes: dict[str, Any], ordinal: int) -> dict[str, Any]:
    # What varies stands in its place already: nothing has to be sorted for each instance.
    own = dict(attributes)
    own["00080018"] = _element("UI", f"{attributes['0020000E']['Value'][0]}.{ordinal}")
    own["00080033"] = _element("TM", f"{70000 + ordinal % 60:06d}")
    own["00200013"] = _element("IS", ordinal)
    own["00200032"] = _element("DS", -250, -250, ordinal * 5)
    return own


def _instance(own: dict[str, Any], ordinal: int, first: InstanceRow | None) -> InstanceRow:
    uid = own["00080018"]["Value"][0]
    metadata = compress(orjson.dumps(own))
    study, series = own["0020000D"]["Value"][0], own["0020000E"]["Value"][0]
    digest = hashlib.blake2s(uid.encode()).digest()
    key = instance_key(study, series, uid, token="0" * 15, source_key=SOURCE_KEY)
    if first is not None:
        return replace(
            first, sop_instance_uid=uid, object_key=key, digest=digest, metadata=metadata,
            instance_number=ordinal, content_time=own["00080033"]["Value"][0],
        )  # fmt: skip
    columns = instance_columns(own)
    return InstanceRow(
        sop_instance_uid=uid,
        sop_class_uid=own["00080016"]["Value"][0],
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        instance_number=columns.instance_number,
        content_date=columns.content_date,
        content_time=columns.content_time,
        acquisition_date=columns.acquisition_date,
        acquisition_number=columns.acquisition_number,
        rows=columns.rows,
        columns=columns.columns,
        bits_allocated=columns.bits_allocated,
        number_of_frames=columns.number_of_frames,
        object_key=key,
        size_bytes=526_000,
        dataset_offset=1000,
        digest=digest,
        received_at=datetime(2026, 1, 1, tzinfo=UTC),
        warnings=0,
        metadata=metadata,
        bulk=b"",
        frames=b"",
    )

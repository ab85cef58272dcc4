"""What kind a SOP class is of."""

from typing import Final

from pydicom._uid_dict import UID_dictionary

_STANDARD_ROOT: Final = "1.2.840.10008."
_STORAGE_ROOT: Final = "1.2.840.10008.5.1.4.1.1."
# Classes whose names speak of storage and that are none of the Storage Service Class.
_NOT_STORAGE: Final = ("Commitment", "Management", "Media Storage")
# Non-Patient Object Storage (PS3.4 Annex GG): of no study, by which this archive files.
NON_PATIENT: Final = frozenset(
    _STANDARD_ROOT + arc
    for arc in (
        "5.1.4.1.1.200.1",
        "5.1.4.1.1.200.3",
        "5.1.4.1.1.200.7",
        "5.1.4.1.1.201.1",
        "5.1.4.38.1",
        "5.1.4.39.1",
        "5.1.4.43.1",
        "5.1.4.44.1",
        "5.1.4.45.1",
    )
)
# Private classes that are commands to DCMTK and models of dcm4che's queries.
_PRIVATE_SERVICES: Final = (
    "1.2.276.0.7230010.3.4.1915765545.18030.917282194.0",
    "1.2.40.0.13.1.5.1.4.1.2.",
)


def is_storage(sop_class_uid: str) -> bool:
    """Tell whether a class is taken for one of storage (PS3.4 §B.5): private, or named so.

    A standard class that this edition's dictionary does not know is one by its root.
    """
    if not sop_class_uid.startswith(_STANDARD_ROOT):
        return not sop_class_uid.startswith(_PRIVATE_SERVICES)
    if sop_class_uid in NON_PATIENT:
        return False
    known = UID_dictionary.get(sop_class_uid)
    if known is None or not known[0]:  # of two retired ones the dictionary has no name
        return sop_class_uid.startswith(_STORAGE_ROOT)
    name, kind = known[0], known[1]
    return (
        kind == "SOP Class" and "Storage" in name and not any(w in name for w in _NOT_STORAGE)
    )

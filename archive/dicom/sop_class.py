"""What kind a SOP class is of."""

from typing import Final

from pydicom._uid_dict import UID_dictionary

_STANDARD_ROOT: Final = "1.2.840.10008."
_STORAGE_ROOT: Final = "1.2.840.10008.5.1.4.1.1."
# Classes whose names speak of storage and that are none of the Storage Service Class.
_NOT_STORAGE: Final = ("Commitment", "Management", "Media Storage")


def is_storage(sop_class_uid: str) -> bool:
    """Tell whether a class is taken for one of storage (PS3.4 §B.5): private, or named so.

    A standard class that this edition's dictionary does not know is one by its root.
    """
    if not sop_class_uid.startswith(_STANDARD_ROOT):
        return True
    known = UID_dictionary.get(sop_class_uid)
    if known is None:
        return sop_class_uid.startswith(_STORAGE_ROOT)
    name, kind = known[0], known[1]
    return (
        kind == "SOP Class" and "Storage" in name and not any(w in name for w in _NOT_STORAGE)
    )

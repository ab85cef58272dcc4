"""What can go wrong in persistence; drivers' own errors end here."""


class StorageError(Exception):
    """The base of every storage failure."""


class ObjectMissingError(StorageError):
    """No object lies under that key."""


class NoSpaceError(StorageError):
    """The volume is full, or so nearly full that nothing more is written."""


class IndexBusyError(StorageError):
    """The index was locked for longer than it may be waited for."""


class IndexUnavailableError(StorageError):
    """The index does not answer."""


class IndexInDoubtError(IndexUnavailableError):
    """The connection was lost while a transaction was committed: it may have been, or not."""


class ObjectUnreadableError(StorageError):
    """The bytes are there but cannot be read."""


class StoreUnavailableError(ObjectUnreadableError):
    """Nothing can be read at this moment: that says nothing about the object."""

"""A storage commitment SCU made of pynetdicom: asks, and listens for reports."""

import contextlib
import threading

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

from tests.conftest import wait_until

PUSH, INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"


class Reports:
    """The reports that an SCU got, each with the association it came on."""

    def __init__(self, status=0x0000):
        self.status = status
        self.got = []
        self._arrived = threading.Condition()

    def take(self, event):
        with self._arrived:
            self.got.append((event.request.EventTypeID, event.event_information, event.assoc))
            self._arrived.notify_all()
        return self.status, None

    @property
    def handlers(self):
        return [(evt.EVT_N_EVENT_REPORT, self.take)]

    def wait(self, count=1, timeout_s=30):
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.got) >= count, timeout_s), self.got
        return self.got[count - 1][:2]


def references(*pairs):
    items = []
    for sop_class, sop_instance in pairs:
        item = Dataset()
        item.ReferencedSOPClassUID = sop_class
        item.ReferencedSOPInstanceUID = sop_instance
        items.append(item)
    return Sequence(items)


def information(*pairs, uid=None):
    asked = Dataset()
    asked.TransactionUID = uid or generate_uid()
    asked.ReferencedSOPSequence = references(*pairs)
    return asked


def associate(port, *more, reports=None, calling="MODALITY", push=True, handlers=(), roles=()):
    contexts = [build_context(*one) for one in more]
    if push:
        contexts.append(build_context(PUSH, [ExplicitVRLittleEndian]))
    entity = AE(calling)
    entity.dimse_timeout = 30
    association = entity.associate(
        "127.0.0.1",
        port,
        contexts=contexts,
        ae_title="FILEROOM",
        ext_neg=list(roles),
        evt_handlers=[*(reports.handlers if reports else []), *handlers],
    )
    assert association.is_established
    return association


def ask(association, asked, action=1, sop_class=PUSH, instance=INSTANCE, **more):
    status, _ = association.send_n_action(asked, action, sop_class, instance, **more)
    return status


@contextlib.contextmanager
def listening(port, reports, *, title="MODALITY", role=True):
    """An SCU that listens, and lets who calls be the SCP, or does not, or does not say."""
    entity = AE(title)
    if role is None:
        entity.add_supported_context(PUSH)
    else:
        entity.add_supported_context(PUSH, scu_role=not role, scp_role=role)
    server = entity.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=reports.handlers
    )
    try:
        yield server
    finally:
        server.shutdown()


def listed(archive, uid=""):
    from archive.auth.principal import OPERATOR

    return archive.commitments.requests(OPERATOR, transaction_uid=uid)


def wait_for_state(archive, uid, state):
    def there():
        found = [one for one in listed(archive, uid) if one.state == state]
        return found[0] if found else None

    return wait_until(there, 30, f"state {state}")

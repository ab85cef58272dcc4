"""SIGKILL at any moment loses nothing acknowledged and leaves nothing half visible."""

import gc
import random
import threading
import warnings

import httpx
import pydicom
import pytest
from pynetdicom import AE
from pynetdicom.presentation import build_context

from archive.assembly import open_archive, prepare
from archive.auth.principal import OPERATOR
from archive.query.request import Level, SearchRequest
from tests.conftest import Served, make_config, wheel_file

pytestmark = [pytest.mark.endtoend, pytest.mark.xdist_group("endtoend")]

_ROUNDS = 5


class Sender(threading.Thread):
    """Sends instances without end, and remembers which were acknowledged."""

    def __init__(self, server: Served, number: int, stopping: threading.Event) -> None:
        super().__init__()
        self.server, self.number, self.stopping = server, number, stopping
        self.acknowledged: dict[str, str] = {}
        self.count = 0

    def next_dataset(self) -> pydicom.Dataset:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(wheel_file("CT_small.dcm"))
        self.count += 1
        dataset.StudyInstanceUID = f"2.25.{self.number}"
        dataset.SeriesInstanceUID = f"2.25.{self.number}.{self.count // 20}"
        dataset.SOPInstanceUID = f"2.25.{self.number}.0.{self.count}"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.InstanceNumber = self.count
        return dataset

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                self.send_some()
            except (OSError, RuntimeError, ValueError, AttributeError, httpx.HTTPError):
                self.stopping.wait(0.05)  # the server was killed: try again

    def send_some(self) -> None:
        raise NotImplementedError


class DimseSender(Sender):
    def send_some(self) -> None:
        dataset = self.next_dataset()
        context = build_context(dataset.SOPClassUID, [dataset.file_meta.TransferSyntaxUID])
        association = AE(f"SENDER{self.number}").associate(
            "127.0.0.1", self.server.dicom_port, [context], ae_title="FILEROOM"
        )
        if not association.is_established:
            self.stopping.wait(0.05)
            return
        while not self.stopping.is_set():
            status = association.send_c_store(dataset)
            if not status:
                return
            if status.Status == 0:
                self.acknowledged[dataset.SOPInstanceUID] = dataset.StudyInstanceUID
            dataset = self.next_dataset()
        association.release()


class StowSender(Sender):
    def send_some(self) -> None:
        import io

        output = io.BytesIO()
        dataset = self.next_dataset()
        dataset.save_as(output)
        response = httpx.post(
            f"{self.server.url}/dicom-web/studies",
            content=output.getvalue(),
            headers={"Content-Type": "application/dicom"},
            timeout=20,
        )
        if response.status_code == 200:
            self.acknowledged[dataset.SOPInstanceUID] = dataset.StudyInstanceUID


# pynetdicom's own sender leaves sockets to the garbage collector when its peer is killed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_everything_acknowledged_survives_being_killed_again_and_again(tmp_path):
    server = Served(tmp_path / "data")
    stopping = threading.Event()
    senders = [kind(server, n, stopping) for n, kind in enumerate(
        (DimseSender, DimseSender, StowSender, StowSender), start=1)]  # fmt: skip
    moments = random.Random(7)
    try:
        for round_ in range(_ROUNDS):
            server.start()
            if round_ == 0:
                for sender in senders:
                    sender.start()
            threading.Event().wait(moments.uniform(0.4, 1.6))
            server.kill()
    finally:
        stopping.set()
        for sender in senders:
            sender.join()
    acknowledged = {uid for sender in senders for uid in sender.acknowledged}
    assert len(acknowledged) > 20, "the senders stored too little to prove anything"
    _assert_whole(tmp_path / "data", acknowledged)
    gc.collect()  # here, and not in a test that is not told to expect what it finds


def _assert_whole(data_dir, acknowledged: set[str]) -> None:
    config = make_config(data_dir)
    prepare(config)  # migrates, and sweeps what the killed processes left
    with open_archive(config) as archive:
        matches = list(archive.query.search(OPERATOR, SearchRequest(Level.INSTANCE)))
        visible = {match["00080018"]["Value"][0] for match in matches}
        assert acknowledged <= visible
        report = archive.verifier.verify(grace_s=0)
        assert (report.lost, report.corrupt, report.orphans) == ([], [], [])
        totals = archive.changes.totals(OPERATOR)
        assert totals.instances == len(visible) == report.objects
        changes = archive.changes.since(OPERATOR, 0, limit=100_000)
        assert [change.sequence for change in changes] == list(range(1, len(changes) + 1))
    assert list((data_dir / "incoming").iterdir()) == []
    assert not list((data_dir / "objects").rglob("*.part"))

"""A node takes no calls before it can serve them, and none once it is told to end.

Whoever is refused at once calls another node (PS3.8 §9.1.4 leaves it to the caller); who is
taken by the kernel, and not by the archive, waits for they know not what.
"""

import signal
import socket
import threading

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from storage.index.migrate import _LOCK
from tests.conftest import Served, new_database, wait_until

pytestmark = [pytest.mark.endtoend, pytest.mark.xdist_group("endtoend")]


def takes_calls(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=20):
            return True
    except ConnectionRefusedError:
        return False


def test_no_calls_while_another_node_makes_the_tables(postgres_cluster, tmp_path):
    import psycopg

    url = new_database(postgres_cluster)
    server = Served(tmp_path / "data", FILEROOM_INDEX__URL=url)
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        starting = threading.Thread(target=server.start)
        starting.start()
        asking = (
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_try_advisory_lock%'"
        )
        wait_until(lambda: other.execute(asking).fetchone()[0] > 1, 60, "it to ask")
        assert not takes_calls(server.http_port)
        assert not takes_calls(server.dicom_port)
        other.execute("SELECT pg_advisory_unlock(%s)", [_LOCK])
        starting.join()
    assert takes_calls(server.http_port)
    assert takes_calls(server.dicom_port)
    assert server.stop() == 0


def test_no_calls_while_the_last_association_goes_on(tmp_path):
    server = Served(tmp_path / "data")
    server.start()
    scu = AE()
    scu.add_requested_context(Verification)
    association = scu.associate("127.0.0.1", server.dicom_port, ae_title="FILEROOM")
    assert association.is_established
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not takes_calls(server.http_port), what="HTTP calls to be refused")
    wait_until(lambda: not takes_calls(server.dicom_port), what="DICOM calls to be refused")
    assert association.send_c_echo().Status == 0
    association.release()
    server.process.communicate(timeout=60)
    server.log.close()
    assert server.process.returncode == 0
    log = (server.data_dir / "serve.log").read_text()
    assert '"level":"ERROR"' not in log
    assert "Traceback" not in log

"""`python -m benchmarks.sending [--scale N]`: what C-MOVE and C-GET cost the server.

DCMTK's programs receive, and throw away what they receive: `storescp` and `getscu`, both with
``--ignore``. Figures are the CPU of all processes of the server for each instance.
"""

import argparse
import json
import os
import subprocess
from functools import partial

from benchmarks.harness import (
    Row,
    Server,
    c_store,
    ct_template,
    environment,
    free_port,
    in_processes,
    instance,
    measured,
    served,
)

# Without it each answer of DCMTK waits for our acknowledgement.
_QUICK = os.environ | {"TCP_NODELAY": "1"}


def run(*command: str) -> None:
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=_QUICK)
    if ended.returncode or "(Success)" not in ended.stdout + ended.stderr:
        raise RuntimeError(f"{command[0]}: {ended.stdout}{ended.stderr}")


def getscu(server: Server, study: str) -> None:
    run("getscu", "-v", "-S", "--ignore", "-aec", "FILEROOM", "-k", "QueryRetrieveLevel=STUDY",
        "-k", f"StudyInstanceUID={study}", "127.0.0.1", str(server.dicom_port))  # fmt: skip


def movescu(server: Server, study: str) -> None:
    run("movescu", "-v", "-S", "-aem", "SINK", "-aec", "FILEROOM", "-k",
        "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}", "127.0.0.1",
        str(server.dicom_port))  # fmt: skip


def rows(server: Server, name: str, size: int, count: int, number: int) -> list[Row]:
    template = ct_template(size)
    items = [instance(template, number, n) for n in range(count)]
    in_processes([partial(c_store, server.dicom_port, items)])
    study = f"2.25.2{number:04d}00000.00000001"
    found = []
    for label, act in (("C-MOVE", movescu), ("C-GET", getscu)):
        act(server, study)
        found.append(
            measured(server, f"{label}, {count} of {name}", count, partial(act, server, study))
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=int, default=1)
    scale = parser.parse_args().scale
    port = free_port()
    peers = json.dumps([{"ae_title": "SINK", "host": "127.0.0.1", "port": port}])
    sink = subprocess.Popen(["storescp", "--ignore", "-aet", "SINK", str(port)], env=_QUICK)
    try:
        with served(FILEROOM_DIMSE__PEERS=peers) as server:
            table = rows(server, "529 KB", 512, 200 * scale, 1)
            table += rows(server, "39 KB", 128, 500 * scale, 2)
    finally:
        sink.terminate()
        sink.wait()
    print(environment())
    print("| what | n | a second | CPU ms each |\n|---|---|---|---|")
    print("\n".join(row.text() for row in table))


if __name__ == "__main__":
    main()

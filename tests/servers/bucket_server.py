"""What the object storage servers of the tests have in common: real ones, on loopback."""

import contextlib
import os
import socket
import subprocess
import time
import uuid
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import httpx
import obstore
from obstore.store import S3Store


class NotInstalledError(Exception):
    """The programs of a server are not here; the text says which."""


class BucketServer:
    """A server with an S3 interface, its processes ended one by one, each by its id."""

    scheme = "s3"
    access_key = ""
    secret_key = ""
    region = "us-east-1"

    def __init__(self, root: Path, port: int) -> None:
        self.root = root
        self.port = port
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What an archive must find in its environment to use this server."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "FILEROOM_STORAGE__ENDPOINT": self.endpoint,
            "FILEROOM_STORAGE__REGION": self.region,
            "FILEROOM_STORAGE__ALLOW_HTTP": "true",
        }

    def start(self) -> None:
        raise NotImplementedError

    def make_bucket(self, name: str | None = None) -> str:
        """Make a bucket; return its name."""
        name = name or f"test-{uuid.uuid4().hex[:12]}"
        url = obstore.sign(self.client(name), "PUT", "", timedelta(seconds=60))
        httpx.put(url, timeout=30).raise_for_status()
        # A server may go on for a while to say what it said before there was one.
        end, listed = (
            time.monotonic() + 30,
            obstore.sign(self.client(name), "GET", "", timedelta(seconds=60)),
        )
        while httpx.get(listed, timeout=30).is_error and time.monotonic() < end:
            time.sleep(0.1)
        return name

    def client(self, bucket: str, **options: object) -> S3Store:
        """obstore, speaking to a bucket of this server."""
        return S3Store(
            bucket,
            endpoint=self.endpoint,
            access_key_id=self.access_key,
            secret_access_key=self.secret_key,
            region=self.region,
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
            **options,
        )

    def stop(self) -> None:
        """End what was started, the last first."""
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def run(self, *command: str | Path, **environment: str) -> str:
        """Run a program to its end; return what it said."""
        ended = subprocess.run(
            command,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        if ended.returncode:
            raise RuntimeError(f"{command[0]} failed: {ended.stderr[-2000:]}")
        return ended.stdout

    def spawn(self, name: str, *command: str | Path, **environment: str) -> None:
        """Start a program that stays; what it says goes to a file of its name."""
        with (self.root / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._processes.append(process)

    def wait_for(self, ports: Sequence[int], timeout_s: float = 90) -> None:
        """Wait until somebody listens on all of ``ports``."""
        end = time.monotonic() + timeout_s
        waiting = list(ports)
        while waiting and time.monotonic() < end:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", waiting[0]), timeout=1),
            ):
                waiting.pop(0)
                continue
            for process in self._processes:
                if process.poll() is not None:
                    raise RuntimeError(f"{process.args} ended: {self.logs()}")
            time.sleep(0.1)
        if waiting:
            raise RuntimeError(f"nobody listens on {waiting}: {self.logs()}")

    def logs(self) -> str:
        """The ends of what was said."""
        return "\n".join(
            f"{log.name}: {log.read_text(errors='replace')[-1500:]}"
            for log in self.root.glob("*.log")
        )

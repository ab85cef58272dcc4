"""Every line is one JSON object, whatever is logged."""

import json
import logging
import subprocess
import sys

import pytest

from archive.log import JsonFormatter
from tests.conftest import REPOSITORY


def line_of(**extra) -> dict:
    record = logging.makeLogRecord({"msg": "a.thing", "levelname": "INFO"} | extra)
    text = JsonFormatter().format(record)
    assert "\n" not in text
    return json.loads(text)


def test_fields_stand_beside_the_event():
    line = line_of(sop_instance_uid="1.2", duration_ms=3)
    assert (line["event"], line["sop_instance_uid"], line["duration_ms"]) == (
        "a.thing",
        "1.2",
        3,
    )


@pytest.mark.parametrize("value", ["\ud800", 1 << 70, {1: "one"}, b"\xff", {"a set"}])
def test_what_json_cannot_hold_still_makes_a_line(value):
    assert line_of(value=value)["event"].strip("'") == "a.thing"


_PROGRAM = """
import threading, warnings
from archive.log import configure_logging
configure_logging("INFO")
warnings.warn("a word", UserWarning)
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
raise RuntimeError("nobody caught this")
"""


def test_warnings_and_uncaught_exceptions_of_any_thread_become_lines():
    ended = subprocess.run(
        [sys.executable, "-W", "default", "-c", _PROGRAM],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    assert ended.returncode == 1
    warning, in_thread, uncaught = (json.loads(line) for line in ended.stderr.splitlines())
    assert warning["event"] == "python.warned"
    assert "a word" in warning["text"]
    assert in_thread["event"] == "thread.failed"
    assert "ZeroDivisionError" in in_thread["trace"]
    assert uncaught["event"] == "process.failed"
    assert "nobody caught this" in uncaught["trace"]

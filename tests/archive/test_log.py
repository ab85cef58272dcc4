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


_BOTH_WAYS = """
import logging, sys
from archive.log import configure_logging, get_logger, log_info
configure_logging("INFO")
logger = get_logger("a.room")
logging.getLogger("a.quiet").setLevel("WARNING")
for fields in {fields!r}:
    log_info(logger, "a.thing", fields)
    logger.info("a.thing", extra=fields)
log_info(get_logger("a.quiet"), "unheard", {{}})
seen = []
watching = logging.Handler()
watching.emit = seen.append
logging.getLogger("a").addHandler(watching)
log_info(logger, "a.thing", {{"status": 1}})
assert [record.status for record in seen] == [1]
"""


def test_a_line_without_a_record_is_the_one_that_a_record_makes():
    fields = [
        {"route": "/a/{b}", "status": 200, "duration_ms": 0.25, "name_of": 'Ä"\n'},
        {"value": 1 << 70},
        {"value": "\ud800"},
        {"value": {1: "one"}},
        {"value": b"bytes"},
    ]
    ended = subprocess.run(
        [sys.executable, "-c", _BOTH_WAYS.format(fields=fields)],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
    )
    lines = ended.stderr.splitlines()
    assert len(lines) == 2 * len(fields) + 1
    for short, long in zip(lines[::2], lines[1::2], strict=False):
        first, second = list(json.loads(short).items()), list(json.loads(long).items())
        assert first[0][0] == second[0][0] == "time"
        assert len(first[0][1]) == len(second[0][1])
        assert first[1:] == second[1:]

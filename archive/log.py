"""Logs: one JSON object a line, a fixed event name, fields that never name a patient."""

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from functools import lru_cache
from types import TracebackType
from typing import Any, Final

import orjson

# What every LogRecord has by itself; the rest is what `extra` brought.
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

_WARNINGS: Final = "py.warnings"


def get_logger(name: str) -> logging.Logger:
    """Return the logger of a module: ``logger.info("instance.stored", extra={...})``."""
    return logging.getLogger(name)


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": f"{_second(int(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "event": record.getMessage(),
            "logger": record.name,
            "pid": record.process,
        }
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.name == _WARNINGS:  # their text is free, and events have fixed names
            line |= {"event": "python.warned", "text": line["event"].strip()}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        try:
            return _encode(line)
        except TypeError:
            # What peers send may hold what JSON cannot: half a surrogate pair, a huge number.
            return _encode({key: ascii(value) for key, value in line.items()})


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _encode(line: dict[str, Any]) -> str:
    return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


class LineHandler(logging.StreamHandler[Any]):
    """Writes lines to standard error, of records and of what needs none."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(JsonFormatter())

    def write(self, line: bytes) -> None:
        """Write one line, behind those before it."""
        with self.lock or contextlib.nullcontext():
            self.stream.buffer.write(line)
            self.stream.buffer.flush()


def log_info(logger: logging.Logger, event: str, fields: Mapping[str, Any]) -> None:
    """Log ``event`` with ``fields``, as ``logger.info(event, extra=fields)`` does.

    A record costs more than the line that is made of it. Where nothing would look at it but
    the handler of this module, there is none.
    """
    if not logger.isEnabledFor(logging.INFO):
        return
    handler = _only_handler(logger)
    if handler is not None:
        now = time.time()
        seconds = int(now)
        line = {
            "time": f"{_second(seconds)}.{int((now - seconds) * 1000):03d}Z",
            "level": "INFO",
            "event": event,
            "logger": logger.name,
            "pid": os.getpid(),
            **fields,
        }
        # Whatever is in the way of it, the long way has an answer to.
        with contextlib.suppress(TypeError, AttributeError, ValueError, OSError):
            handler.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
            return
    logger.info(event, extra=dict(fields))


def _only_handler(logger: logging.Logger) -> LineHandler | None:
    """Return the handler of this module, where a record of ``logger`` reaches it alone."""
    handlers: list[logging.Handler] = []
    above: logging.Logger | None = logger
    while above is not None:
        if above.filters or above.disabled or not (above.propagate or above.parent is None):
            return None
        handlers += above.handlers
        above = above.parent
    if len(handlers) != 1 or not isinstance(handlers[0], LineHandler):
        return None
    return None if handlers[0].filters or handlers[0].level > logging.INFO else handlers[0]


def configure_logging(level: str) -> None:
    """Send every log line of this process to standard error as JSON.

    Warnings, and exceptions that nobody caught, in any thread, become lines too.
    """
    # No line says which thread or line of code it came from: to find that out costs more than
    # the rest of the record.
    logging.logThreads = logging.logMultiprocessing = False
    logging._srcfile = None  # noqa: SLF001 - as its manual says
    logging.basicConfig(level=level, handlers=[LineHandler()], force=True)
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread
    # Their own INFO lines tell of every PDU and may hold identifiers of patients.
    for noisy in ("pynetdicom", "pydicom", "uvicorn", "alembic"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level)))


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    get_logger(__name__).critical("process.failed", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(failure: threading.ExceptHookArgs) -> None:
    if failure.exc_value is None or issubclass(failure.exc_type, SystemExit):
        return
    get_logger(__name__).error(
        "thread.failed",
        exc_info=(failure.exc_type, failure.exc_value, failure.exc_traceback),
        extra={"failed_thread": failure.thread.name if failure.thread else ""},
    )

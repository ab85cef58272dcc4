"""Logs: one JSON object a line, a fixed event name, fields that never name a patient."""

import logging
import sys
import threading
import time
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
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
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


def _encode(line: dict[str, Any]) -> str:
    return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def configure_logging(level: str) -> None:
    """Send every log line of this process to standard error as JSON.

    Warnings, and exceptions that nobody caught, in any thread, become lines too.
    """
    # No line says which thread or line of code it came from: to find that out costs more than
    # the rest of the record.
    logging.logThreads = logging.logMultiprocessing = False
    logging._srcfile = None  # noqa: SLF001 - as its manual says
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
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

"""Structured logs with the field names of llm-d's (zap): one JSON object a line on stderr.

Levels: `--v 2` and below show info, warnings and errors; 3 adds one line a request (llm-d writes three already at 2),
4 debugging, 5 everything. Extra fields are given as `log.info("…", extra={"x-request-id": id})`. Nothing is formatted
unless it is written: the standard library asks the level first.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

VERBOSE = 15
TRACE = 5
TIME_ENCODINGS = ("epoch", "millis", "nano", "iso8601", "rfc3339", "rfc3339nano")

_BY_VERBOSITY = {3: VERBOSE, 4: logging.DEBUG, 5: TRACE}
_BY_NAME = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "panic": logging.CRITICAL,
}
_SHOWN = {
    logging.CRITICAL: "panic",
    logging.ERROR: "error",
    logging.WARNING: "warn",
    logging.INFO: "info",
    VERBOSE: "info",
    logging.DEBUG: "debug",
    TRACE: "trace",
}
_OWN_FIELDS = frozenset((*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"))


def parse_log_level(verbosity: int = 2, level: str = "") -> int:
    """The standard library's level for `--v` and `--zap-log-level`, which goes first if set."""
    name = level.lower()
    if name in _BY_NAME:
        return _BY_NAME[name]
    if name:
        if not name.isdecimal():
            raise ValueError(f"log level {level!r}: use {', '.join(_BY_NAME)} or a number")
        verbosity = int(name)
    return _BY_VERBOSITY.get(min(verbosity, 5), logging.INFO)


def configure_logging(
    *,
    verbosity: int = 2,
    level: str = "",
    encoder: str = "json",
    devel: bool = False,
    time_encoding: str = "rfc3339",
    stream: TextIO | None = None,
    logger: logging.Logger | None = None,
) -> logging.Handler:
    """Sends what `logger` (default: the root) and those below it say to `stream` (default: stderr).

    `devel` means console lines and debugging, unless encoder or level say otherwise.
    """
    target = logging.getLogger() if logger is None else logger
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    console = encoder == "console" or devel
    handler.setFormatter(ConsoleFormatter(time_encoding) if console else JsonFormatter(time_encoding))
    for old in target.handlers[:]:
        target.removeHandler(old)
    target.addHandler(handler)
    target.setLevel(parse_log_level(max(verbosity, 4) if devel else verbosity, level))
    return handler


class JsonFormatter(logging.Formatter):
    """`{"level", "ts", "logger", "caller", "msg", …extra fields…, "error", "stacktrace"}`."""

    def __init__(self, time_encoding: str = "rfc3339") -> None:
        super().__init__()
        self._time_encoding = time_encoding

    def extra_fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """The extra fields of a record, and its exception."""
        given = {name: value for name, value in vars(record).items() if name not in _OWN_FIELDS}
        if record.exc_info and record.exc_info[1] is not None:
            given["error"] = str(record.exc_info[1]) or type(record.exc_info[1]).__name__
            given["stacktrace"] = self.formatException(record.exc_info)
        return given

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "level": zap_level_name(record.levelno),
            "ts": format_timestamp(record.created, self._time_encoding),
            "logger": record.name,
            "caller": f"{record.module}.py:{record.lineno}",
            "msg": record.getMessage(),
            **self.extra_fields(record),
        }
        return encode_json_line(line)


class ConsoleFormatter(JsonFormatter):
    """Tab separated: time, level, logger, message, extra fields as JSON; tracebacks below."""

    def format(self, record: logging.LogRecord) -> str:
        given = self.extra_fields(record)
        trace = given.pop("stacktrace", "")
        parts = [
            str(format_timestamp(record.created, self._time_encoding)),
            zap_level_name(record.levelno).upper(),
            record.name,
            record.getMessage(),
        ]
        if given:
            parts.append(encode_json_line(given))
        return "\t".join(parts) + (f"\n{trace}" if trace else "")


def zap_level_name(number: int) -> str:
    """zap's name of a level; those in between take the name below."""
    return _SHOWN.get(number) or next((name for level, name in _SHOWN.items() if level <= number), "trace")


def encode_json_line(line: dict[str, Any]) -> str:
    """JSON; what JSON has no form for is shown as text."""
    try:
        return msgspec.json.encode(line, enc_hook=str).decode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate: bytes of a client that were no UTF-8
        return json.dumps(line, default=str)


def format_timestamp(seconds: float, encoding: str) -> str | float:
    """A wall-clock time in one of zap's encodings."""
    if encoding == "epoch":
        return seconds
    if encoding == "millis":
        return seconds * 1e3
    if encoding == "nano":
        return float(int(seconds * 1e9))
    moment = datetime.fromtimestamp(seconds, UTC)
    if encoding == "iso8601":
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if encoding == "rfc3339nano":
        return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
